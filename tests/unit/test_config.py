"""YAML documents: the line of whatever is wrong, keys that stand twice, and plain data otherwise."""

from pathlib import Path

import pytest

from shared.config import load_document, read_written
from shared.contracts.scaling_rules import ScalingRules
from shared.contracts.scenario import Scenario
from shared.contracts.suite import Suite
from shared.errors import ConfigError

SCENARIO = """\
name: browse
system: shop
steps:
  - action: look
    system: shop
    path: /look
    timeout: 0s
  - {action: buy, system: shop,
     path: /buy, methd: POST}
"""


def refusal(path: Path, text: str, kind: type = Scenario) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_document(kind, path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_each_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "browse.yaml"
    said = refusal(path, SCENARIO)
    assert said.startswith(f"{path}:7: steps.0.timeout: Input should be greater than 0")
    assert "; line 9: steps.1.methd: unknown field (got 'POST')" in said


def test_what_is_not_there_is_told_with_the_line_of_what_should_hold_it(tmp_path: Path) -> None:
    said = refusal(tmp_path / "a.yaml", "name: a\nsystem: shop\nsteps:\n  - {action: look}\n")
    assert ":4: steps.0.system: Field required" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("name: a\nusers: 3\nname: b\n", ":3: key 'name' stands on line 1 already", id="on its own line"),
        pytest.param("steps: [{action: a, action: b}]\n", ":1: key 'action' stands on line 1 already", id="same line"),
        pytest.param("a: &x {b: 1}\nc:\n  - {<<: *x, d: 1,\n     d: 2}\n", ":4: key 'd' stands on line 3", id="merged"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path / "twice.yaml", text)


def test_what_is_merged_may_be_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &x\n  a: 1\n  b: 2\nown:\n  <<: *x\n  b: 3\n")
    written = read_written(path)
    assert written.data["own"] == {"a": 1, "b": 3}
    assert (written.line(("own", "a")), written.line(("own", "b")), written.line(("own", "c"))) == (2, 6, 4)


def test_aliases_within_aliases_are_not_unfolded(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "laughs.yaml"
    path.write_text("\n".join(["l0: &l0 [x]", *levels]))
    line = read_written(path).line(("l11", 8, 0))
    assert line == 10, "where it is written, not where it is used"


@pytest.mark.parametrize("text", ["at: 2026-13-01\n", "x: !!int hello\n"])
def test_a_value_that_there_is_not_is_one_line(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path / "odd.yaml", text).startswith(str(tmp_path / "odd.yaml"))


@pytest.mark.parametrize("text", ["", "- 1\n", "just text\n"])
def test_a_document_of_another_shape_is_one_line(tmp_path: Path, text: str) -> None:
    assert ":1: document: " in refusal(tmp_path / "odd.yaml", text)


def test_suites_and_scaling_rules_tell_lines_too(tmp_path: Path) -> None:
    said = refusal(tmp_path / "s.yaml", "name: s\nruns:\n  - {scenario: a}\n  - {scenario: b, user: 3}\n", Suite)
    assert ":4: runs.1.user: unknown field" in said
    rules = "services:\n  relaycore:\n    system: relaycore\n    min: 1\n    max: zwei\n"
    assert ":5: services.relaycore.max: " in refusal(tmp_path / "r.yaml", rules, ScalingRules)
