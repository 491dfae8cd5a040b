"""The embedded stack with tiny stand-ins for its services: its life, its deaths, and what it refuses."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import nats
import psycopg
import pytest

from deploy.embedded import StackError, StackInfo, StackOptions, read_stack, start_stack, stop_stack
from deploy.embedded.checks import run_checks
from deploy.embedded.folder import is_process
from deploy.embedded.options import COMMANDS
from deploy.embedded.state import read_state
from services.scaler.targets.local import LocalTarget
from services.scaler.targets.target import FencedError, RefusedError
from shared.store.migrations import migrate
from shared.streams import ensure_streams
from shared.subjects import Subjects
from tests.integration.scaler_rig import eventually

pytestmark = pytest.mark.integration

CHILD = Path(__file__).with_name("embedded_child.py")


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def options(tmp_path: Path) -> Iterator[StackOptions]:
    options = StackOptions(
        data=tmp_path / "data",
        workers=1,
        durable=False,
        commands={kind: (sys.executable, "-I", "-S", str(CHILD), kind) for kind in COMMANDS},
        env={"EMBEDDED_CHILD_ENDS": str(tmp_path / "ends")},
    )
    yield options
    stop_stack(options.data)
    shutil.rmtree(options.data / "postgres", ignore_errors=True)  # 40 MB each; the logs stay with pytest's folder


def list_alive(info: StackInfo) -> list[str]:
    return [name for name, service in info.services.items() if is_process(service.pid, service.created_at)]


async def leave_data(info: StackInfo) -> None:
    with psycopg.connect(info.store_dsn) as connection:
        connection.execute("create table kept (value integer)")
        connection.execute("insert into kept values (42)")
    client = await nats.connect(info.nats_url)
    stream = client.jetstream()
    await stream.add_stream(name="kept", subjects=["kept"])
    await stream.publish("kept", b"42")
    await client.close()


async def read_data(info: StackInfo) -> tuple[int, bytes]:
    with psycopg.connect(info.store_dsn) as connection:
        row = connection.execute("select value from kept").fetchone()
    client = await nats.connect(info.nats_url)
    message = await client.jetstream().get_last_msg("kept", "kept")
    await client.close()
    assert row is not None
    assert message.data is not None
    return row[0], message.data


async def test_data_survives_the_kill_of_everything_and_nothing_of_the_old_stack_lives_on(
    options: StackOptions,
) -> None:
    options = replace(options, durable=True)
    started: list[str] = []
    before = start_stack(options, started.append)
    assert started == [*before.services]
    await leave_data(before)

    for pid in [before.keeper_pid, *(service.pid for service in before.services.values())]:
        os.kill(pid, signal.SIGKILL)
    after = start_stack(options)

    assert await read_data(after) == (42, b"42")
    assert list_alive(before) == []
    assert list_alive(after) == [*after.services]


def test_no_child_outlives_a_killed_keeper(options: StackOptions) -> None:
    info = start_stack(options)
    assert list_alive(info) == [*info.services]

    os.kill(info.keeper_pid, signal.SIGKILL)

    wait_until(lambda: list_alive(info) == [])
    assert read_stack(options.data) is None
    assert stop_stack(options.data) is False


def test_a_stack_that_is_up_is_found_refuses_a_second_and_stops_in_reverse_order(
    options: StackOptions, tmp_path: Path
) -> None:
    info = start_stack(options)
    assert read_stack(options.data) == info
    with pytest.raises(StackError, match=r"already up on .*tidegate down"):
        start_stack(options)

    assert stop_stack(options.data) is True

    ends = [line.split()[1] for line in (tmp_path / "ends").read_text().splitlines()]
    assert ends == ["generator", "scaler", "validator", "platform", "collector"]
    assert "database system is shut down" in (info.data / "logs" / "postgres.log").read_text()
    assert list_alive(info) == []
    assert not (info.data / "stack.json").exists()


def test_whatever_part_dies_is_started_again_on_its_port_and_counted(options: StackOptions) -> None:
    info = start_stack(options)
    victims = ("validator", "nats", "postgres")

    for name in victims:
        os.kill(info.services[name].pid, signal.SIGKILL)

    def are_restarted() -> bool:
        now = read_stack(options.data)
        counted = now is not None and all(now.services[name].restarts == 1 for name in victims)
        return now is not None and counted and list_alive(now) == [*now.services]

    wait_until(are_restarted)
    now = read_stack(options.data)
    assert now is not None
    assert (now.nats_url, now.store_dsn) == (info.nats_url, info.store_dsn)
    for name, service in now.services.items():
        assert (service.pid != info.services[name].pid) == (name in victims)
        assert service.url == info.services[name].url
    with psycopg.connect(now.store_dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(("field", "setting"), [("nats_port", "--nats-port"), ("postgres_port", "--postgres-port")])
def test_a_port_in_use_is_named_with_its_setting(options: StackOptions, field: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = replace(options, **{field: port})
        with pytest.raises(StackError, match=f"{setting}: port {port} is in use"):
            start_stack(wanted)
    assert read_state(options.data) is None


def test_a_service_that_cannot_start_is_named_with_its_last_words_and_its_log(options: StackOptions) -> None:
    broken = replace(options, env={**options.env, "EMBEDDED_CHILD_FAILS": "scaler"})
    with pytest.raises(StackError, match=r"scaler: ended with code 1 .*broken on purpose.*logs/scaler.log") as caught:
        start_stack(broken)
    assert "\n" not in str(caught.value)
    assert stop_stack(options.data) is False


def test_passwords_stand_in_private_files_and_in_no_log_nor_command_line(options: StackOptions) -> None:
    info = start_stack(options)
    passwords = [url.split("@")[0].rpartition(":")[2] for url in (info.nats_url, info.store_dsn)]
    for name in ("stack.json", "secrets.json", "nats/nats.conf"):
        assert (info.data / name).stat().st_mode & 0o777 == 0o600
    pids = [info.keeper_pid, *(service.pid for service in info.services.values())]
    shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    shown += [log.read_bytes() for log in (info.data / "logs").glob("*.log")]
    assert not [text for text in shown for password in passwords if password.encode() in text]
    assert not [password for password in passwords if password in str(info.redacted())]


def test_the_doctor_finds_what_a_stack_lacks_and_then_nothing(options: StackOptions) -> None:
    info = start_stack(options)

    async def make_streams() -> None:
        client = await nats.connect(info.nats_url)
        await ensure_streams(client.jetstream(), Subjects(info.environment))
        await client.close()

    before = {check.name: check for check in run_checks(options.data)}
    assert {name for name, check in before.items() if not check.ok} == {"streams", "schema"}
    assert "tidegate-local-TIMINGS" in before["streams"].detail
    assert all(check.ok == (not check.way_out) for check in before.values())
    assert {"python", "nats-server", "postgres binaries", "free disk", "postgres starts"} <= set(before)
    assert before["generator-w1"].detail == "healthy"

    asyncio.run(make_streams())
    migrate(info.store_dsn)

    assert [check for check in run_checks(options.data) if not check.ok] == []


async def test_workers_come_and_go_as_the_scaler_asks_and_those_let_go_are_not_replaced(options: StackOptions) -> None:
    info = await asyncio.to_thread(start_stack, options)

    def workers() -> list[str]:
        now = read_stack(options.data)
        return [] if now is None else [name for name in now.services if name.startswith("generator")]

    async def settled(count: int) -> None:
        await asyncio.to_thread(wait_until, lambda: len(workers()) == count, 20.0)
        await eventually("as many ready", lambda: as_many_ready(count), 20.0)

    async def as_many_ready(count: int) -> bool:
        return (await target.observe("generator")).ready == count

    async with aiohttp.ClientSession() as session:
        target = LocalTarget(session, info.workers_url, 2.0)
        await settled(1)
        await target.set_replicas("generator", 3, 7, "generator-1")
        await settled(3)
        assert workers() == ["generator-w1", "generator-w2", "generator-w3"]
        now = read_stack(options.data)
        assert now is not None
        os.kill(now.services["generator-w3"].pid, signal.SIGKILL)
        with pytest.raises(FencedError, match="epoch 6 is older than 7"):
            await target.set_replicas("generator", 1, 6, "generator-2")
        with pytest.raises(RefusedError, match="65 is outside 0 to 64"):
            await target.set_replicas("generator", 65, 7, "generator-2")
        with pytest.raises(RefusedError, match="only the service generator is kept here"):
            await target.observe("relaycore")
        await settled(3)
        await target.set_replicas("generator", 1, 8, "generator-3")
        await settled(1)
        await target.set_replicas("generator", 2, 8, "generator-4")
        await settled(2)
        assert workers() == ["generator-w1", "generator-w2"]
        assert await target.room("generator") == max(0, len(os.sched_getaffinity(0)) - 2)
    after = read_stack(options.data)
    assert after is not None
    assert list_alive(after) == [*after.services]
    assert after.workers == 2
