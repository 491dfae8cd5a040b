"""`tidegate scaling replay` as people call it: what it prints and writes, and every mistake in one line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.console.cli import main
from services.scaler.simulation.traces import read_trace
from shared.errors import ConfigError

SIZED = """
services:
  relaycore: {system: relaycore, min: 2, max: 40, sizing: {concurrency: 8, start_up: 20s}}
"""


def trace(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def rates(folder: Path) -> Path:
    return trace(folder, "rate\n" + "30\n" * 60 + "120\n" * 60)


def replay(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["scaling", "replay", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_policies_are_scored_and_shown(tmp_path: Path) -> None:
    rules, page = tmp_path / "rules.yaml", tmp_path / "replay.html"
    rules.write_text(SIZED)
    every = [word for name in ("tidegate", "hpa=0.5", "knative", "step", "oracle") for word in ("--policy", name)]
    asked = [rates(tmp_path), "--rules", rules, "--service", "relaycore", *every]
    code, shown, _ = replay(*asked, "--html", page, "--json")
    assert code == 0
    scores = json.loads(shown)
    assert list(scores) == ["tidegate", "hpa=0.5", "knative", "step", "oracle"]
    assert scores["oracle"]["violation_s"] <= scores["tidegate"]["violation_s"] <= scores["step"]["violation_s"]
    assert {"under_accuracy", "over_share", "instability", "replica_hours", "flips"} <= set(scores["hpa=0.5"])
    written = page.read_text()
    assert "Plotly" in written
    assert "<script src=" not in written
    code, shown, _ = replay(*asked)
    assert code == 0
    assert "replica-hours" in shown
    assert "to the oracle" in shown


def test_the_shipped_rules_are_replayed_without_any_option(tmp_path: Path) -> None:
    code, shown, _ = replay(rates(tmp_path), "--service", "relaycore", "--service-time", "20ms", "--json")
    assert code == 0
    assert list(json.loads(shown)) == ["tidegate", "hpa", "oracle"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--service", "relaycor"], "did you mean 'relaycore'"),
        (["--service", "relaycore", "--policy", "keda"], "known are tidegate, hpa"),
        (["--service", "relaycore", "--service-time", "0s"], "--service-time 0 s must be above 0"),
        (["--service", "relaycore", "--min", "9", "--max", "3"], "min 9 is above max 3"),
        (["--service", "relaycore", "--rules", "/nowhere/rules.yaml"], "/nowhere/rules.yaml"),
        (["--service", "relaycore", "--multiply", "99999", "--service-time", "1s"], "can be replayed"),
        (["--service", "relaycore", "--start-up", "10m"], "start_up 600 s is longer than is forecast"),
        (["--service", "relaycore", "--seed", "-1", "--distribution", "exponential"], "'--seed'"),
        (["--service", "relaycore", "--html", "/nowhere/page.html"], "folder /nowhere does not exist"),
        (["--service", "relaycore", "--html", "-"], "- is no file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, words: list[str], said: str) -> None:
    code, _, error = replay(rates(tmp_path), *words)
    assert code == 2
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column of times"),
        ("a,b\n1,2\n", "trace.csv:1: no column of times"),
        ("# a comment\nTIMESTAMP\n2023-11-16 18:15:46.6805900\nyesterday\n", "trace.csv:4: 'yesterday' is neither"),
        ("seconds\n1\nnan\n", "trace.csv:3: 'nan' is no time"),
        ("a,time\n1\n", "trace.csv:2: too few columns"),
        ("rate\n-3\n", "trace.csv:2: rate '-3' must be 0 or more"),
        ("rate\nmany\n", "trace.csv:2: 'many' is no rate"),
        ("seconds\n" + "x\n" * 9, "and 4 more lines"),
        ("seconds\n", "no arrival in it"),
        ("rate\n0\n", "no arrival in it"),
        ("seconds\n0\n9999999\n", "spans 116 days"),
        ("rate\n1e12\n", "can be replayed at most"),
        ("seconds\n0\n" + "1" * 140_000 + "\n", "no CSV"),
    ],
)
def test_a_trace_that_cannot_be_read_names_its_lines(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_trace(trace(tmp_path, text))
    assert replay(trace(tmp_path, text), "--service", "relaycore")[0] == 2


@pytest.mark.parametrize("text", ["seconds\n5\n", "seconds\n0\n2\n", "rate\n10\n10\n", "seconds\n0\n9.5\n"])
def test_a_trace_of_a_few_seconds_is_replayed(tmp_path: Path, text: str) -> None:
    code, shown, _ = replay(trace(tmp_path, text), "--service", "relaycore", "--json")
    assert code == 0
    assert json.loads(shown)["oracle"]["violation_s"] == 0


def test_a_trace_that_is_not_there_or_no_text_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_trace(tmp_path / "bytes.csv")


def test_times_are_seconds_from_the_first_in_any_order_and_notation(tmp_path: Path) -> None:
    azure = "# licence\nTIMESTAMP,ContextTokens\n2023-11-16 18:15:47.1805900,3\n2023-11-16 18:15:46.6805900,374\n"
    assert read_trace(trace(tmp_path, azure)).tolist() == pytest.approx([0.0, 0.5])
    assert read_trace(trace(tmp_path, "seconds\n3\n5.5\n3\n")).tolist() == [0.0, 0.0, 2.5]
    assert read_trace(trace(tmp_path, "time\n2024-01-01T00:00:00Z\n2024-01-01T00:01:00Z\n")).tolist() == [0.0, 60.0]


def test_rates_hold_from_their_time_until_the_next(tmp_path: Path) -> None:
    arrivals = read_trace(trace(tmp_path, "seconds,rate\n0,10\n100,50\n200,0\n"))
    first, second = ((arrivals < 100).sum(), (arrivals >= 100).sum())
    assert first == pytest.approx(1000, rel=0.15)
    assert second == pytest.approx(5000, rel=0.1)
