"""Every mistake at the command line is one line, exit code 2, and nothing is started."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.embedded import StackError
from services.console import backing
from services.console.cli import SECTIONS, main
from services.console.json_paths import check_json_paths
from services.console.session import Outcome
from shared.contracts.run import Phase
from shared.contracts.scenario import Scenario
from shared.settings import PROJECT_ROOT

OWN = """
name: own
system: shop
steps: [{action: look, system: shop, path: /}]
"""


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What was started: nothing, in these tests. No stack is up and none of the caller's variables count."""
    started: list[str] = []
    for name in ("TIDEGATE_NATS_URL", "TIDEGATE_STORE_DSN", "TIDEGATE_ALLOWED_HOSTS", "TIDEGATE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(backing, "start_stack", lambda *_: started.append("stack"))
    yield started
    assert started == []


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="tidegate")


def assert_one_line(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("starts")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "unknown command 'rnu' (did you mean 'run'?)"),
        (["run"], "name a scenario or suite"),
        (["compare"], "name a BASE and a CANDIDATE, or a --baseline"),
        (["compare", "a", "b", "c"], "name a BASE and a CANDIDATE"),
        (["compare", "a", "b", "--baseline", "main"], "name the candidate alone"),
        (["compare", "a", "--branch", "main"], "--baseline last-good looks"),
        (["compare", "a", "--json", "--markdown"], "cannot both go to standard output"),
        (["compare", "a", "--threshold", "0"], "outside 0 to 100%"),
        (["compare", "a", "b"], "no stack is up"),
        (["history"], "no stack is up"),
        (["baseline", "set", "last"], "cannot name a baseline"),
        (["baseline", "list"], "no stack is up"),
        (["run", "cross"], "unknown scenario 'cross' (did you mean 'cross_system_integration'?)"),
        (["run", "smoke", "nope"], "unknown scenario 'nope'; known scenarios: autmatrix_workflow_execution"),
        (["run", "smoke", "--target", "relaycor=http://localhost"], "unknown system 'relaycor'"),
        (["run", "smoke", "--target", "autmatrix"], "no SYSTEM=URL"),
        (["run", "smoke", "--target", "autmatrix=http://example.com"], "'example.com' is not in the allow-list"),
        (["run", "smoke", "--target", "autmatrix=localhost:1"], "no http or https URL"),
        (["run", "smoke", "--allow-host", "http://x"], "no host name"),
        (["run", "smoke", "--duration", "5parsec"], "unknown unit 'parsec'"),
        (["run", "smoke", "--duration", "soon"], "is no duration"),
        (["run", "smoke", "--duration", "0"], "not above zero"),
        (["run", "smoke", "--ramp-up", "9s"], "--ramp-up: 9 s is longer than the duration of 8 s"),
        (["run", "smoke", "--rate", "5/y"], "unknown unit 'y'"),
        (["run", "smoke", "--rate", "-1"], "outside"),
        (["run", "smoke", "--rate", "nan"], "outside"),
        (["run", "smoke", "--users", "0"], "--users"),
        (["run", "smoke", "--users", "many"], "--users"),
        (["run", "smoke", "--profile", "square"], "'square' is not one of"),
        (["run", "smoke", "--scale", "0"], "--scale"),
        (["run", "smoke", "smoke"], "named twice"),
        (["run", "smoke", "platform"], "suite 'platform' is run by itself"),
        (["run", "platform", "--users", "3"], "--users: a suite has its own loads; scale them with --scale"),
        (["run", "platform", "--detach"], "--detach"),
        (["run", "smoke", "--detach"], "--detach needs a stack that stays up"),
        (["run", "smoke", "--html", "/none/such/r.html"], "--html"),
        (["run", "smoke", "--markdown", "/none/such/r.md"], "--markdown"),
        (["report", "--markdown", "/none/such/r.md"], "--markdown"),
        (["run", "smoke", "--bogus"], "No such option '--bogus'"),
        (["run", "none.yaml"], "none.yaml: No such file"),
        (["stop"], "name one run, or give --all"),
        (["stop", "last", "--all"], "name one run, or give --all"),
        (["load", "last"], "give --users, --rate or both"),
        (["pause", "last"], "no stack is up"),
        (["run", "smoke", "--stages", "30s:0.5,2m"], "is no DURATION:LEVEL"),
        (["run", "smoke", "--stages", "30s:5"], "outside 0 to 1"),
        (["run", "smoke", "--spacing", "poisson"], "give their --rate too"),
        (["run", "smoke", "--tag", "nightly"], "is no KEY=VALUE"),
        (["stop", "last"], "no stack is up"),
        (["runs"], "no stack is up"),
        (["runs", "--limit", "0"], "--limit"),
        (["report"], "no stack is up"),
        (["breaches"], "no stack is up"),
        (["summary"], "no stack is up"),
        (["summary", "--day", "yesterday"], "'yesterday' does not match the format '%Y-%m-%d'"),
        (["summary", "--json", "--markdown"], "choose one"),
        (["breaches", "ack"], "Missing argument 'ID'"),
        (["breaches", "ack", "b1", "--note", "two\nlines"], "write one line"),
        (["breaches", "ack", "b1", "--by", "ada"], "no stack is up"),
        (["breaches", "silense"], "No such command 'silense'"),
        (["breaches", "silence", "relaycore"], "Missing option '--for'"),
        (["breaches", "silence", "relaycore", "--for", "2h"], "Missing option '--reason'"),
        (["breaches", "silence", "relaycore", "--for", "2h", "--reason", " "], "is blank"),
        (["breaches", "silence", "relaycore", "--for", "soon", "--reason", "x"], "'soon' is no duration"),
        (["breaches", "silence", "--for", "2h", "--reason", "x"], "name a SYSTEM[/METRIC]"),
        (["breaches", "silence", "/", "--for", "2h", "--reason", "x"], "name a SYSTEM[/METRIC]"),
        (["breaches", "silence", "relaycore", "--for", "2h", "--reason", "x"], "no stack is up"),
        (["breaches", "silences"], "no stack is up"),
        (["breaches", "unsilence", "s1"], "no stack is up"),
        (["export"], "Missing argument 'RUN'"),
        (["export", "last"], "no stack is up"),
        (["export", "last", "--what", "windows,request"], "no table 'request' (did you mean 'requests'?)"),
        (["export", "last", "--format", "xlsx"], "'xlsx' is not one of"),
        (["scaling"], "no stack is up"),
        (["scaling", "wy"], "unknown command 'wy' (did you mean 'why'?); see tidegate scaling --help"),
        (["scaling", "set", "relaycore", "0", "--for", "1m", "--reason", "x"], "0 is not in the range 1<=x<=1000"),
        (["scaling", "set", "relaycore", "two", "--for", "1m", "--reason", "x"], "'two' is not a valid integer"),
        (["scaling", "set", "relaycore", "5", "--reason", "x"], "Missing option '--for'"),
        (["scaling", "set", "relaycore", "5", "--for", "1m"], "Missing option '--reason'"),
        (["scaling", "set", "relaycore", "5", "--for", "soon", "--reason", "x"], "'soon' is no duration"),
        (["scaling", "set", "relaycore", "5", "--for", "1m", "--reason", "x"], "no stack is up"),
        (["scaling", "pause", "relaycore"], "Missing option '--reason'"),
        (["scaling", "pause", "relaycore", "--reason", "x"], "no stack is up"),
        (["scaling", "resume"], "Missing argument 'SERVICE'"),
        (["scaling", "resume", "relaycore"], "no stack is up"),
        (["scaling", "verify"], "no stack is up"),
        (["scaling", "why"], "Missing argument 'SERVICE'"),
        (["scaling", "why", "relaycore"], "no stack is up"),
        (["scaling", "why", "relaycore", "--at", "9999-12-31T23:59:59-14:00"], "is still to come"),
        (["scaling", "--data", "elsewhere", "why", "relaycore"], "--data stands before 'why'; write it after"),
        (["scaling", "rederive", "relaycore-1"], "no stack is up"),
        (["scaling", "replay", "relaycore-1", "--data", "elsewhere"], "no stack is up on elsewhere"),
        (["optimize"], "no stack is up"),
        (["optimize", "--for", "31d"], "'31d' is outside 1s to 30d"),
        (["optimize", "--reason", "two\nlines"], "write one line"),
        (["optimize", "--html", "/nowhere/plan.html"], "folder /nowhere does not exist"),
        (["resources"], "no stack is up"),
        (["resources", "--html", "/nowhere/page.html"], "folder /nowhere does not exist"),
        (["service", "gener"], "'gener' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    assert_one_line(call(*arguments), said)


@pytest.mark.usefixtures("starts")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OWN, "no target for system 'shop'; give --target shop=URL"),
        (OWN + "usres: 3\n", "usres: unknown field"),
        (OWN + "duration: 3 fortnights\n", "unknown unit 'fortnights' in '3 fortnights'"),
        (OWN.replace("path: /", "path: '/${id}'"), "uses ${id}, which no earlier step captures"),
        (OWN.replace("path: /", "path: nowhere"), "steps.0.path"),
        (OWN.replace("path: /", "path: /, capture: {id: '$.['}"), "capture.id: '$.[' is no JSON path"),
        (OWN.replace("system: shop\n", "system: store\n", 1), "system 'store' is used by none of the steps"),
        ("name: [", "own.yaml:1:"),
        ("", "document"),
    ],
    ids=["target", "field", "unit", "template", "path", "json path", "system", "yaml", "empty"],
)
def test_a_mistake_in_a_scenario_names_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    assert_one_line(call("run", str(path)), said)


@pytest.mark.usefixtures("starts")
def test_an_unusable_setting_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_ALLOWED_HOSTS", "http://x")
    assert_one_line(call("run", "smoke"), "TIDEGATE_ALLOWED_HOSTS='http://x'")


@pytest.mark.usefixtures("starts")
def test_a_stack_that_is_up_elsewhere_but_silent_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("TIDEGATE_STORE_DSN", "postgresql://tidegate@127.0.0.1:1/tidegate?connect_timeout=1")
    assert_one_line(call("runs"), "the store did not answer")


@pytest.mark.parametrize("command", [("run", "smoke"), ("up",)], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("document", "right", "wrong", "said"),
    [
        (
            "benchmarks.yaml",
            "critical: 500",
            "critical: 100",
            "api_response_time: critical 100 must lie above target 200",
        ),
        ("benchmarks.yaml", "target: 200 ms", "target: 200 miles", "unknown unit 'miles'"),
        ("scaling.yaml", "max: 10", "max: 0", "max"),
    ],
)
@pytest.mark.usefixtures("starts")
def test_a_document_that_cannot_be_used_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: tuple[str, ...],
    document: str,
    right: str,
    wrong: str,
    said: str,
) -> None:
    shutil.copytree(PROJECT_ROOT / "config", tmp_path / "config")
    path = tmp_path / "config" / document
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, 1))
    monkeypatch.setenv("TIDEGATE_CONFIG_DIR", str(tmp_path / "config"))
    assert_one_line(call(*command, "--data", str(tmp_path / "data")), said)


def test_a_stack_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise StackError("nats: port 4222 is in use;\nchoose another with --nats-port")

    monkeypatch.setattr(backing, "start_stack", refuse)
    result = call("run", "smoke", "--data", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr == "error: nats: port 4222 is in use; choose another with --nats-port\n"


def test_help_of_every_command_of_this_package_stands_by_itself() -> None:
    for commands in SECTIONS.values():
        for name in commands:
            if name == "platform":
                continue  # its help is the platform's own
            result = call(name, "--help")
            assert result.exit_code == 0, result.output
            assert len(result.stdout) > 100


def test_the_groups_help_names_every_command_and_loads_none() -> None:
    script = "import sys; from services.console.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    script += "assert not {'pydantic', 'nats', 'psycopg', 'rich'} & set(sys.modules), 'help is slow'"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for commands in SECTIONS.values():
        for name in commands:
            assert f"  {name} " in done.stdout


def test_the_version_is_the_distributions() -> None:
    assert call("--version").stdout.startswith("tidegate 0.")


def test_the_list_of_scenarios_has_loads_and_suites() -> None:
    lines = call("run", "--list").stdout.splitlines()
    assert any(line.split()[:3] == ["cross_system_integration", "75", "users"] for line in lines)
    assert any(line.startswith("platform ") and "in turn" in line for line in lines)


def test_a_bad_json_path_in_a_poll_is_found_too() -> None:
    poll = {"until": {"json": "$..[", "exists": True}}
    steps = [{"action": "look", "system": "shop", "path": "/", "poll": poll}]
    scenario = Scenario.model_validate({"name": "own", "system": "shop", "steps": steps})
    with pytest.raises(Exception, match=r"action look: poll.until: '\$..\[' is no JSON path"):
        check_json_paths(scenario)


@pytest.mark.parametrize(
    ("phase", "report", "code"),
    [
        (Phase.FINISHED, {"exit_code": 0}, 0),
        (Phase.FINISHED, {"exit_code": 3}, 3),
        (Phase.STOPPED, {"exit_code": 1}, 1),
        (Phase.FINISHED, None, 4),
        (Phase.FAILED, {"exit_code": 0}, 4),
        (None, None, 4),
    ],
    ids=str,
)
def test_the_exit_code_is_the_reports_unless_the_run_broke(phase: Phase, report: dict[str, int], code: int) -> None:
    assert Outcome("run-1", phase, "", report).exit_code == code


def test_a_file_that_cannot_be_written_is_one_line_and_no_missed_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "report.json")

    monkeypatch.setattr("services.console.run_command.print_catalogue", full)
    result = call("run", "--list")
    assert (result.exit_code, result.stderr) == (4, "error: report.json: No space left on device\n")
