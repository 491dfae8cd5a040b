"""Runs, breaches and scaling records reach their tables once and in the right order, and are read back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.collector.timescale import Timescale
from shared.contracts.base import Message
from shared.contracts.breach import Breach, BreachEvent, BreachStatus, BreachWindow
from shared.contracts.run import Load, Phase, RunDesired, RunState
from shared.contracts.scaling import GENESIS, ScalingRecord
from shared.contracts.scenario import Scenario, Step
from shared.store.breaches import list_breaches, read_breach
from shared.store.runs import RunRow, list_runs, read_run
from shared.store.scaling import list_scaling
from tests.integration.collector_rig import Rig, eventually, open_rig

pytestmark = pytest.mark.integration
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[Timescale]:
    opened = Timescale(postgres_dsn, "test")
    yield opened
    await opened.close()


def desired(rig: Rig, run: str = "run-a", generation: int = 1, seconds: int = 0) -> RunDesired:
    scenario = Scenario(
        name="login", system="autmatrix", steps=[Step(action="read", system="autmatrix", path="/health")]
    )
    return RunDesired(
        run=run,
        environment=rig.bus.subjects.environment,
        generation=generation,
        status="running" if generation == 1 else "stopped",
        loads=(Load(scenario=scenario, users=1, duration_s=10),),
        targets={"autmatrix": "http://127.0.0.1:1"},
        allowed_hosts=("127.0.0.1",),
        requested_by="ada",
        requested_at=NOW + timedelta(seconds=seconds),
    )


def state(rig: Rig, phase: Phase, seconds: int, run: str = "run-a", reason: str = "") -> RunState:
    at = NOW + timedelta(seconds=seconds)
    return RunState(
        run=run,
        environment=rig.bus.subjects.environment,
        phase=phase,
        generation=1,
        at=at,
        coordinator="w1",
        started_at=NOW,
        ended_at=at if phase.final else None,
        reason=reason,
    )


def breach(rig: Rig, name: str, revision: int, status: BreachStatus, seconds: int, run: str = "run-a") -> BreachEvent:
    at = NOW + timedelta(seconds=seconds)
    return BreachEvent.of(
        Breach(
            breach=name,
            revision=revision,
            status=status,
            environment=rig.bus.subjects.environment,
            run=run,
            system="relaycore",
            service="relaycore",
            metric="routing_latency",
            series="all",
            level="target",
            statistic="p95",
            value=80.0,
            limit=50.0,
            target=50.0,
            critical=100.0,
            unit="ms",
            better="lower",
            confidence=0.99,
            samples=100,
            window=BreachWindow(start=NOW, end=at, seconds=float(seconds)),
            opened_at=NOW,
        ),
        at,
    )


def record(rig: Rig, sequence: int, service: str = "relaycore", **changes: object) -> ScalingRecord:
    return ScalingRecord.model_validate(
        {
            "kind": "decision",
            "decision": f"{service}-{sequence}",
            "service": service,
            "system": "relaycore",
            "environment": rig.bus.subjects.environment,
            "at": NOW + timedelta(seconds=sequence),
            "sequence": sequence,
            "lease_epoch": 1,
            "previous_hash": GENESIS,
            "inputs": {"cpu_usage": 0.1, "request_rate": 160.0},
            **changes,
        }
    ).sealed()


async def say(rig: Rig, subject: str, message: Message) -> None:
    await rig.bus.js.publish(subject, message.model_dump_json().encode())


async def all_handled(rig: Rig) -> None:
    """Every message of the control plane is acknowledged by the collector's consumers."""

    async def waiting() -> int:
        names = rig.bus.subjects
        consumers = [
            await rig.bus.js.consumer_info(names.stream(stream), consumer)
            for stream, consumer in (
                ("RUNS", "collector-desired"),
                ("RUNS", "collector-state"),
                ("BREACHES", "collector"),
                ("SCALING", "collector"),
            )
        ]
        return sum((info.num_pending or 0) + (info.num_ack_pending or 0) for info in consumers)

    await eventually(waiting, lambda left: left == 0)


async def read(store: Timescale, run: str = "run-a") -> RunRow:
    async with store.transaction() as connection:
        row = await read_run(connection, run)
    assert row is not None
    return row


async def test_a_run_is_kept_from_its_request_to_its_end(rig: Rig, store: Timescale) -> None:
    names = rig.bus.subjects
    async with rig.collector():
        await say(rig, names.run_desired("run-a"), desired(rig))
        await all_handled(rig)
        first = await read(store)
        assert (first.phase, first.requested_by, first.requested_at, first.state) == ("starting", "ada", NOW, None)
        await say(rig, names.run_state("run-a"), state(rig, Phase.RUNNING, 1))
        await say(rig, names.run_state("run-a"), state(rig, Phase.FINISHED, 9, reason="time is up"))
        await all_handled(rig)
    ended = await read(store)
    assert (ended.phase, ended.reason, ended.started_at) == ("finished", "time is up", NOW)
    assert ended.ended_at == NOW + timedelta(seconds=9)
    assert RunDesired.model_validate(ended.desired) == desired(rig)
    assert RunState.model_validate(ended.state).phase == Phase.FINISHED


async def test_nothing_old_overwrites_what_is_newer(rig: Rig, store: Timescale) -> None:
    names = rig.bus.subjects
    async with rig.collector():
        await say(rig, names.run_desired("run-a"), desired(rig, generation=3, seconds=30))
        await say(rig, names.run_desired("run-a"), desired(rig, generation=2, seconds=20))
        await all_handled(rig)
        assert (await read(store)).generation == 3
        await say(rig, names.run_state("run-a"), state(rig, Phase.STOPPING, 5))
        await all_handled(rig)
        await say(rig, names.run_state("run-a"), state(rig, Phase.RUNNING, 4))
        await all_handled(rig)
        assert (await read(store)).phase == "stopping"
        await say(rig, names.run_state("run-a"), state(rig, Phase.STOPPED, 6))
        await all_handled(rig)
        await say(rig, names.run_state("run-a"), state(rig, Phase.RUNNING, 7))
        await all_handled(rig)
    assert (await read(store)).phase == "stopped"


async def test_a_state_that_comes_before_its_run_waits_for_it(rig: Rig, store: Timescale) -> None:
    names = rig.bus.subjects
    await say(rig, names.run_state("run-a"), state(rig, Phase.RUNNING, 1))
    async with rig.collector():
        await eventually(
            lambda: rig.bus.js.consumer_info(names.stream("RUNS"), "collector-state"),
            lambda info: info.num_ack_pending == 1,
        )
        await say(rig, names.run_desired("run-a"), desired(rig))
        await all_handled(rig)
    assert (await read(store)).phase == "running"


async def test_runs_are_listed_the_newest_first(rig: Rig, store: Timescale) -> None:
    async with rig.collector():
        for second in (1, 3, 2):
            await say(rig, rig.bus.subjects.run_desired(f"run-{second}"), desired(rig, f"run-{second}", seconds=second))
        await all_handled(rig)
    async with store.transaction() as connection:
        runs = await list_runs(connection, rig.bus.subjects.environment)
        assert [row.run for row in runs] == ["run-3", "run-2", "run-1"]
        assert len(await list_runs(connection, rig.bus.subjects.environment, limit=2)) == 2
        assert await list_runs(connection, "another") == []
        assert await read_run(connection, "no-such-run") is None


async def test_breaches_are_episodes_at_their_latest_revision(rig: Rig, store: Timescale) -> None:
    subject = rig.bus.subjects.breach("relaycore", "routing_latency", "all")
    events = [
        breach(rig, "one", 1, BreachStatus.OPENED, 1),
        breach(rig, "one", 2, BreachStatus.RESOLVED, 5),
        breach(rig, "two", 1, BreachStatus.OPENED, 3, run="run-b"),
        breach(rig, "two", 2, BreachStatus.ESCALATED, 4, run="run-b"),
    ]
    async with rig.collector():
        for event in [*events, *events]:
            await say(rig, subject, event)
        await all_handled(rig)
    environment = rig.bus.subjects.environment
    async with store.transaction() as connection:
        everything = await list_breaches(connection, environment)
        assert [(row.breach, row.revision, row.status) for row in everything] == [
            ("one", 2, "resolved"),
            ("two", 2, "escalated"),
        ]
        assert BreachEvent.model_validate(everything[0].event) == events[1]
        assert [row.breach for row in await list_breaches(connection, environment, open_only=True)] == ["two"]
        assert [row.breach for row in await list_breaches(connection, environment, run="run-a")] == ["one"]
        assert [row.revision for row in await read_breach(connection, "one")] == [1, 2]
        assert await list_breaches(connection, "another") == []


async def test_scaling_records_are_kept_whole_and_found_by_service_run_and_time(rig: Rig, store: Timescale) -> None:
    records = [
        record(rig, 1, runs=["run-a"]),
        record(rig, 2, kind="result", decision="relaycore-1", ok=True, took_s=1e-05),
        record(rig, 3, inputs={"tiny": 1e-07, "huge": 1e22, "nothing": -0.0, "name": "ä"}),
        record(rig, 1, service="autmatrix-backend"),
    ]
    async with rig.collector():
        for item in [*records, *records]:
            await say(rig, rig.bus.subjects.scaling(item.service), item)
        await all_handled(rig)
    environment = rig.bus.subjects.environment
    async with store.transaction() as connection:
        rows = await list_scaling(connection, environment, service="relaycore")
        assert [row.sequence for row in rows] == [3, 2, 1]
        kept = [ScalingRecord.model_validate(row.record) for row in rows]
        assert kept == [records[2], records[1], records[0]]
        assert [item.digest() for item in kept] == [item.hash for item in kept]
        assert [row.sequence for row in await list_scaling(connection, environment, run="run-a")] == [2, 1]
        later = await list_scaling(connection, environment, since=NOW + timedelta(seconds=2))
        assert [row.sequence for row in later] == [3, 2]
        earlier = await list_scaling(connection, environment, until=NOW + timedelta(seconds=2), limit=1)
        assert len(earlier) == 1


async def test_messages_that_are_none_go_to_dead_and_the_next_is_kept(rig: Rig, store: Timescale) -> None:
    subject = rig.bus.subjects.run_desired("run-a")
    async with rig.collector():
        for body in (b"{", b"\xff\xfe", b'{"run": "run-a"}'):
            await rig.bus.js.publish(subject, body)
        await say(rig, subject, desired(rig))
        await all_handled(rig)
        letters = await eventually(lambda: asyncio.sleep(0, rig.dead()), lambda heard: len(heard) == 3)
    cut, no_text, bare = sorted(letters, key=lambda letter: letter.sequence)
    assert "no RunDesired: document: Invalid JSON" in cut.reason
    assert "no RunDesired: 'utf-8' codec" in no_text.reason
    assert "environment: Field required" in bare.reason
    assert (cut.subject, cut.stream) == (subject, rig.bus.subjects.stream("RUNS"))
    assert (await read(store)).generation == 1


async def test_text_that_the_store_cannot_hold_goes_to_dead(rig: Rig) -> None:
    async with rig.collector():
        await say(rig, rig.bus.subjects.scaling("relaycore"), record(rig, 1, reason="a\0b"))
        (letter,) = await eventually(lambda: asyncio.sleep(0, rig.dead()), lambda heard: len(heard) == 1)
    assert "the store cannot hold it" in letter.reason
