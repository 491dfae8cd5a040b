"""What the embedded stack decides without starting anything: restarts, ports, options, the plan, what may be shown."""

import os
import socket
import stat
from pathlib import Path

import pytest

from deploy.embedded.errors import StackError
from deploy.embedded.folder import is_process, prepare_folder
from deploy.embedded.lock import DataLock, read_holder
from deploy.embedded.options import StackOptions
from deploy.embedded.plan import make_plan
from deploy.embedded.ports import FREE_RANGE, choose_port
from deploy.embedded.restarts import FIRST_DELAY_S, MAX_DELAY_S, WELL_AFTER_S, Restarts
from deploy.embedded.state import PlatformInfo, Secrets, ServiceInfo, StackInfo, load_secrets, read_state, write_state
from deploy.embedded.unprivileged import find_closed
from deploy.embedded.workers import WantedWorkers, describe

SECRETS = Secrets("nats-word", "postgres-word", "platform-word", "signing-word")


def test_each_death_in_a_row_waits_longer_up_to_a_limit_and_a_long_life_forgives() -> None:
    restarts, now, delays = Restarts(), 1000.0, []
    for _ in range(8):
        restarts = restarts.died(now)
        assert restarts.due_at is not None
        delays.append(restarts.due_at - now)
        assert not restarts.is_due(restarts.due_at - 0.01)
        now = restarts.due_at
        assert restarts.is_due(now)
        restarts = restarts.restarted(now)
        assert not restarts.is_due(now + 1000)
    assert delays[:4] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S, 8 * FIRST_DELAY_S]
    assert delays[-1] == MAX_DELAY_S
    assert restarts.total == 8
    assert restarts.died(now + WELL_AFTER_S).due_at == now + WELL_AFTER_S + FIRST_DELAY_S


def test_free_ports_are_distinct_bindable_and_below_the_range_of_outgoing_connections() -> None:
    ports = [choose_port("any") for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(FREE_RANGE[0] <= port <= FREE_RANGE[1] for port in ports)
    assert FREE_RANGE[1] < 32768


def test_a_wanted_port_is_given_or_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"^--nats-port: port {port} is in use on 127.0.0.1; choose another"):
            choose_port("--nats-port", port)
    assert choose_port("--nats-port", port) == port
    with pytest.raises(StackError, match="--nats-port: 70000 is not a port; give a number from 1 to 65535"):
        choose_port("--nats-port", 70000)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("workers", -1, "--workers: -1 is outside 0 to 64"),
        ("workers", 65, "--workers: 65 is outside 0 to 64"),
        ("environment", "Local", "--environment: 'Local' is not a name"),
        ("environment", "a.b", "--environment: 'a.b' is not a name"),
        ("commands", {"collector": ("x",)}, "commands: forwarder, generator, platform, scaler, validator"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(field: str, value: object, line: str) -> None:
    with pytest.raises(StackError, match=line):
        StackOptions(**{field: value})  # type: ignore[arg-type]


def test_options_reach_the_keeper_unchanged(tmp_path: Path) -> None:
    options = StackOptions(data=tmp_path, workers=3, nats_port=4222, platform_replicas={"relaycore": 1})
    assert StackOptions.from_json(options.to_json()) == options


def test_a_service_is_told_its_neighbours_and_only_its_own_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_SECRET_OTHER", "for scenarios")
    options = StackOptions(data=tmp_path, workers=2, platform_replicas={"relaycore": 1}, env={"EXTRA": "1"})
    plan = make_plan(options, tmp_path, SECRETS, "nats://there", "postgresql://there")

    assert [[spec.name for spec in wave] for wave in plan.waves] == [
        ["collector"],
        ["platform"],
        ["validator", "scaler"],
        ["generator-w1", "generator-w2"],
    ]
    specs = {spec.name: spec for wave in plan.waves for spec in wave}
    assert len({spec.url for spec in specs.values()}) == len(specs)
    assert all(spec.env["EXTRA"] == "1" for spec in specs.values())
    assert plan.platform is not None
    for name in ("collector", "validator", "scaler", "generator-w1"):
        env = specs[name].env
        assert env["TIDEGATE_NATS_URL"] == "nats://there"
        assert env["TIDEGATE_OTLP_ENDPOINT"] == specs["collector"].url
        assert env["TIDEGATE_PLATFORM_URL"] == plan.platform.supervisor_url
        assert specs[name].url.endswith(":" + env["TIDEGATE_HTTP_PORT"])
    assert specs["generator-w2"].env["TIDEGATE_WORKER_ID"] == "w2"
    assert specs["platform"].command[-1] == "--replicas=relaycore=1"
    holders = {
        word: {name for name, spec in specs.items() if word in spec.env.values()}
        for word in ("platform-word", "signing-word", "for scenarios")
    }
    generators = {"generator-w1", "generator-w2"}
    assert holders == {
        "platform-word": generators | {"platform"},
        "signing-word": {"platform"},
        "for scenarios": generators,
    }
    assert not [word for spec in specs.values() for word in spec.command if "word" in word]


def test_without_a_platform_nobody_is_sent_to_one(tmp_path: Path) -> None:
    options = StackOptions(data=tmp_path, platform=False, workers=0)
    plan = make_plan(options, tmp_path, SECRETS, "nats://there", "postgresql://there")
    assert plan.platform is None
    assert [spec.name for wave in plan.waves for spec in wave] == ["collector", "validator", "scaler"]
    assert not [spec for wave in plan.waves for spec in wave if "TIDEGATE_PLATFORM_URL" in spec.env]


def test_a_forwarder_runs_where_there_are_endpoints_and_alone_has_their_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_WEBHOOK_SECRET_PAGER", "for receivers")
    (tmp_path / "webhooks.yaml").write_text(
        "endpoints: [{name: pager, url: 'http://127.0.0.1:1/', secret: pager}]\n", encoding="utf-8"
    )
    options = StackOptions(data=tmp_path, config_dir=tmp_path, platform=False, workers=1)
    plan = make_plan(options, tmp_path, SECRETS, "nats://there", "postgresql://there")
    assert [[spec.name for spec in wave] for wave in plan.waves] == [
        ["collector"],
        ["validator", "scaler", "forwarder"],
        ["generator-w1"],
    ]
    specs = [spec for wave in plan.waves for spec in wave]
    assert [spec.name for spec in specs if "for receivers" in spec.env.values()] == ["forwarder"]


def test_a_state_is_read_as_written_privately_and_shown_without_passwords(tmp_path: Path) -> None:
    info = StackInfo(
        data=tmp_path,
        keeper_pid=1,
        environment="local",
        nats_url="nats://tidegate:nats-word@127.0.0.1:4222",
        store_dsn="postgresql://tidegate:postgres-word@127.0.0.1:5432/tidegate",
        otlp_endpoint="http://127.0.0.1:1",
        services={"nats": ServiceInfo(2, None, "nats.log")},
        platform=PlatformInfo("http://127.0.0.1:2", {"autmatrix": "http://127.0.0.1:3"}),
        workers=2,
        started_at=1.5,
    )
    write_state(info)
    assert read_state(tmp_path) == info
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]
    shown = info.redacted()
    assert (shown["nats_url"], shown["store_dsn"]) == ("nats://127.0.0.1:4222", "postgresql://127.0.0.1:5432/tidegate")
    (tmp_path / "stack.json").write_text('{"data": "half')
    assert read_state(tmp_path) is None


def test_secrets_are_made_once_and_a_spoilt_file_is_named(tmp_path: Path) -> None:
    made = load_secrets(tmp_path)
    assert load_secrets(tmp_path) == made
    assert len({made.nats, made.postgres, made.platform, made.platform_signing}) == 4
    (tmp_path / "secrets.json").write_text("{}")
    with pytest.raises(StackError, match=r"secrets.json: cannot be used .* --data"):
        load_secrets(tmp_path)


def test_a_lock_is_held_by_one_seen_by_others_and_free_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.embedded.lock.ACQUIRE_S", 0.0)
    assert read_holder(tmp_path) is None
    lock = DataLock(tmp_path)
    assert read_holder(tmp_path) == os.getpid()
    with pytest.raises(StackError, match=f"already up on .*keeper process {os.getpid()}.*tidegate down"):
        DataLock(tmp_path)
    lock.release()
    assert read_holder(tmp_path) is None


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("/dev/null", "--data: /dev/null is not a folder"),
        ("/dev/null/below", "--data: /dev/null/below cannot be written: Not a directory"),
        ("/proc/tidegate", "--data: /proc/tidegate cannot be written"),
    ],
)
def test_a_folder_that_cannot_hold_a_stack_is_named_with_the_way_out(folder: str, line: str) -> None:
    with pytest.raises(StackError, match=line + ".*; choose another folder with --data"):
        prepare_folder(Path(folder))


def test_the_topmost_closed_folder_is_found(tmp_path: Path) -> None:
    program = tmp_path / "open" / "program"
    program.parent.mkdir()
    program.touch(mode=0o755)
    program.chmod(0o755)
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    above = find_closed([tmp_path], program)  # whatever is closed above the test's own folder comes first
    closed.chmod(0o700)
    assert find_closed([closed / "inner"], program) == (above or closed)


def test_a_process_is_known_by_number_and_start_time_together() -> None:
    assert not is_process(os.getppid(), 1.0)


@pytest.mark.parametrize(
    ("body", "status", "count"),
    [
        ({"replicas": 5, "epoch": 7, "decision": "generator-1"}, 202, 5),
        ({"replicas": 5, "epoch": 8}, 202, 5),
        ({"replicas": 5, "epoch": 6}, 409, 2),
        ({"replicas": 65, "epoch": 9}, 422, 2),
        ({"replicas": -1, "epoch": 9}, 422, 2),
        ({"replicas": "5", "epoch": 9}, 422, 2),
        ({"replicas": True, "epoch": 9}, 422, 2),
        ({"replicas": 5}, 422, 2),
        ([5], 422, 2),
        (None, 422, 2),
    ],
)
def test_the_number_of_workers_is_changed_by_whoever_leads_within_the_limits(
    body: object, status: int, count: int
) -> None:
    wanted = WantedWorkers(2)
    assert wanted.ask({"replicas": 2, "epoch": 7}).status == 202
    answer = wanted.ask(body)
    assert (answer.status, wanted.count) == (status, count)
    assert ("error" in answer.body) is (status != 202)


def test_there_is_room_for_as_many_workers_as_there_are_cores_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    assert [describe(wanted, [])["room"] for wanted in (0, 3, 4, 9)] == [4, 1, 0, 0]
    assert describe(2, ["http://127.0.0.1:9"] * 2) == {
        "service": "generator", "desired": 2, "ready": 0, "starting": 2, "room": 2, "instances": [],
    }  # fmt: skip
