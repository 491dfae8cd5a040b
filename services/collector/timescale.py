"""The store as the collector sees it: one lazily opened connection per purpose, transactions, faults by type.

Everything that is the store's fault or passes by itself leaves here as ``TransientError`` and costs the connection;
everything else is a bug or bad data and leaves as psycopg raised it. SQL stands in ``shared.store``.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors

from services.collector.copy_rows import NamedFrame, build_copy
from shared.contracts.base import utc_of_us
from shared.contracts.frame import Frame
from shared.errors import TransientError
from shared.store import ingest

TRANSACTION_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5
PARTITION_DAYS_AHEAD = 2
# TIMINGS keeps seven days: no frame is delivered again after that.
FRAMES_KEPT = timedelta(days=8)

_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    # The row of a name we remember is gone: it is made again at the next try.
    errors.ForeignKeyViolation,
    TimeoutError,
)

logger = logging.getLogger(__name__)


class Timescale:
    """One connection. Callers take turns; ``problem`` is why the last transaction failed, empty after a success."""

    def __init__(self, dsn: str, purpose: str) -> None:
        self._dsn = dsn
        self._purpose = purpose
        self._connection: AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()
        self.problem = ""

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction that commits at the end of the block. Raises ``TransientError`` when the store is away."""
        async with self._turn:
            try:
                async with asyncio.timeout(TRANSACTION_TIMEOUT_S):
                    connection = await self._connected()
                    async with connection.transaction():
                        yield connection
            except _PASSING as error:
                await self._drop()
                reason = " ".join(str(error).split()) or type(error).__name__
                if not self.problem:
                    logger.warning("store (%s): %s", self._purpose, reason)
                self.problem = f"store ({self._purpose}): {reason}"
                raise TransientError(self.problem) from error
            if self.problem:
                logger.info("store (%s): back", self._purpose)
            self.problem = ""

    async def ensure_partitions(self, now: datetime) -> int:
        """Make the daily partitions around ``now``."""
        async with self.transaction() as connection:
            return await ingest.ensure_partitions(connection, now, PARTITION_DAYS_AHEAD)

    async def prune_frames(self, now: datetime) -> int:
        """Forget frame identities past the age of TIMINGS, with a day to spare."""
        async with self.transaction() as connection:
            return await ingest.prune_frames(connection, now - FRAMES_KEPT)

    async def _connected(self) -> AsyncConnection[Any]:
        if self._connection is None:
            self._connection = await AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                application_name=f"tidegate-collector-{self._purpose}",
                # A connection whose other end vanished is noticed without waiting for TCP's own hours.
                keepalives_idle=10,
                keepalives_interval=3,
                keepalives_count=3,
            )
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


@dataclass(frozen=True, slots=True)
class Stored:
    """What one batch added; ``redelivered`` frames were already there."""

    frames: int
    events: int
    redelivered: int


class FrameStore:
    """Writes batches of frames, each exactly once. Keeps the ids of names it has resolved."""

    def __init__(self, store: Timescale) -> None:
        self._store = store
        self._series: dict[ingest.SeriesKey, int] = {}
        self._producers: dict[ingest.ProducerKey, int] = {}

    async def write(self, frames: Sequence[Frame]) -> Stored:
        """Commit those of these frames that are new, with their rows and counters, in one transaction.

        Raises ``TransientError``; then it is unknown whether it was committed, and writing the same again is right.
        """
        try:
            await self._resolve(frames)
            async with self._store.transaction() as connection:
                return await self._write(connection, [self._named(frame) for frame in frames])
        except TransientError:
            # What the ids referred to may be gone with a store that was replaced.
            self._series.clear()
            self._producers.clear()
            raise

    async def _resolve(self, frames: Sequence[Frame]) -> None:
        series = {key for frame in frames for key in _series_keys(frame)} - self._series.keys()
        producers = {_producer_key(frame) for frame in frames} - self._producers.keys()
        if not series and not producers:
            return
        # In a transaction of its own: an id in the cache must be one that is committed.
        async with self._store.transaction() as connection:
            found = await ingest.resolve_series(connection, series)
            made = await ingest.resolve_producers(connection, producers)
        self._series |= found
        self._producers |= made

    def _named(self, frame: Frame) -> NamedFrame:
        return NamedFrame(
            frame, self._producers[_producer_key(frame)], [self._series[key] for key in _series_keys(frame)]
        )

    async def _write(self, connection: AsyncConnection[Any], frames: Sequence[NamedFrame]) -> Stored:
        once = {(named.producer_id, named.frame.id.seq): named for named in frames}
        claimed = await ingest.claim_frames(
            connection, [(producer, seq, len(named.frame.events)) for (producer, seq), named in once.items()]
        )
        new = [once[key] for key in sorted(claimed)]
        events = sum(len(named.frame.events) for named in new)
        if events:
            await ingest.copy_timings(connection, build_copy(new))
        if new:
            await ingest.advance_producers(connection, _progress(new))
            await ingest.advance_sent(connection, _sent(new))
        return Stored(frames=len(new), events=events, redelivered=len(frames) - len(new))


def _series_keys(frame: Frame) -> list[ingest.SeriesKey]:
    return [(frame.id.run, frame.id.system, state.scenario, state.action, int(state.kind)) for state in frame.actions]


def _producer_key(frame: Frame) -> ingest.ProducerKey:
    return frame.id.run, frame.id.worker, frame.id.epoch, frame.id.system


def _progress(frames: Sequence[NamedFrame]) -> list[ingest.Progress]:
    """The last frame of each producer; ``frames`` come in the order of seq."""
    latest = {
        named.producer_id: ingest.Progress(
            producer_id=named.producer_id,
            seq=named.frame.id.seq,
            final=named.frame.final,
            emitted_at=utc_of_us(named.frame.anchor_wall_us + named.frame.emitted_us),
        )
        for named in frames
    }
    return list(latest.values())


def _sent(frames: Sequence[NamedFrame]) -> list[ingest.Sent]:
    """The last word of each producer on each series; ``frames`` come in the order of seq."""
    latest = {
        (named.producer_id, series): ingest.Sent(
            named.producer_id, series, named.frame.id.seq, state.sent, state.in_flight, state.waiting
        )
        for named in frames
        for series, state in zip(named.series_ids, named.frame.actions, strict=True)
    }
    return list(latest.values())
