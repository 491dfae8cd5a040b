"""From TIMINGS to the store to WINDOWS, in four stages that work at once on four batches:

    intake (pull, decode) ─▶ prepare (names, rows) ─▶ commit (until stored) ─▶ announce (windows, then acknowledge)

Between two stages stands one batch at most, so a slow store slows the pulls and memory stays bounded. A frame is
acknowledged last; whatever ends the process before that only causes a redelivery (docs/decisions/0005).
"""

import asyncio
import logging
import random
import time
from dataclasses import dataclass

from services.collector import backoff
from services.collector.admission import Admission
from services.collector.announcer import Announcer
from services.collector.batching import Batch, BatchLimits
from services.collector.dead_letters import DeadLetters
from services.collector.frame_store import FrameStore, Prepared
from services.collector.measures import Measures
from services.collector.timings import FETCH_MOST, Delivery, Timings
from services.collector.windows import Measured
from shared import metrics
from shared.clock import wall_us
from shared.contracts.frame import Frame, FrameError, decode
from shared.errors import TransientError
from shared.service import end_all

IDLE_S = 0.2
"""A pull lasts at most so long, and with it a stop."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded frame and the message it came in."""

    delivery: Delivery
    frame: Frame
    measures: Measures


FrameBatch = Batch[Received]
Ready = tuple[FrameBatch, Prepared | None]
"""None: to be prepared again, since the store was away."""
Writing = tuple[FrameBatch, asyncio.Task[None]]
"""A batch, and what ends when it is stored."""


class Pipeline:
    """``run`` until ``stop_intake`` and everything in hand is through."""

    def __init__(
        self,
        timings: Timings,
        store: FrameStore,
        announcer: Announcer,
        dead: DeadLetters,
        *,
        limits: BatchLimits,
        admission: Admission,
    ) -> None:
        self._timings = timings
        self._store = store
        self._announcer = announcer
        self._dead = dead
        self._limits = limits
        self._admission = admission
        self._closing = False
        self._to_prepare: asyncio.Queue[FrameBatch | None] = asyncio.Queue(1)
        self._to_commit: asyncio.Queue[Ready | None] = asyncio.Queue(1)
        self._to_announce: asyncio.Queue[Writing | None] = asyncio.Queue(1)
        self._writing: set[asyncio.Task[None]] = set()

    def stop_intake(self) -> None:
        """Pull no more; ``run`` ends when what was pulled is acknowledged."""
        self._closing = True

    async def run(self) -> None:
        """Raises ``TooManyDeadError``, or what is a bug; in both cases nothing unfinished is acknowledged."""
        keeper = asyncio.ensure_future(self._timings.keep_deadlines())
        stages = [
            asyncio.ensure_future(stage()) for stage in (self._take_in, self._prepare, self._commit, self._announce)
        ]
        try:
            await asyncio.wait(stages, return_when=asyncio.FIRST_EXCEPTION)
            for stage in stages:
                if stage.done():
                    stage.result()
        finally:
            await end_all([keeper, *stages, *self._writing])

    async def _take_in(self) -> None:
        batch = FrameBatch(self._limits)
        while not self._closing:
            # The first frame of a batch is taken as soon as it is there; then as many as come while it is young.
            most = FETCH_MOST if batch.items else 1
            deliveries = await self._timings.fetch(most, min(batch.patience_s(time.monotonic(), IDLE_S), IDLE_S))
            for delivery in deliveries:
                if (received := await self._admit(delivery)) is not None:
                    events = len(received.frame.events)
                    batch.add(received, events, len(delivery.msg.data), time.monotonic())
                if batch.full:
                    await self._to_prepare.put(batch)
                    batch = FrameBatch(self._limits)
                await asyncio.sleep(0)  # decoding many at once would keep the other stages waiting
            if batch.due(time.monotonic()):
                await self._to_prepare.put(batch)
                batch = FrameBatch(self._limits)
        if batch.items:
            await self._to_prepare.put(batch)
        await self._to_prepare.put(None)

    async def _admit(self, delivery: Delivery) -> Received | None:
        """The frame with its measures; None when it went to DEAD."""
        received = self._receive(delivery)
        if isinstance(received, Received):
            return received
        await self._dead.bury(
            subject=delivery.msg.subject,
            stream=self._timings.stream,
            sequence=delivery.sequence,
            body=delivery.data,
            reason=received,
        )
        await self._timings.settle([delivery])
        return None

    def _receive(self, delivery: Delivery) -> Received | str:
        """The frame with its measures, or why it cannot be stored."""
        try:
            frame = decode(delivery.data)
        except FrameError as error:
            return str(error)
        measures = Measures.of(frame)
        return self._admission.refuse(frame, measures, wall_us()) or Received(delivery, frame, measures)

    async def _prepare(self) -> None:
        while (batch := await self._to_prepare.get()) is not None:
            try:
                prepared = await self._store.prepare(_measured(batch))
            except TransientError:
                prepared = None  # the next stage knows how to wait
            await self._to_commit.put((batch, prepared))
        await self._to_commit.put(None)

    async def _commit(self) -> None:
        """As many at once as the store has connections; they are announced in their order all the same."""
        while (ready := await self._to_commit.get()) is not None:
            writing = asyncio.create_task(self._store_batch(*ready))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
            await self._to_announce.put((ready[0], writing))
        await self._to_announce.put(None)

    async def _store_batch(self, batch: FrameBatch, prepared: Prepared | None) -> None:
        attempt = 0
        while True:
            try:
                with metrics.COMMIT_SECONDS.time():
                    stored = await self._store.write(prepared or await self._store.prepare(_measured(batch)))
            except TransientError:
                # Its ids may be gone with the store.
                prepared = None
                attempt += 1
                metrics.STORE_RETRIES.inc()
                await asyncio.sleep(backoff.delay_s(attempt, random.random()))
                continue
            metrics.FRAMES_STORED.inc(stored.frames)
            metrics.EVENTS_STORED.inc(stored.events)
            metrics.FRAMES_REDELIVERED.inc(stored.redelivered)
            if full := [received.frame for received in batch.items if len(received.frame.events)]:
                metrics.BATCH_EVENTS.observe(sum(len(frame.events) for frame in full))
                # Frames come in order, so the first has waited longest.
                metrics.STORED_LAG_SECONDS.observe(max(0.0, (wall_us() - int(full[0].done_wall_us.min())) / 1e6))
            return

    async def _announce(self) -> None:
        while (item := await self._to_announce.get()) is not None:
            batch, writing = item
            await writing
            await self._announcer.announce(_measured(batch))
            await self._timings.settle(received.delivery for received in batch.items)


def _measured(batch: FrameBatch) -> list[Measured]:
    return [(received.frame, received.measures) for received in batch.items]
