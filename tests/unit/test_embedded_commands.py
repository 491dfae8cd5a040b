"""``tidegate up``, ``down`` and ``doctor`` as typed: what they print, and the code they end with."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.embedded import StackError, StackInfo, StackOptions
from deploy.embedded.checks import Check
from services.console.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def make_info(data: Path) -> StackInfo:
    return StackInfo(
        data=data,
        keeper_pid=7,
        environment="local",
        nats_url="nats://tidegate:hidden@127.0.0.1:4222",
        store_dsn="postgresql://tidegate:hidden@127.0.0.1:5432/tidegate",
        otlp_endpoint="http://127.0.0.1:1",
        services={},
        platform=None,
        workers=3,
        started_at=0.0,
    )


def test_up_passes_what_was_asked_and_shows_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[StackOptions] = []

    def start(options: StackOptions, on_progress: object) -> StackInfo:
        asked.append(options)
        return make_info(options.data)

    monkeypatch.setattr("services.console.commands.stack.start_stack", start)
    where = ("--data", str(tmp_path))
    shown = run("up", *where, "--workers", "3", "--no-platform", "--nats-port", "4222", "--environment", "load")
    as_json = run("up", *where, "--json")

    assert (shown.exit_code, as_json.exit_code) == (0, 0)
    assert (asked[0].workers, asked[0].platform, asked[0].nats_port, asked[0].environment) == (3, False, 4222, "load")
    assert json.loads(as_json.stdout)["nats_url"] == "nats://127.0.0.1:4222"
    assert "hidden" not in shown.output + as_json.output


def test_a_stack_error_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> StackInfo:
        raise StackError("--nats-port: port 4222 is in use")

    monkeypatch.setattr("services.console.commands.stack.start_stack", refuse)
    result = run("up")
    assert (result.exit_code, result.stderr) == (2, "error: --nats-port: port 4222 is in use\n")


def test_down_says_whether_there_was_anything_to_stop(tmp_path: Path) -> None:
    result = run("down", "--data", str(tmp_path), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"data": str(tmp_path), "stopped": False}


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 2)])
def test_doctor_ends_with_2_when_any_check_fails_and_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, ok: bool, code: int
) -> None:
    checks = [Check("python", True, "3.11"), Check("free disk", ok, "1 GiB", "" if ok else "free 2 GiB")]
    monkeypatch.setattr("deploy.embedded.checks.run_checks", lambda _: iter(checks))
    shown, as_json = run("doctor"), run("doctor", "--json")
    assert (shown.exit_code, as_json.exit_code) == (code, code)
    assert ("way out: free 2 GiB" in shown.output) is not ok
    assert json.loads(as_json.stdout)["ok"] is ok
    assert json.loads(as_json.stdout)["checks"][1]["detail"] == "1 GiB"
