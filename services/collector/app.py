"""Wires the collector: opens in order, runs until told to stop, drains, closes in reverse.

door (health, OTLP) ─ store (migrations, partitions) ─ bus (streams) ─ control plane ─ pipeline ─ sources
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from services.collector import backoff
from services.collector.admission import Admission
from services.collector.announcer import Announcer
from services.collector.batching import BatchLimits
from services.collector.control_plane import ControlPlane
from services.collector.dead_letters import DeadLetters, DeadLimit
from services.collector.frame_store import FrameStore
from services.collector.outbox import Outbox
from services.collector.pipeline import Pipeline
from services.collector.queue_depth import watch_depth
from services.collector.sampling import Sampler
from services.collector.settings import CollectorSettings
from services.collector.source_config import Resources
from services.collector.source_set import make_sources
from services.collector.span_announcer import SpanAnnouncer
from services.collector.span_door import SpanDoor
from services.collector.span_queue import SpanQueue
from services.collector.span_tally import SpanTally, named_in
from services.collector.timescale import CONNECT_TIMEOUT_S, Timescale
from services.collector.timings import Timings
from services.collector.upkeep import Upkeep
from shared.bus import Bus, open_bus
from shared.config import load_document
from shared.contracts.benchmarks_file import load_benchmarks
from shared.errors import ConfigError, TransientError
from shared.http import HttpDoor
from shared.reading import watch_ears
from shared.service import run_until
from shared.store.migrations import migrate

WRITERS = 2
"""Batches that are written at once: one is copied while the other's commit reaches the disk."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Readiness:
    """Why the collector is not ready, asked of those who know."""

    def __init__(self) -> None:
        self.opening = "starting"
        self.bus: Bus | None = None
        self.stores: list[Timescale | FrameStore] = []
        self.timings: Timings | None = None
        self.announcer: Announcer | None = None

    def reasons(self) -> list[str]:
        found = [self.opening, *(store.problem for store in self.stores)]
        if self.bus is not None and not self.bus.connected:
            found.append("NATS is not connected")
        found += [part.problem for part in (self.timings, self.announcer) if part is not None]
        return [reason for reason in found if reason]


async def serve(settings: CollectorSettings, stop: asyncio.Event) -> None:
    """Run until ``stop``. Raises ``ConfigError`` for bad configuration, ``TooManyDeadError`` past that limit."""
    dsn = _checked_dsn(settings.store_dsn)
    resource_config = load_document(Resources, settings.config_dir / "resources.yaml")
    benchmarks = load_benchmarks(settings.benchmarks_path, settings.environment).benchmarks
    ready = Readiness()
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(_store(dsn, purpose))
            for purpose in ("spans", "control", "resources", "upkeep", *["frames"] * WRITERS)
        ]
        spans, control, resources, tended, *frames = stores
        frame_store = FrameStore(*frames)
        # A connection that failed once and was not needed since is no reason: the batch went through another.
        ready.stores = [spans, control, resources, tended, frame_store]
        upkeep = Upkeep(tended, settings.keeping)
        mark = round(settings.span_queue * settings.span_sample_above)
        tally = SpanTally(named_in(benchmarks))
        span_door = SpanDoor(spans, SpanQueue(settings.span_queue, mark, settings.spans_per_second), tally)
        door = await stack.enter_async_context(
            HttpDoor(settings.http_host, settings.http_port, ready.reasons, span_door.routes)
        )
        logger.info("listening on %s", door.url)
        if await _unless(stop, _prepare_store(dsn, upkeep, ready)) is None:
            return
        ready.opening = "NATS is not reachable yet"
        bus = await _unless(
            stop, stack.enter_async_context(open_bus(settings.nats_url, settings.environment, "collector"))
        )
        if bus is None:
            return
        ready.bus = bus
        dead = DeadLetters(bus, DeadLimit(settings.dead_letters_per_minute))
        await dead.recall()
        control_plane = ControlPlane(bus, control, dead)
        timings = ready.timings = Timings(bus, ack_wait_s=settings.ack_wait_s, max_ack_pending=settings.max_ack_pending)
        announcer = ready.announcer = Announcer(bus)
        pipeline = Pipeline(
            timings,
            frame_store,
            announcer,
            dead,
            limits=BatchLimits(settings.batch_events, settings.batch_bytes, settings.batch_age_s),
            admission=Admission(settings.oldest_event_s, settings.max_event_ahead_s),
        )
        await bus.broker.start()
        ready.opening = ""
        logger.info("ready")
        flowing = asyncio.ensure_future(pipeline.run())
        writing = asyncio.ensure_future(span_door.write())
        tasks = [_through(flowing), _through(writing), control_plane.watch(), watch_ears(bus), upkeep.run()]
        tasks += [watch_depth(bus), SpanAnnouncer(bus, tally).announce()]
        outbox = Outbox(bus, resources)
        made = make_sources(resource_config, settings.platform_url, settings.scrape_interval_s)
        tasks += [outbox.write(), *(Sampler(source, bus, outbox, every_s).run() for source, every_s in made)]
        try:
            await run_until(stop, tasks)
        finally:
            ready.opening = "stopping"
            pipeline.stop_intake()
            span_door.close()
            await _drain([flowing, writing], settings.drain_timeout_s)
            await timings.close()


def _checked_dsn(dsn: str) -> str:
    """The DSN with a bound on connecting; ``ConfigError``, which does not repeat it, when it is none."""
    try:
        return make_conninfo(dsn, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            "TIDEGATE_STORE_DSN is no PostgreSQL connection string; write e.g. postgresql://user:password@host:5432/name"
        ) from error


async def _drain(tasks: list[asyncio.Future[None]], deadline_s: float) -> None:
    """Let these end by themselves, and past the deadline end them; what they had in hand comes again."""
    _, late = await asyncio.wait(tasks, timeout=deadline_s)
    for task in late:
        logger.warning("not drained within %g s: what is unfinished will be delivered again", deadline_s)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _through(task: asyncio.Future[None]) -> None:
    """Wait for a task that outlives this wait: it is drained at the end, not cancelled."""
    await asyncio.shield(task)


async def _prepare_store(dsn: str, upkeep: Upkeep, ready: Readiness) -> bool:
    """Migrate and make what the first row needs, for as long as it takes the store to be there."""
    attempt = 0
    while True:
        try:
            schema = await asyncio.to_thread(migrate, dsn)
            await upkeep.begin(schema.side)
        except (psycopg.OperationalError, TransientError) as error:
            attempt += 1
            reason = " ".join(str(error).split())
            if ready.opening == "starting":
                logger.warning("store not reachable yet: %s", reason)
            ready.opening = f"store not reachable yet: {reason}"
            await asyncio.sleep(backoff.delay_s(attempt, random.random()))
            continue
        logger.info("store at version %d on %s", schema.version, schema.side)
        return True


@contextlib.asynccontextmanager
async def _store(dsn: str, purpose: str) -> AsyncIterator[Timescale]:
    store = Timescale(dsn, purpose)
    try:
        yield store
    finally:
        await store.close()


async def _unless(stop: asyncio.Event, opening: Awaitable[T]) -> T | None:
    """What is opened, or None when it is time to stop before that."""
    task = asyncio.ensure_future(opening)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for pending in (task, stopped):
            pending.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
