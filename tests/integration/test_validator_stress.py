"""A search over a real bus: it survives the validator that led it, and what the user asks for comes first."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from services.validator import stress_lead, stress_step
from services.validator.app import serve
from services.validator.settings import Settings
from shared.bus import publish_after
from shared.contracts.run import Load, Phase, RunDesired, RunState
from shared.contracts.stress import StressSearch
from shared.contracts.timing import Kind
from shared.contracts.window import ActionNow, Cell, FrameWindows
from shared.histogram import Histogram
from shared.subjects import Subjects
from tests.contracts.schemas import hold
from tests.integration.published import kept
from tests.unit.validator_frames import scenario

pytestmark = pytest.mark.integration

RUN = "run-of-tests"
CAPACITY = 600.0
"""Arrivals/s up to which the stand-in answers in time."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target without noise needs no long look."""
    for name, value in {"SETTLE_S": 1, "SETTLE_SHARE": 0.0, "GROW_WATCH_S": 3, "NARROW_WATCH_S": 3}.items():
        monkeypatch.setattr(stress_step, name, value)
    for name, value in {"GROW_MOST_S": 5, "NARROW_MOST_S": 5, "LASTINGS": 1}.items():
        monkeypatch.setattr(stress_step, name, value)
    monkeypatch.setattr(stress_lead, "REST_LEAST_S", 0.5)


async def until(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.05)


@dataclass
class StandIn:
    """Generator, target and collector as one: it does what is asked, and tells each half second what came of it."""

    client: Client
    environment: str
    desired: RunDesired | None = None
    generations: list[int] = field(default_factory=list)
    sequence: int = 0
    seq: int = 0
    sent: int = 0
    told_us: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def search(self) -> StressSearch:
        assert self.desired is not None
        assert self.desired.search is not None
        return self.desired.search

    @property
    def elapsed_s(self) -> float:
        return (datetime.now(UTC) - self.began).total_seconds()

    async def on_desired(self, message: Any) -> None:
        self.desired = RunDesired.model_validate_json(message.data)
        self.generations.append(self.desired.generation)

    async def ask(self, desired: RunDesired) -> None:
        subject = Subjects(self.environment).run_desired(RUN)
        stream = Subjects(self.environment).stream("RUNS")
        js = self.client.jetstream()
        last = 0
        with contextlib.suppress(nats.js.errors.NotFoundError):
            last = (await js.get_last_msg(stream, subject)).seq or 0
        await publish_after(js, subject, desired.model_dump_json().encode(), last)

    def rate(self) -> float:
        assert self.desired is not None
        (load,) = self.desired.loads
        changes = [change.rate for change in load.changes if change.at_s <= self.elapsed_s and change.rate]
        return [load.rate or 0.0, *changes][-1]

    async def play(self) -> None:
        """Tell of the run until it is over."""
        names, js = Subjects(self.environment), self.client.jetstream()
        while self.desired is None or self.elapsed_s < self.desired.duration_s:
            await asyncio.sleep(0.25)
            if self.desired is None:
                continue
            phase = Phase.STOPPED if self.desired.status == "stopped" else Phase.RUNNING
            state = RunState(
                run=RUN, environment=self.environment, phase=phase, generation=self.desired.generation,
                at=datetime.now(UTC), coordinator="w1", started_at=self.began,
            )  # fmt: skip
            await js.publish(names.run_state(RUN), state.model_dump_json().encode())
            if phase.final:
                return
            await js.publish(names.window(RUN, "autmatrix"), self._frame().model_dump_json().encode())

    def _frame(self) -> FrameWindows:
        now_us, rate = time.time_ns() // 1000, self.rate()
        count = round(rate * (now_us - (self.told_us or now_us)) / 1e6)
        self.told_us, self.seq, self.sent = now_us, self.seq + 1, self.sent + count
        # 2 % of the answers are slow whatever is asked; beyond the capacity a third of them.
        slow = count // 3 if rate > CAPACITY else count // 50
        response = Histogram.of([50_000.0] * (count - slow) + [900_000.0] * slow).counts
        cell = Cell(
            scenario="story", action="create", kind=Kind.REQUEST, second=(now_us - 1) // 1_000_000, count=count,
            response=response, service=response, response_sum_us=50_000 * (count - slow) + 900_000 * slow,
        )  # fmt: skip
        line = ActionNow(scenario="story", action="create", kind=Kind.REQUEST, sent=self.sent)
        return FrameWindows(
            run=RUN, environment=self.environment, worker="w1", epoch=1, system="autmatrix", seq=self.seq,
            watermark_us=now_us, emitted_us=now_us, actions=(line,), cells=(cell,) if count else (),
        )  # fmt: skip


def asked(environment: str, max_steps: int) -> RunDesired:
    load = Load(scenario=scenario(), users=10, rate=200.0, profile="stress", duration_s=300.0)
    return RunDesired(
        run=RUN, environment=environment, generation=1, status="running", loads=(load,),
        targets={"autmatrix": "http://127.0.0.1:8000"}, allowed_hosts=("127.0.0.1",),
        requested_at=datetime.now(UTC),
        search=StressSearch(unit="rate", start=200.0, level=200.0, max_steps=max_steps),
    )  # fmt: skip


@pytest.fixture
async def stand_in(nats_url: str, environment: str) -> AsyncIterator[StandIn]:
    client = await nats.connect(nats_url)
    stand_in = StandIn(client, environment)
    await client.subscribe(Subjects(environment).run_desired(RUN), cb=stand_in.on_desired)
    yield stand_in
    await client.close()


Start = Callable[[], Awaitable["asyncio.Task[None]"]]


@pytest.fixture
async def start(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Start]:
    running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def begin() -> "asyncio.Task[None]":
        stop = asyncio.Event()
        settings = Settings(environment=environment, nats_url=nats_url, store_dsn=postgres_dsn)
        task = asyncio.create_task(serve(settings, stop))
        running.append((stop, task))
        client = await nats.connect(nats_url)
        deadline = time.monotonic() + 8
        while True:
            with contextlib.suppress(Exception):
                await client.jetstream().stream_info(Subjects(environment).stream("DEAD"))
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await client.close()
        return task

    yield begin
    for stop, _ in running:
        stop.set()
    await asyncio.wait_for(asyncio.gather(*(task for _, task in running), return_exceptions=True), 30)


async def test_another_validator_goes_on_with_a_search_and_finds_the_point(stand_in: StandIn, start: Start) -> None:
    first = await start()
    await stand_in.ask(asked(stand_in.environment, max_steps=7))
    playing = asyncio.create_task(stand_in.play())
    await until(lambda: stand_in.desired is not None and len(stand_in.search.steps) >= 2, 40)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    known = stand_in.search.steps
    await start()
    await until(lambda: stand_in.search.answer is not None, 90)
    await asyncio.wait_for(playing, 10)
    search = stand_in.search
    assert search.steps[: len(known)] == known, "nothing that was known is measured again"
    assert stand_in.generations == sorted(set(stand_in.generations)), "one generation after the other"
    assert search.answer is not None
    assert search.answer.level == pytest.approx(CAPACITY, rel=0.35), search
    assert all(step.verdict == ("met" if step.level <= CAPACITY else "critical") for step in search.steps)
    assert search.answer.broke is not None
    assert search.answer.broke.margin.metric == "api_response_time"
    assert stand_in.desired is not None
    assert stand_in.desired.duration_s < 300, "the run ends with the answer"
    subjects = Subjects(stand_in.environment)
    asked_for = await kept(stand_in.client.jetstream(), subjects.stream("RUNS"), subjects.run_desired(RUN))
    hold("RunDesired", asked_for)


async def test_a_pause_and_a_stop_of_the_user_come_first(stand_in: StandIn, start: Start) -> None:
    await start()
    await stand_in.ask(asked(stand_in.environment, max_steps=7))
    playing = asyncio.create_task(stand_in.play())
    await until(lambda: stand_in.desired is not None and len(stand_in.search.steps) >= 1, 40)
    assert stand_in.desired is not None
    paused = stand_in.desired.changed(datetime.now(UTC), status="paused")
    await stand_in.ask(paused)
    await until(lambda: stand_in.desired is not None and stand_in.desired.status == "paused", 5)
    await asyncio.sleep(4)
    assert stand_in.generations[-1] == paused.generation, "nobody leads a run that is paused"
    stopped = paused.changed(datetime.now(UTC), status="stopped", reason="stopped by the operator")
    await stand_in.ask(stopped)
    await asyncio.wait_for(playing, 10)
    assert stand_in.generations[-1] == stopped.generation
    assert stand_in.search.answer is None
