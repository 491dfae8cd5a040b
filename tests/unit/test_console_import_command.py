"""``tidegate import`` at the command line: what it writes, and that a mistake is one line."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from services.console.cli import main
from shared.config import parse
from shared.contracts.scenario import Scenario
from tests.unit.imported import SESSION, SHOP


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["import", *arguments], prog_name="tidegate")


def test_the_command_writes_a_file_and_never_over_one(tmp_path: Path) -> None:
    document, out = tmp_path / "session.har", tmp_path / "checkout.yaml"
    document.write_text("\ufeff" + json.dumps(SESSION))
    result = call(str(document), "--host", "api.shop.example.com", "--system", "shop", "--out", str(out))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "5 steps, 3 left out" in result.stdout
    assert parse(Scenario, yaml.safe_load(out.read_text()), "out").name == "checkout"
    before = out.read_text()
    again = call(str(document), "--out", str(out))
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists; name another file, or overwrite it with --force" in again.stderr
    assert out.read_text() == before
    assert call(str(document), "--out", str(out), "--force", "--name", "other").exit_code == 0
    assert yaml.safe_load(out.read_text())["name"] == "other"


def test_the_command_prints_yaml_alone(tmp_path: Path) -> None:
    document = tmp_path / "shop.yaml"
    document.write_text(SHOP)
    result = call(str(document), "--operation", "createThing", "--operation", "getThing")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [step["action"] for step in yaml.safe_load(result.stdout)["steps"]] == ["createThing", "getThing"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.har"], "none.har: No such file"),
        (["shop.yaml", "--host", "a"], "--host: is for a HAR log"),
        (
            ["shop.yaml", "--operation", "getThin"],
            "--operation: 'getThin' is not in shop.yaml (did you mean 'getThing'?)",
        ),
        (["shop.yaml", "--from", "har"], "shop.yaml: log: missing"),
        (["shop.yaml", "--name", "a b"], "--name: 'a b' is no name"),
        (["shop.yaml", "--system", "A"], "--system: 'A' is no system"),
        (["shop.yaml", "--out", "no/such.yaml"], "does not exist"),
        (["shop.yaml", "--out", "."], "is a folder"),
        (["session.har", "--operation", "a"], "--operation: is for an OpenAPI document"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "session.har").write_text(json.dumps(SESSION))
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
