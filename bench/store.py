"""What reading costs and whether it is true: percentiles against the rows, a report's queries on a large run, a month
of canary load, and the bytes that TimescaleDB needs for an event.

Frames are written by the collector's own ``FrameStore``, without a broker: the store is what is measured.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from bench.bars import Bar
from bench.frames import Load
from bench.store_rig import StoreRig, store_rig
from bench.timescale import timescale
from services.collector.frame_store import FrameStore
from services.collector.measures import Measures
from services.collector.timescale import Timescale
from services.validator.facts import Observed
from services.validator.timescale import Store
from shared.contracts.base import utc_of_us
from shared.contracts.frame import Frame
from shared.contracts.run import Phase, RunState
from shared.store import upkeep_postgres
from shared.store.ingest import prune_frames
from shared.store.keeping import FRAMES_KEPT, Keeping
from shared.store.results import PERCENTILES, read_results
from tests.integration.fleet import desired

EVENTS = int(os.environ.get("TIDEGATE_BENCH_EVENTS", "5_000_000"))
LARGE = int(os.environ.get("TIDEGATE_BENCH_LARGE", "20_000_000"))
DAYS = int(os.environ.get("TIDEGATE_BENCH_DAYS", "30"))
COMPRESSED = int(os.environ.get("TIDEGATE_BENCH_COMPRESSED", "400_000"))
FRAMES_A_BATCH, BATCHES_A_FOLD = 32, 30
CANARY_RATE, CANARY_FRAME_S = 5.0, 5.0
DAY = timedelta(days=1)


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o755)
        with store_rig(Path(folder)) as rig:
            bars = asyncio.run(_percentiles(rig))
            bars += asyncio.run(_large(rig))
            bars += asyncio.run(_canary(rig))
        return [*bars, *asyncio.run(_compressed(Path(folder)))]


class Filler:
    """Writes frames as a collector does, folds as one does."""

    def __init__(self, store: Timescale) -> None:
        self.store, self.frames = store, FrameStore(store)

    async def write(self, frames: Iterable[Frame], *, fold: bool = True) -> None:
        batch: list[Frame] = []
        for number, frame in enumerate(frames, 1):
            batch.append(frame)
            if len(batch) == FRAMES_A_BATCH:
                await self._write(batch)
                batch = []
            if fold and number % (FRAMES_A_BATCH * BATCHES_A_FOLD) == 0:
                await self.fold(datetime.now(UTC))
        if batch:
            await self._write(batch)

    async def _write(self, batch: list[Frame]) -> None:
        await self.frames.write(await self.frames.prepare([(frame, Measures.of(frame)) for frame in batch]))

    async def fold(self, now: datetime) -> None:
        async with self.store.transaction() as connection:
            await upkeep_postgres.fold(connection, now)

    async def tend(self, now: datetime) -> None:
        async with self.store.transaction() as connection:
            await upkeep_postgres.tend(connection, Keeping(), now)


@asynccontextmanager
async def filler(dsn: str) -> AsyncIterator[Filler]:
    store = Timescale(dsn, "bench")
    try:
        yield Filler(store)
    finally:
        await store.close()


async def _percentiles(rig: StoreRig) -> list[Bar]:
    dsn = rig.fresh_database("percentiles")
    async with filler(dsn) as fill:
        await fill.tend(datetime.now(UTC))
        await fill.write(Load(rate=50_000).frames(EVENTS))
    worst = 0.0
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        series = {one.series_id: one for one in (await read_results(connection, "bench-1")).series}
        qs = list(PERCENTILES.values())
        for of, column in (("service", "service_us"), ("response", "service_us + dispatch_us")):
            rows = await connection.execute(
                f"SELECT series_id, percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY {column}) "  # noqa: S608
                "FROM request_timing GROUP BY ROLLUP (series_id)".encode(),
                (qs,),
            )
            for series_id, exact in await rows.fetchall():
                if series_id is None:
                    told = await _over_all(connection, of, qs)
                else:
                    told = [getattr(series[series_id], of).percentiles[name] * 1e3 for name in PERCENTILES]
                worst = max(worst, *(abs(one / true - 1) for one, true in zip(told, exact, strict=True)))
    how = f"{EVENTS:,} rows, per action and over all, p50 to p99.9; make bench BENCH=store"
    return [Bar("percentiles of histograms off percentile_disc by at most", worst, 0.01, "", how)]


async def _over_all(connection: psycopg.AsyncConnection[Any], of: str, qs: list[float]) -> list[float]:
    rows = await connection.execute(
        f"SELECT histogram_percentile_us(h, q) FROM (SELECT histogram_sum({of}) AS h FROM timing_hour) AS t, "  # noqa: S608
        "unnest(%s::float8[]) WITH ORDINALITY AS u(q, n) ORDER BY n".encode(),
        (qs,),
    )
    return [value for (value,) in await rows.fetchall()]


async def _large(rig: StoreRig) -> list[Bar]:
    """Everything a report reads of a run of half an hour at a high rate."""
    dsn = rig.fresh_database("large")
    load = Load(rate=10_000)
    load.began_us -= int(LARGE / load.rate * 1e6)
    async with filler(dsn) as fill:
        await fill.tend(datetime.now(UTC))
        await fill.write(load.frames(LARGE))
    began, ended = utc_of_us(load.began_us), utc_of_us(load.began_us + int(LARGE / load.rate * 1e6))
    took = [await _gather(dsn, load.run, began, ended) for _ in range(5)]
    how = f"{LARGE:,} events, medians of 5; make bench BENCH=store"
    return [Bar("everything a report reads of a large run", sorted(took)[2], 1.0, "s", how)]


async def _gather(dsn: str, run: str, began: datetime, ended: datetime) -> float:
    asked = desired("http://127.0.0.1:1", "bench", run=run, duration_s=(ended - began).total_seconds())
    state = RunState(
        run=run, environment="bench", phase=Phase.FINISHED, generation=1, at=ended, coordinator="w1",
        started_at=began, ended_at=ended,
    )  # fmt: skip
    start = time.monotonic()
    facts = await Store(dsn).gather(asked, state, Observed(), {})
    took = time.monotonic() - start
    print(
        f"  gathered {sum(series.stored for series in facts.series):,} events, {len(facts.timeline)} points of "
        f"{facts.step_s} s in {took:.2f} s",
        flush=True,
    )
    return took


async def _canary(rig: StoreRig) -> list[Bar]:
    """A month at five requests a second, day by day: each day's rows, then its upkeep, as if that day were today."""
    dsn = rig.fresh_database("canary")
    first = datetime.now(UTC) - DAYS * DAY
    per_frame, a_day = int(CANARY_RATE * CANARY_FRAME_S), int(CANARY_RATE * 86_400)
    load = Load(rate=CANARY_RATE, per_frame=per_frame, began_us=int(first.timestamp() * 1e6))
    frames = load.frames(a_day * DAYS)
    sizes, chunks, times = [], [], []
    async with filler(dsn) as fill:
        for day in range(1, DAYS + 1):
            now = first + day * DAY
            await fill.tend(now)
            await fill.write((next(frames) for _ in range(a_day // per_frame)), fold=False)
            await fill.fold(datetime.now(UTC))
            async with fill.store.transaction() as connection:
                await connection.execute("UPDATE frames SET committed_at = %s WHERE committed_at > %s", (now, first))
                await prune_frames(connection, now - FRAMES_KEPT)
            if day % 5 == 0:
                rig.query("VACUUM ANALYZE")
                sizes.append(rig.query("SELECT pg_database_size(current_database())")[0][0] / 1e6)
                chunks.append(rig.query("SELECT count(*) FROM pg_inherits")[0][0])
                times.append(await _gather(dsn, load.run, first, now))
                print(
                    f"  day {day}: {sizes[-1]:.0f} MB, {chunks[-1]} partitions, report in {times[-1]:.2f} s", flush=True
                )
    how = f"{DAYS} days at {CANARY_RATE:g} requests/s, {a_day * DAYS:,} events; make bench BENCH=store"
    half = len(sizes) // 2
    return [
        Bar("a month of canary load in the store", sizes[-1], 2_000, "MB", how),
        Bar("growth of the store from its middle to its end", sizes[-1] / sizes[half], 1.1, "times", how),
        Bar("growth of partitions from its middle to its end", chunks[-1] / chunks[half], 1.1, "times", how),
        Bar("everything a report reads of the month", times[-1], 1.0, "s", how),
    ]


async def _compressed(folder: Path) -> list[Bar]:
    """Bytes of an event on TimescaleDB once its chunk is compressed: all columns, 1 % with a trace."""
    with timescale(folder) as dsn:
        if dsn is None:
            return []
        load = Load(rate=10_000)
        load.began_us -= int(2 * DAY.total_seconds() * 1e6)
        async with filler(dsn) as fill:
            await fill.write(load.frames(COMPRESSED), fold=False)
            async with fill.store.transaction() as connection:
                await connection.execute("SELECT compress_chunk(c) FROM show_chunks('request_timing') AS c")
            async with fill.store.transaction() as connection:
                row = await (
                    await connection.execute(
                        "SELECT after_compression_total_bytes::float8, before_compression_total_bytes::float8 "
                        "FROM hypertable_compression_stats('request_timing')"
                    )
                ).fetchone()
        assert row is not None
    how = f"{COMPRESSED:,} events, from {row[1] / COMPRESSED:.0f} bytes; make bench BENCH=store"
    return [Bar("bytes of an event on TimescaleDB, compressed", row[0] / COMPRESSED, 20, "bytes", how)]
