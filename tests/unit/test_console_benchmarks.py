"""``tidegate benchmarks``: what holds in an environment, the line of each value, and mistakes with code 2."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.console.cli import main
from tests.unit.test_benchmarks_file import DOCUMENT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "benchmarks.yaml"
    path.write_text(DOCUMENT)
    return path


def test_the_shipped_benchmarks_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_ENVIRONMENT", raising=False)
    shown = CliRunner().invoke(main, ["benchmarks"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "18 benchmarks, no mistakes" in shown.stdout
    assert "routing_latency" in shown.stdout


def test_every_value_is_shown_with_its_line(path: Path) -> None:
    shown = CliRunner().invoke(main, ["benchmarks", str(path), "--environment", "production"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    (row,) = [line for line in shown.stdout.splitlines() if "checkout_time" in line]
    assert "p95 of response_time (checkout/pay) :14" in row
    assert "300 ms :20" in row
    assert "400 ms :33" in row


def test_what_is_doubtful_is_told_and_no_mistake(path: Path) -> None:
    path.write_text(DOCUMENT.replace("- {metric: orders,", "- {metric: errors, target: 1e-5, critical: 0.1, source: "
                                     "error_rate}\n      - {metric: orders,"))  # fmt: skip
    shown = CliRunner().invoke(main, ["benchmarks", str(path)], env={"COLUMNS": "400"})
    assert shown.exit_code == 0, shown.output
    assert "doubtful: pay errors: to confirm target 1e-05 takes 299572 requests" in shown.stdout
    told = json.loads(CliRunner().invoke(main, ["benchmarks", str(path), "--json"]).stdout)
    assert len(told["doubts"]) == 1


def test_json_is_whole(path: Path) -> None:
    told = json.loads(
        CliRunner().invoke(main, ["benchmarks", str(path), "--environment", "production", "--json"]).stdout
    )
    assert told["environment"] == "production"
    (one,) = [one for one in told["benchmarks"] if (one["system"], one["metric"]) == ("shop", "error_rate")]
    assert (one["target"], one["severity"]["critical"], one["lines"]["target"]) == (0.005, "page", 34)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--environment", "prodution"], "changes nothing for 'prodution' (did you mean 'production'?)"),
        (["nowhere.yaml"], "nowhere.yaml: No such file or directory"),
    ],
)  # fmt: skip
def test_wrong_input_ends_with_code_2_and_one_line(path: Path, words: list[str], said: str) -> None:
    shown = CliRunner().invoke(main, ["benchmarks", *([str(path)] if words[0].startswith("-") else []), *words])
    assert shown.exit_code == 2
    assert shown.stderr.count("\n") == 1
    assert said in shown.stderr


def test_a_mistake_ends_with_code_2_and_its_line(path: Path) -> None:
    path.write_text(DOCUMENT.replace("target: 200 ms", "target: 200 mm"))
    shown = CliRunner().invoke(main, ["benchmarks", str(path)])
    assert shown.exit_code == 2
    assert f"{path}:12: systems.shop.benchmarks.0.target: response_time: unknown unit 'mm'" in shown.stderr
