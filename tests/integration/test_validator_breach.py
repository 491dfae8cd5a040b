"""Breaches over a real bus: opened, resolved, readable by anyone; one judge at a time; a report at the end."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import nats
import psycopg
import pytest
from cloudevents.core.formats.json import JSONFormat
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.validator.app import serve
from services.validator.board import RunBoard
from services.validator.breach_stream import BreachStream, StaleWriterError
from services.validator.reporter import Reporter
from services.validator.settings import Settings
from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.run import Phase, RunDesired, RunState
from shared.contracts.window import FrameWindows
from shared.store.spans import copy_spans
from shared.streams import ensure_streams
from shared.subjects import Subjects
from tests.contracts.schemas import breach_events, message
from tests.integration.span_rows import rows_of
from tests.unit.test_validator_judging import judge_of_a_run, play
from tests.unit.traces import AUTMATRIX, CLIENT, GENERATOR, RELAYCORE, SERVER, span
from tests.unit.validator_frames import START, START_S, cell, desired, frame, state

pytestmark = pytest.mark.integration

RUN = "run-of-tests"
STEP_S = 0.5


async def until(condition: Callable[[], bool], limit_s: float = 8.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


@dataclass
class Bench:
    """A run told by hand: its frames follow each other faster than time would."""

    client: Client
    environment: str
    heard: list[Msg] = field(default_factory=list)
    seq: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(message.data) for message in self.heard]

    @property
    def statuses(self) -> list[str]:
        return [event["data"]["status"] for event in self.events]

    async def hear(self, message: Msg) -> None:
        self.heard.append(message)

    async def publish(self, subject: str, message: RunDesired | RunState | FrameWindows) -> None:
        await self.client.jetstream().publish(subject, message.model_dump_json().encode())

    async def begin(self) -> None:
        if not self.seq:
            # However long it took until there was somebody to hear it.
            self.began = datetime.now(UTC).replace(microsecond=0)
        names = Subjects(self.environment)
        await self.publish(names.run_desired(RUN), desired(environment=self.environment, started=self.began))
        await self.tell(0, Phase.RUNNING)

    async def tell(self, seconds: float, phase: Phase) -> None:
        told = state(seconds, phase, environment=self.environment, started=self.began)
        await self.publish(Subjects(self.environment).run_state(RUN), told)

    async def load(self, seconds: float, ms: float, pace_s: float = 0.03) -> None:
        """That much event time at 60 requests/s, each taking ``ms``."""
        shift_s = self.began.timestamp() - START_S
        for _ in range(round(seconds / STEP_S)):
            self.seq += 1
            at = self.seq * STEP_S + shift_s
            one = frame(self.seq, at, [cell(int(at - 0.01), [ms] * 30, trace=self.seq)], environment=self.environment)
            await self.publish(Subjects(self.environment).window(RUN, "autmatrix"), one)
            await asyncio.sleep(pace_s)


@pytest.fixture
async def bench(nats_url: str, environment: str) -> AsyncIterator[Bench]:
    client = await nats.connect(nats_url)
    bench = Bench(client, environment)
    await client.subscribe(f"tidegate.{environment}.breach.>", cb=bench.hear)
    yield bench
    await client.close()


Start = Callable[..., Awaitable[Callable[[], Awaitable[None]]]]


@pytest.fixture
async def start(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Start]:
    """Starts a validator within this process; returns what stops it."""
    running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def begin(store_dsn: str = postgres_dsn) -> Callable[[], Awaitable[None]]:
        settings = Settings(environment=environment, nats_url=nats_url, store_dsn=store_dsn)
        stop = asyncio.Event()
        task = asyncio.create_task(serve(settings, stop))
        running.append((stop, task))

        async def end() -> None:
            stop.set()
            await asyncio.wait_for(asyncio.shield(task), 10)

        return end

    yield begin
    for stop, _ in running:
        stop.set()
    await asyncio.wait_for(asyncio.gather(*(task for _, task in running)), 10)


async def streams_exist(bench: Bench) -> None:
    """The first validator to start makes the streams."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(Exception):
            await bench.client.jetstream().stream_info(Subjects(bench.environment).stream("DEAD"))
            await bench.client.jetstream().key_value(Subjects(bench.environment).bucket("leases"))
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_breach_is_opened_resolved_and_readable_by_any_subscriber(
    bench: Bench, start: Start, postgres_dsn: str
) -> None:
    await start()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(6, 50)
    await bench.load(3, 700)
    await until(lambda: "opened" in bench.statuses)
    await bench.load(8, 50)
    while "resolved" not in bench.statuses:
        assert bench.seq < 200
        await bench.load(1, 50)

    assert bench.statuses[0] == "opened"
    assert bench.statuses[-1] == "resolved"
    assert bench.statuses.count("opened") == bench.statuses.count("resolved") == 1
    (episode,) = {event["data"]["breach"] for event in bench.events}

    for told in bench.events:
        breach_events().validate(told)
        message("BreachEvent").validate(told)
    first = bench.heard[0]
    event = JSONFormat().read(None, first.data)
    assert event.get_type() == "io.tidegate.breach.opened.v1"
    assert event.get_id() == f"{episode}.1"
    assert event.get_source() == f"/tidegate/{bench.environment}/validator"
    assert event.get_subject() == f"autmatrix/api_response_time/{RUN}"
    data = event.get_data()
    assert isinstance(data, dict)
    assert first.subject == f"tidegate.{bench.environment}.breach.autmatrix.api_response_time.{RUN}"
    assert first.headers
    assert first.headers["Content-Type"] == "application/cloudevents+json"
    worst = data["exemplars"][0]
    assert first.headers["traceparent"].split("-")[1] == worst["trace_id"]
    assert {one.headers["traceparent"] for one in bench.heard if one.headers} == {first.headers["traceparent"]}

    await bench.tell(20, Phase.FINISHED)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:

        async def read() -> dict[str, Any] | None:
            row = await (await connection.execute("SELECT body FROM report WHERE run = %s", (RUN,))).fetchone()
            return row[0] if row else None

        deadline = time.monotonic() + 8
        while (body := await read()) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert [(breach["breach"], breach["status"]) for breach in body["breaches"]] == [(episode, "resolved")]
    assert body["verdict"] == "insufficient", "the store holds none of its rows"
    assert body["generator_health"]["systems"]["autmatrix"]["frames"] == bench.seq


async def test_a_run_that_cannot_be_reported_leaves_the_judging_of_others_alone(
    bench: Bench, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: Reporter, board: RunBoard) -> None:
        raise RuntimeError(f"no report of {board.run}")

    monkeypatch.setattr(Reporter, "report", fail)
    await start()
    await streams_exist(bench)
    names, now = Subjects(bench.environment), datetime.now(UTC).replace(microsecond=0)
    other: dict[str, Any] = {"environment": bench.environment, "run": "of-another-shape", "started": now}
    await bench.publish(names.run_desired("of-another-shape"), desired(**other))
    await bench.publish(names.run_state("of-another-shape"), state(0, Phase.FINISHED, **other))
    await until(lambda: "run of-another-shape cannot be reported" in caplog.text)
    assert "no report of of-another-shape" in caplog.text
    await bench.begin()
    await bench.load(6, 700)
    await until(lambda: "opened" in bench.statuses)


async def test_a_later_revision_names_the_hop_that_spent_the_time(
    bench: Bench, start: Start, postgres_dsn: str
) -> None:
    await start()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(4, 700)
    await until(lambda: "opened" in bench.statuses)
    assert bench.events[0]["data"]["slowest_hop"] == ""
    spans = [
        span("create", "gone", GENERATOR, CLIENT, 0, 700),
        span("POST", "create", AUTMATRIX, SERVER, 2, 698),
        span("ask", "POST", AUTMATRIX, CLIENT, 20, 690, "relaycore"),
        span("answer", "ask", RELAYCORE, SERVER, 25, 685),
    ]
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        for number in range(1, bench.seq + 1):
            await copy_spans(connection, rows_of(UUID(int=number), spans, bench.began))
    while not any(data["slowest_hop"] for data in (event["data"] for event in bench.events)):
        assert bench.seq < 200
        await bench.load(1, 700, pace_s=0.1)
    told = next(event["data"] for event in bench.events if event["data"]["slowest_hop"])
    assert (told["slowest_hop"], told["status"]) == (RELAYCORE, "updated")
    assert "add relaycore replicas" in told["recommendation"]
    assert [event["data"]["revision"] for event in bench.events] == list(range(1, len(bench.events) + 1))


async def test_a_second_validator_takes_up_the_open_breach_when_the_first_one_stops(bench: Bench, start: Start) -> None:
    stop_first = await start()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(4, 700)
    await until(lambda: "opened" in bench.statuses)
    await start()
    await stop_first()
    assert "resolved" not in bench.statuses
    while "resolved" not in bench.statuses:
        assert bench.seq < 400
        await bench.load(1, 50, pace_s=0.05)
    assert bench.statuses.count("opened") == 1
    assert {event["data"]["breach"] for event in bench.events} == {bench.events[0]["data"]["breach"]}
    assert [event["data"]["revision"] for event in bench.events] == list(range(1, len(bench.events) + 1))


async def test_the_end_of_a_run_resolves_its_open_breach(bench: Bench, start: Start) -> None:
    await start()
    await streams_exist(bench)
    await bench.begin()
    await bench.load(4, 700)
    await until(lambda: "opened" in bench.statuses)
    await bench.tell(5, Phase.STOPPED)
    await until(lambda: "resolved" in bench.statuses)
    assert bench.events[-1]["data"]["note"] == "the run ended (stopped) while the breach was open"


async def test_a_store_that_is_away_keeps_no_breach_back(bench: Bench, start: Start) -> None:
    await start("postgresql://nobody@127.0.0.1:1/none")
    await streams_exist(bench)
    await bench.begin()
    await bench.load(4, 700)
    await until(lambda: "opened" in bench.statuses)
    await bench.tell(5, Phase.STOPPED)
    await until(lambda: "resolved" in bench.statuses)


async def test_an_event_of_another_validator_is_never_taken_for_ours(nats_url: str, environment: str) -> None:
    """Both speak of the same revision, but not the same: the broker's duplicate window would drop the second."""
    client = await nats.connect(nats_url)
    js, names = client.jetstream(), Subjects(environment)
    await ensure_streams(js, names)
    judge = judge_of_a_run()
    opened = play(judge, 14, lambda _: [900.0] * 10)[0][1]
    updated = opened.model_copy(update={"revision": 2, "status": BreachStatus.UPDATED})
    resolved = updated.model_copy(update={"status": BreachStatus.RESOLVED})
    ours, theirs = BreachStream(js, names), BreachStream(js, names)
    try:
        await theirs.publish(BreachEvent.of(opened, START), {})
        await ours.read_last()
        await theirs.publish(BreachEvent.of(updated, START), {})
        with pytest.raises(StaleWriterError):
            await ours.publish(BreachEvent.of(resolved, START), {})
        await theirs.read_last()
        forgotten = BreachStream(js, names)
        await forgotten.publish(BreachEvent.of(updated, START), {})
        assert await forgotten.read_last() == [updated], "a lost answer to the very event is no fault"
    finally:
        await client.close()


def test_a_benchmark_that_cannot_be_judged_ends_the_process_with_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "benchmarks.yaml"
    bad.write_text(
        "systems: {autmatrix: {service: a, name: A, benchmarks: [{metric: m, target: 200, critical: 100, unit: ms,"
        " better: lower, source: response_time}]}}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "services.validator"],
        env={"TIDEGATE_BENCHMARKS": str(bad), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert "critical 100 must lie above target 200" in line
