"""The store's named queries over real frames: what roll-ups say is what the rows say, bucket for bucket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from services.collector.frame_store import FrameStore
from services.collector.measures import Measures
from services.collector.timescale import Timescale
from shared.contracts.resource import ResourceSample
from shared.contracts.timing import ErrorKind, EventFlag
from shared.histogram import Histogram
from shared.store import comparisons, exports, upkeep_postgres
from shared.store.baselines import find_baseline, list_baselines, remove_baseline, set_baseline
from shared.store.keeping import Keeping
from shared.store.migrations import Side, migrate
from shared.store.samples import save_samples
from shared.store.series import HOUR, WINDOW, StepRow, find_grain, list_hours, list_series, read_steps
from shared.store.spans import SpanRow
from tests.unit.collector_frames import RUN, make_events, make_frame

pytestmark = pytest.mark.integration
OTHER = "another-run"
Connection = psycopg.AsyncConnection[Any]

ROWS = """
SELECT s.action, s.kind, date_bin('10 seconds', t.at, timestamptz '2000-01-01 00:00:00+00') AS step, t.error,
       t.flags & 2 <> 0 AS ramp_up, t.service_us, t.dispatch_us + t.service_us AS response_us, t.service_bucket,
       t.response_bucket
  FROM request_timing t JOIN series s USING (series_id) WHERE s.run = %s
"""
Row = tuple[Any, ...]


@asynccontextmanager
async def filled(dsn: str) -> AsyncIterator[Connection]:
    """A store with two runs: one over half a minute with failures, cancelled requests and ramp-up, a second shorter."""
    side = migrate(dsn).side
    adapter = Timescale(dsn, "test")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        async with connection.transaction():
            if side is Side.POSTGRES:
                await upkeep_postgres.tend(connection, Keeping(), datetime.now(UTC))
        frames = []
        for seq, run in enumerate((RUN, RUN, OTHER), start=1):
            events = make_events(600, seed=seq)
            events["intended_us"] = np.arange(600) * 50_000
            events["error"] = np.where(np.arange(600) % 9 == 0, ErrorKind.STATUS, ErrorKind.OK)
            events["error"][::50] = ErrorKind.CANCELLED
            events["error"][7::60] = ErrorKind.REFUSED
            events["flags"] = np.where(np.arange(600) < 100, EventFlag.RAMP_UP, 0)
            if run == OTHER:
                events["action"] = 0
            frames.append(make_frame(seq, events=events, run=run, anchor_wall_us=1_000_000 * (_now_s() - 60)))
        store = FrameStore(adapter)
        await store.write(await store.prepare([(frame, Measures.of(frame)) for frame in frames]))
        yield connection
    await adapter.close()


@pytest.fixture
async def connection(store_dsn: str) -> AsyncIterator[Connection]:
    """On plain PostgreSQL and on TimescaleDB."""
    async with filled(store_dsn) as opened:
        yield opened


def _now_s() -> int:
    return int(datetime.now(UTC).timestamp())


async def rows_of(connection: Connection, run: str = RUN) -> list[Row]:
    return await (await connection.execute(ROWS, (run,))).fetchall()


async def steps_of(connection: Connection, step: timedelta) -> list[StepRow]:
    ids = [item.series_id for item in await list_series(connection, RUN)]
    hours = await list_hours(connection, ids)
    assert sum(hour.n for hour in hours) == 1200
    return await read_steps(connection, ids, hours[0].at, hours[-1].at + HOUR, step)


async def test_steps_say_what_their_rows_say(connection: Connection) -> None:
    rows = await rows_of(connection)
    steps = await steps_of(connection, WINDOW)
    assert len(steps) == len({(row[0], row[2]) for row in rows}) > 6
    for step in steps:
        told = [row for row in rows if (row[0], row[2]) == (step.action, step.at)]
        failed = [row for row in told if row[3] not in (ErrorKind.OK, ErrorKind.CANCELLED)]
        cancelled = [row for row in told if row[3] == ErrorKind.CANCELLED]
        assert (step.count, step.failed, step.cancelled) == (len(told), len(failed), len(cancelled))
        assert step.in_ramp_up == sum(row[4] for row in told)
        assert step.service_mean_ms == pytest.approx(np.mean([row[5] for row in told]) / 1e3)
        assert step.response_max_ms == max(row[6] for row in told) / 1e3
        for of, bucket in (("service", 7), ("response", 8)):
            histogram = Histogram()
            for row in told:
                histogram.add(row[bucket])
            for q in (50, 90, 95, 99):
                value = histogram.percentile_us(q / 100)
                assert value is not None
                assert getattr(step, f"{of}_p{q}_ms") == pytest.approx(value / 1e3, rel=1e-12)


async def test_a_longer_step_holds_the_shorter_ones(connection: Connection) -> None:
    short, minutes, hours = [await steps_of(connection, step) for step in (WINDOW, timedelta(minutes=1), HOUR)]
    for long in (minutes, hours):
        assert len(long) < len(short)
        for figure in ("count", "failed", "cancelled", "in_ramp_up", "bytes_in", "bytes_out"):
            assert sum(getattr(row, figure) for row in long) == sum(getattr(row, figure) for row in short)
        assert max(row.response_max_ms for row in long) == max(row.response_max_ms for row in short)


async def test_windows_past_their_age_leave_the_hours(empty_postgres_dsn: str) -> None:
    async with filled(empty_postgres_dsn) as connection:
        before = await steps_of(connection, HOUR)
        ids = [item.series_id for item in await list_series(connection, RUN)]
        assert await find_grain(connection, ids) == WINDOW
        async with connection.transaction():
            await upkeep_postgres.fold(connection, datetime.now(UTC))
            await upkeep_postgres.tend(connection, Keeping(windows=timedelta(0)), datetime.now(UTC))
        assert await find_grain(connection, ids) == HOUR
        assert await steps_of(connection, HOUR) == before


async def test_rows_are_copied_out_as_they_are_stored(connection: Connection) -> None:
    ids = [item.series_id for item in await list_series(connection, RUN)]
    slices = exports.cut(await list_hours(connection, ids), rows=500)
    with psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True) as second:
        batches = [batch for part in slices for batch in exports.copy_timings(second, ids, part, rows=100)]
    copied = np.concatenate([[batch["service_us"], batch["dispatch_us"] + batch["service_us"]] for batch in batches], 1)
    assert sorted(zip(*copied.tolist(), strict=True)) == sorted((row[5], row[6]) for row in await rows_of(connection))
    traces = await (
        await connection.execute("SELECT count(trace_id) FROM request_timing WHERE series_id = ANY(%s)", (ids,))
    ).fetchone()
    assert traces
    assert sum(any(trace) for batch in batches for trace in batch["trace_id"].tolist()) == traces[0] > 0


async def test_compared_steps_hold_the_buckets_of_the_rows_from_wherever_they_come(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in await rows_of(connection) if not (row[4] or row[3] == ErrorKind.CANCELLED)]
    ids = [item.series_id for item in await list_series(connection, RUN)]
    fine = await comparisons.read_compared_steps(connection, ids)
    monkeypatch.setattr(comparisons, "ROWS_AT_MOST", 10)
    monkeypatch.setattr(comparisons, "STEPS_ENOUGH", 1)
    coarse = await comparisons.read_compared_steps(connection, ids)
    assert (fine.source, fine.step_s, coarse.source, coarse.step_s) == ("request_timing", 1, "timing_window", 10)
    for steps in (fine, coarse):
        assert int(steps.n.sum()) == len(rows)
        assert int(steps.failed.sum()) == sum(row[3] != ErrorKind.OK for row in rows)
        counted = np.bincount(steps.bucket, steps.n)
        assert counted.tolist() == np.bincount([row[8] for row in rows], minlength=len(counted)).tolist()
    starts = {int(row[2].timestamp()) // 10 for row in rows}
    assert set(coarse.step.tolist()) == starts == set((fine.step // 10).tolist())


async def test_compared_steps_of_rows_past_their_age_come_from_the_roll_ups(empty_postgres_dsn: str) -> None:
    async with filled(empty_postgres_dsn) as connection:
        ids = [item.series_id for item in await list_series(connection, RUN)]
        whole = await comparisons.read_compared_steps(connection, ids)
        await connection.execute("DELETE FROM request_timing WHERE ctid IN (SELECT ctid FROM request_timing LIMIT 900)")
        coarse = await comparisons.read_compared_steps(connection, ids)
        assert (coarse.source, int(coarse.n.sum())) == ("timing_window", int(whole.n.sum()))
        async with connection.transaction():
            await upkeep_postgres.fold(connection, datetime.now(UTC))
            await upkeep_postgres.tend(connection, Keeping(windows=timedelta(0)), datetime.now(UTC))
        hours = await comparisons.read_compared_steps(connection, ids)
        assert (hours.source, hours.step_s, int(hours.n.sum())) == ("timing_hour", 3600, int(whole.n.sum()))


async def test_figures_of_whole_runs_are_those_of_their_rows(connection: Connection) -> None:
    rows = [row for row in await rows_of(connection) if not (row[4] or row[3] == ErrorKind.CANCELLED)]
    found = await comparisons.read_figures(connection, [RUN, OTHER, "no-such-run"])
    assert {row.run for row in found} == {RUN, OTHER}
    for figure in (row for row in found if row.run == RUN):
        told = [row for row in rows if (row[0], row[1]) == (figure.action, figure.kind)]
        histogram = Histogram()
        for row in told:
            histogram.add(row[8])
        assert (figure.n, figure.failed) == (len(told), sum(row[3] != ErrorKind.OK for row in told))
        assert figure.p50_ms * 1e3 == pytest.approx(histogram.percentile_us(0.5))
        assert figure.p95_ms * 1e3 == pytest.approx(histogram.percentile_us(0.95))


async def test_spans_and_samples_are_those_of_the_run_and_its_environment(connection: Connection) -> None:
    ids = [item.series_id for item in await list_series(connection, RUN)]
    trace, at = UUID(int=7), datetime.now(UTC)
    await connection.execute("INSERT INTO request_trace VALUES (%s, %s, %s, 900)", (at, ids[0], trace))
    of_run = SpanRow(at - timedelta(seconds=1), trace, b"12345678", None, "shop", "GET /", 2, 900, 1, {"a": 1})
    await connection.cursor().executemany(
        "INSERT INTO spans VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            [*astuple(span)[:-1], Jsonb(span.attributes)]
            for span in (of_run, of_run, replace(of_run, trace_id=UUID(int=1)))
        ],
    )
    slices = exports.hourly(at - HOUR, at + HOUR)
    spans = [span async for page in exports.stream_spans(connection, ids, slices) for span in page]
    assert [(span["trace_id"], span["span_id"], span["attributes"]) for span in spans] == [
        (trace, b"12345678", '{"a": 1}')
    ]
    sample = ResourceSample(service="s", system="s", environment="here", instance="i", at=at, values={"a": 1, "b": 2})
    await save_samples(connection, [sample, sample.model_copy(update={"environment": "there"})])
    values = [value async for page in exports.stream_resources(connection, "here", slices) for value in page]
    assert [(value["at"], value["metric"], value["value"]) for value in values] == [(at, "a", 1.0), (at, "b", 2.0)]


async def test_the_newest_of_a_name_is_the_baseline(connection: Connection) -> None:
    assert await find_baseline(connection, "local", "main") is None
    for name, run in (("main", RUN), ("release-3", RUN), ("main", OTHER)):
        await set_baseline(connection, "local", name, run, by="ada")
    found = await find_baseline(connection, "local", "main")
    assert found is not None
    assert (found.run, found.set_by) == (OTHER, "ada")
    assert [(row.name, row.run) for row in await list_baselines(connection, "local")] == [
        ("main", OTHER),
        ("release-3", RUN),
    ]
    assert await list_baselines(connection, "elsewhere") == []
    assert not await remove_baseline(connection, "elsewhere", "main")
    assert await remove_baseline(connection, "local", "main")
    assert await find_baseline(connection, "local", "main") is None
    assert [row.name for row in await list_baselines(connection, "local")] == ["release-3"]
