"""Frames to JetStream: in order, some at once, each acknowledged before it is forgotten, in memory, then on disk."""

import asyncio
import contextlib
import logging
import random
from collections import defaultdict, deque
from itertools import islice
from pathlib import Path

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from services.generator.backpressure import Backpressure
from services.generator.spool import Parcel, Spool
from shared import metrics
from shared.clock import wall_us
from shared.contracts.frame import Frame, encode
from shared.errors import TransientError
from shared.subjects import Subjects

# How many are on their way at once: a worker whose loop takes 20 ms a turn publishes far more than 12 a second.
AT_ONCE = 32
CONTENT_TYPE = "application/x-tidegate-frame"
logger = logging.getLogger(__name__)


class Publisher:
    """Publishes parcels of one run in the order they were cut.

    ``acknowledged`` counts events per system that the broker has kept, ``last_seq`` the last such frame. While the
    broker is away or refuses (its stream is full), parcels wait in memory up to a limit, then on disk, and in memory
    again where the disk refuses too; nothing is dropped.
    """

    def __init__(self, js: JetStreamContext, subjects: Subjects, spool_path: Path, memory_limit_bytes: int) -> None:
        self._js, self._subjects = js, subjects
        self._queue: deque[Parcel] = deque()
        self._queued_bytes = 0
        self._limit = memory_limit_bytes
        self._spool_path = spool_path
        self._spool = Spool(spool_path)
        self._tail: deque[Parcel] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._jitter = random.Random()
        self.acknowledged: dict[str, int] = defaultdict(int)
        self.last_seq: dict[str, int] = defaultdict(int)
        self.last_ack_us = wall_us()
        self.backlog_events = 0
        self.refusals = 0
        self.backpressure = Backpressure()

    @property
    def spooled_events(self) -> int:
        return self._spool.events

    @property
    def unspooled_bytes(self) -> int:
        """What memory holds because the disk refused it."""
        return sum(len(parcel.body) for parcel in self._tail)

    @property
    def idle(self) -> bool:
        return self._idle.is_set()

    def put(self, frame: Frame) -> None:
        """Take over a frame; returns at once."""
        identity = frame.id
        self._accept(
            Parcel(
                self._subjects.timing(identity.run, identity.system),
                f"{identity.run}/{identity.worker}/{identity.epoch}/{identity.system}/{identity.seq}",
                len(frame.events),
                identity.seq,
                identity.system,
                encode(frame),
            )
        )

    def _accept(self, parcel: Parcel) -> None:
        self.backlog_events += parcel.events
        metrics.EVENT_BACKLOG.inc(parcel.events)
        self._idle.clear()
        if self._tail:
            self._tail.append(parcel)
        elif self._spool.empty and self._queued_bytes + len(parcel.body) <= self._limit:
            self._queue.append(parcel)
            self._queued_bytes += len(parcel.body)
        else:
            try:
                self._spool.append(parcel)
                metrics.EVENTS_SPOOLED.inc(parcel.events)
            except OSError as error:
                logger.error("cannot spool to %s (%s); frames stay in memory", self._spool_path, error)  # noqa: TRY400
                self._tail.append(parcel)
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        delay_s = 0.05
        while True:
            if not self._queue and self._spool.empty:
                self._queue, self._tail = self._tail, self._queue
                self._queued_bytes = sum(len(parcel.body) for parcel in self._queue)
            parcels = list(islice(self._queue, AT_ONCE)) if self._queue else self._spool.peek(AT_ONCE)
            if not parcels:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            failed = await self._publish(parcels)
            if failed is None:
                delay_s = 0.05
                self.backpressure.taken(wall_us())
                continue
            self.refusals += 1
            self.backpressure.refused(wall_us(), self.backlog_events, self.spooled_events)
            if self.refusals in (1, 10) or self.refusals % 100 == 0:
                logger.warning("a frame of %s was not acknowledged (%s); kept, tried again", parcels[0].subject, failed)
            if not self._spool.empty:
                await asyncio.to_thread(self._sync, self._spool)
            await asyncio.sleep(delay_s * self._jitter.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, 2.0)

    async def _publish(self, parcels: list[Parcel]) -> TransientError | None:
        """Forget those that were acknowledged up to the first that was not; why it was not.

        Those after it are published again: the broker and the collector know a frame they have.
        """
        in_memory = bool(self._queue)
        outcomes = await asyncio.gather(*(publish(self._js, parcel) for parcel in parcels), return_exceptions=True)
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            if isinstance(outcome, TransientError):
                return outcome
            if outcome is not None:
                raise outcome
            self._forget(parcel, in_memory=in_memory)
        return None

    def _forget(self, parcel: Parcel, *, in_memory: bool) -> None:
        if in_memory:
            self._queue.popleft()
            self._queued_bytes -= len(parcel.body)
        else:
            self._spool.drop()
            metrics.EVENTS_SPOOLED.dec(parcel.events)
        self.backlog_events -= parcel.events
        metrics.EVENT_BACKLOG.dec(parcel.events)
        self.acknowledged[parcel.system] += parcel.events
        self.last_seq[parcel.system] = parcel.seq
        self.last_ack_us = wall_us()
        metrics.EVENTS_ACKNOWLEDGED.inc(parcel.events)

    def _sync(self, spool: Spool) -> None:
        try:
            spool.sync()
        except (OSError, ValueError) as error:
            logger.error("what is in %s might not survive a loss of power: %s", self._spool_path, error)  # noqa: TRY400

    async def drain(self, deadline_s: float) -> None:
        """Wait until everything is acknowledged or the deadline has passed; ``idle`` tells which."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), deadline_s)

    def keep(self) -> None:
        """Put what memory still holds on disk and let go of it: another publishes it (``leftovers``)."""
        metrics.EVENT_BACKLOG.dec(self.backlog_events)
        metrics.EVENTS_SPOOLED.dec(self._spool.events)
        self.backlog_events = 0
        # The queue is older than the spool; in a file of its own, whose name sorts first, it stays so.
        older = Spool(self._spool_path.with_name(f"{self._spool_path.stem}-.spool"))
        for waiting, spool in ((self._queue, older), (self._tail, self._spool)):
            try:
                while waiting:
                    spool.append(waiting[0])
                    waiting.popleft()
            except OSError as error:
                events = sum(parcel.events for parcel in waiting)
                logger.error("%d events are lost: cannot spool to %s: %s", events, self._spool_path, error)  # noqa: TRY400
            self._sync(spool)
            spool.close()


async def publish(js: JetStreamContext, parcel: Parcel) -> None:
    """Publish one parcel and await its acknowledgement; ``TransientError`` with the reason otherwise."""
    headers = {"Nats-Msg-Id": parcel.message_id, "Content-Type": CONTENT_TYPE}
    try:
        await js.publish(parcel.subject, parcel.body, timeout=2.0, headers=headers)
    except (NatsError, APIError, TimeoutError, OSError) as error:
        raise TransientError(str(error) or type(error).__name__) from error
