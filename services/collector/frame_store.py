"""Batches of frames into the store, each frame exactly once: names to ids, rows built ahead, one transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from services.collector.copy_rows import HEADER, TRAILER, build_rows
from services.collector.measures import Measures
from services.collector.rollups import parts_of
from services.collector.timescale import Timescale
from services.collector.traces import traces_of
from services.collector.windows import Measured
from shared.contracts.base import utc_of_us
from shared.contracts.frame import Frame
from shared.errors import TransientError
from shared.store import ingest

Key = tuple[int, int]
"""producer, seq"""


@dataclass(frozen=True, slots=True)
class Named:
    """A frame with the store's ids of its producer and of its actions (in the order of its table), and what it adds."""

    frame: Frame
    measures: Measures
    producer_id: int
    series_ids: list[int]
    rows: bytes
    traces: list[ingest.RequestTrace]

    @property
    def key(self) -> Key:
        return self.producer_id, self.frame.id.seq


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch that is ready to be written: each frame once, and what all of them add to the roll-ups."""

    frames: dict[Key, Named]
    parts: list[ingest.TimingPart]
    redelivered: int
    names: int
    """Which resolution of names its ids come from."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one batch added; ``redelivered`` frames were already there."""

    frames: int
    events: int
    redelivered: int


class FrameStore:
    """Keeps the ids of names it has resolved. ``problem``: why its last transaction failed, empty after a success.

    With several connections as many batches may be written at once: while one waits for its commit to reach the disk,
    another is copied.
    """

    def __init__(self, *stores: Timescale) -> None:
        self._free: asyncio.Queue[Timescale] = asyncio.Queue()
        for store in stores:
            self._free.put_nowait(store)
        self._series: dict[ingest.SeriesKey, int] = {}
        self._producers: dict[ingest.ProducerKey, int] = {}
        self._names = 0
        self.problem = ""

    async def prepare(self, batch: Sequence[Measured]) -> Prepared:
        """Everything of a batch that can be done before its transaction. Raises ``TransientError``."""
        await self._resolve([frame for frame, _ in batch])
        # A transaction that fails meanwhile begins with new ones.
        series, producers, names = self._series, self._producers, self._names
        named: dict[Key, Named] = {}
        for frame, measures in batch:
            producer_id = producers[_producer_key(frame)]
            series_ids = [series[key] for key in _series_keys(frame)]
            rows = build_rows(frame, measures, producer_id, series_ids)
            traces = traces_of(frame, measures, series_ids)
            found = Named(frame, measures, producer_id, series_ids, rows, traces)
            named[found.key] = found
            await asyncio.sleep(0)  # a COPY of the batch before is waiting to be fed
        return Prepared(named, _parts(named.values()), len(batch) - len(named), names)

    async def write(self, prepared: Prepared) -> Stored:
        """Commit those of these frames that are new, with their rows and counters, in one transaction.

        Raises ``TransientError``; then it is unknown whether it was committed, and preparing and writing the same
        again is right.
        """
        if prepared.names != self._names:
            raise TransientError("the store failed after the names of this batch were resolved")
        async with self._transaction() as connection:
            return await _write(connection, prepared)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        store = await self._free.get()
        try:
            async with store.transaction() as connection:
                yield connection
            self.problem = ""
        except TransientError as error:
            self.problem = str(error)
            # What the ids referred to may be gone with a store that was replaced.
            self._series, self._producers = {}, {}
            self._names += 1
            raise
        finally:
            self._free.put_nowait(store)

    async def _resolve(self, frames: Sequence[Frame]) -> None:
        every_series = {key for frame in frames for key in _series_keys(frame)}
        every_producer = {_producer_key(frame) for frame in frames}
        # Again where those known before were forgotten meanwhile, since another batch failed.
        while (series := every_series - self._series.keys()) | (producers := every_producer - self._producers.keys()):
            names = self._names
            # In a transaction of its own: an id in the cache must be one that is committed.
            async with self._transaction() as connection:
                found = await ingest.resolve_series(connection, series)
                made = await ingest.resolve_producers(connection, producers)
            if names == self._names:
                self._series |= found
                self._producers |= made


async def _write(connection: AsyncConnection[Any], prepared: Prepared) -> Stored:
    frames = prepared.frames
    claimed = await ingest.claim_frames(connection, [(*key, len(named.frame.events)) for key, named in frames.items()])
    new = [frames[key] for key in sorted(claimed)]
    events = sum(len(named.frame.events) for named in new)
    if events:
        await ingest.copy_timings(connection, [HEADER, *(named.rows for named in new), TRAILER])
    if new:
        # Redelivered frames are rare: what was counted ahead holds for all other batches.
        parts = prepared.parts if len(new) == len(frames) else _parts(new)
        async with connection.pipeline():
            await ingest.add_parts(connection, parts)
            if traces := [trace for named in new for trace in named.traces]:
                await ingest.add_traces(connection, traces)
            await ingest.advance_producers(connection, _progress(new))
            await ingest.advance_sent(connection, _sent(new))
    return Stored(len(new), events, len(frames) - len(new) + prepared.redelivered)


def _parts(frames: Iterable[Named]) -> list[ingest.TimingPart]:
    return parts_of([(named.frame, named.measures, named.series_ids) for named in frames])


def _series_keys(frame: Frame) -> list[ingest.SeriesKey]:
    return [(frame.id.run, frame.id.system, state.scenario, state.action, int(state.kind)) for state in frame.actions]


def _producer_key(frame: Frame) -> ingest.ProducerKey:
    return frame.id.run, frame.id.worker, frame.id.epoch, frame.id.system


def _progress(frames: Sequence[Named]) -> list[ingest.Progress]:
    """The last frame of each producer with what all its frames add; ``frames`` come in the order of seq."""
    latest: dict[int, ingest.Progress] = {}
    for named in frames:
        before = latest.get(named.producer_id)
        latest[named.producer_id] = ingest.Progress(
            producer_id=named.producer_id,
            seq=named.frame.id.seq,
            final=named.frame.final or (before is not None and before.final),
            emitted_at=utc_of_us(named.frame.anchor_wall_us + named.frame.emitted_us),
            frames=1 + (before.frames if before else 0),
            events=len(named.frame.events) + (before.events if before else 0),
        )
    return list(latest.values())


def _sent(frames: Sequence[Named]) -> list[ingest.Sent]:
    """The last word of each producer on each series; ``frames`` come in the order of seq."""
    latest = {
        (named.producer_id, series): ingest.Sent(
            named.producer_id, series, named.frame.id.seq, state.sent, state.in_flight, state.waiting
        )
        for named in frames
        for series, state in zip(named.series_ids, named.frame.actions, strict=True)
    }
    return list(latest.values())
