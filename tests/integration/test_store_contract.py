"""What the store promises, the same on plain PostgreSQL and on TimescaleDB: one suite over both."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from services.collector.frame_store import FrameStore
from services.collector.measures import Measures
from services.collector.timescale import Timescale
from shared.clock import wall_us
from shared.contracts.base import utc_of_us
from shared.contracts.frame import Frame
from shared.contracts.timing import ErrorKind, EventFlag, Kind
from shared.histogram import Histogram, value_us
from shared.store import upkeep_postgres, upkeep_timescale
from shared.store.figures import Edges, Step
from shared.store.ingest import TimingPart
from shared.store.keeping import Keeping
from shared.store.migrations import Schema, Side, migrate, read_migrations
from shared.store.packed import pack
from shared.store.results import read_connecting, read_edges, read_results, read_stored
from shared.store.timeline import TimelinePlan, plan_timeline, read_timeline
from tests.unit.collector_frames import RUN, make_events, make_frame

pytestmark = pytest.mark.integration
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000


@dataclass
class Store:
    """A migrated store that is tended as a collector tends it."""

    connection: psycopg.AsyncConnection[Any]
    frames: FrameStore
    side: Side
    keeping: Keeping

    async def tend(self) -> None:
        async with self.connection.transaction():
            if self.side is Side.POSTGRES:
                await upkeep_postgres.tend(self.connection, self.keeping, datetime.now(UTC))
            else:
                await upkeep_timescale.tend(self.connection, self.keeping)

    async def fold(self) -> None:
        """Let the roll-ups be made, by the task of the one side or the jobs of the other."""
        if self.side is Side.POSTGRES:
            async with self.connection.transaction():
                await upkeep_postgres.fold(self.connection, datetime.now(UTC))
        else:
            # As if what is new had been committed two days ago: what is newer than that is not made yet.
            columns = ", ".join(field.name for field in fields(TimingPart))
            await self.connection.execute(
                "WITH gone AS (DELETE FROM timing_part WHERE committed_at > now() - interval '1 day' RETURNING *) "
                f"INSERT INTO timing_part (committed_at, {columns}) "
                f"SELECT committed_at - interval '2 days', {columns} FROM gone"
            )
            for view in ("timing_window", "timing_hour"):
                await self.run_jobs("policy_refresh_continuous_aggregate", view)
            assert await self.query("SELECT 1 FROM timing_hour WHERE committed_at < now() - interval '1 day' LIMIT 1")

    async def run_jobs(self, procedure: str, view_or_table: str) -> None:
        """TimescaleDB's policies, now."""
        jobs = await self.query(
            "SELECT job_id FROM timescaledb_information.jobs "
            "LEFT JOIN timescaledb_information.continuous_aggregates AS c "
            "ON c.materialization_hypertable_name = jobs.hypertable_name "
            "WHERE proc_name = %s AND coalesce(view_name, jobs.hypertable_name) = %s",
            procedure,
            view_or_table,
        )
        assert jobs
        for (job,) in jobs:
            await self.connection.execute(f"CALL run_job({job})")

    async def add(self, *frames: Frame) -> int:
        """Store these; how many were new."""
        prepared = await self.frames.prepare([(frame, Measures.of(frame)) for frame in frames])
        return (await self.frames.write(prepared)).frames

    async def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return await (await self.connection.execute(sql.encode(), arguments or None)).fetchall()


@pytest.fixture
async def store(store_dsn: str) -> AsyncIterator[Store]:
    schema = migrate(store_dsn)
    frames = Timescale(store_dsn, "test")
    async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as connection:
        opened = Store(connection, FrameStore(frames), schema.side, Keeping())
        await opened.tend()
        yield opened
    await frames.close()


def run_of(seed: int, seq: int, count: int = 400, *, ago_us: int = 10_000_000, worker: str = "w1") -> Frame:
    """Events over two seconds, with every kind of end, some in ramp-up, some with a recorded trace."""
    rng = np.random.default_rng(seed)
    events = make_events(
        count,
        seed,
        error=rng.choice([0, 0, 0, 0, ErrorKind.TIMEOUT, ErrorKind.REFUSED, ErrorKind.CANCELLED], count),
        check=rng.choice([0, 1, 1, 2], count),
        flags=rng.choice([0, EventFlag.TRACE_RECORDED, EventFlag.RAMP_UP], count),
        bytes_in=rng.integers(0, 2**32 - 1, count),
        tokens=np.where(np.arange(count) % 3, 0, rng.integers(1, 50, count)),
        ttft_us=rng.integers(1, 5_000, count),
        gap_us=rng.integers(0, 90_000, count),
    )
    return make_frame(seq, events=events, anchor_wall_us=wall_us() - ago_us, sent=seq * count, worker=worker)


async def test_tending_may_be_repeated_and_settings_changed(store: Store) -> None:
    await store.tend()
    store.keeping = Keeping(timings=timedelta(days=3), chunk=timedelta(hours=6))
    await store.tend()
    if store.side is Side.TIMESCALE:
        kept = await store.query(
            "SELECT config ->> 'drop_after' FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_retention' AND hypertable_name = 'request_timing'"
        )
        assert kept == [("3 days",)]


async def test_results_are_those_of_the_rows_before_and_after_roll_ups_are_made(store: Store) -> None:
    early, late = [run_of(1, 1), run_of(2, 2)], [run_of(3, 3), run_of(4, 1, ago_us=2 * HOUR_US, worker="w2")]
    assert await store.add(*early) == 2
    await assert_figures(store, early)
    await store.fold()
    await assert_figures(store, early)
    # One is of two hours ago, when everything of that time has been rolled up already.
    assert await store.add(*late) == 2
    await assert_figures(store, early + late)
    await store.fold()
    await assert_figures(store, early + late)


async def assert_figures(store: Store, frames: list[Frame]) -> None:
    """Hold what is read against the events counted one by one."""
    told, after = await read_results(store.connection, RUN)
    found = {series.action: series for series in told}
    for number, state in enumerate(frames[0].actions):
        mine = [event for frame in frames for event in frame.events if event["action"] == number]
        service = [int(event["service_us"]) for event in mine]
        response = [int(event["service_us"]) + int(event["dispatch_us"]) for event in mine]
        errors = [int(event["error"]) for event in mine if event["error"]]
        series = found[state.action]
        assert (series.stored, series.cancelled) == (len(mine), errors.count(ErrorKind.CANCELLED))
        bad = (ErrorKind.TIMEOUT, ErrorKind.REFUSED)
        assert series.failed == sum(event["error"] in bad or event["check"] == 2 for event in mine)
        assert series.errors == {kind: errors.count(kind) for kind in set(errors)}
        for times, values in ((series.service, service), (series.response, response)):
            assert times.mean == pytest.approx(np.mean(values) / 1e3)
            assert times.max == max(values) / 1e3
            expected = Histogram.of(values).percentile_us(0.95)
            assert times.percentiles["p95"] == pytest.approx((expected or 0) / 1e3)
        streamed = [event for event in mine if event["tokens"]]
        assert series.streaming is not None
        assert (series.streaming.answers, series.streaming.tokens) == (
            len(streamed),
            sum(int(e["tokens"]) for e in streamed),
        )
        stream_us = sum(max(0, int(event["service_us"]) - int(event["ttft_us"])) for event in streamed)
        rate = (series.streaming.tokens - len(streamed)) / stream_us * 1e6
        assert series.streaming.tokens_per_s == pytest.approx(rate)
        first = Histogram.of(int(event["ttft_us"]) for event in streamed).percentile_us(0.95)
        assert series.streaming.first_token.percentiles["p95"] == pytest.approx((first or 0) / 1e3)
        judged = [
            value
            for value, event in zip(response, mine, strict=True)
            if not event["flags"] & EventFlag.RAMP_UP and event["error"] != ErrorKind.CANCELLED
        ]
        assert after[series.series_id].response == Histogram.of(judged).counts
        assert after[series.series_id].sum_us == sum(judged)
        refused = sum(event["error"] == ErrorKind.REFUSED and not event["flags"] & EventFlag.RAMP_UP for event in mine)
        assert after[series.series_id].refused == refused > 0
    stored = await read_stored(store.connection, RUN)
    assert stored.stored == sum(len(frame.events) for frame in frames)
    assert sum(frames for _, frames in stored.frames.values()) == len(frames)


async def test_requests_are_counted_that_were_answered_beyond_an_edge_of_what_is_judged(store: Store) -> None:
    told = [  # sent in ramp-up, due and done after so many seconds
        (True, 1, 4, ErrorKind.OK),
        (True, 1, 9, ErrorKind.OK),
        (True, 1, 9, ErrorKind.CANCELLED),
        (False, 6, 9, ErrorKind.OK),
        (False, 18, 21, ErrorKind.OK),
        (False, 19, 22, ErrorKind.TIMEOUT),
        (False, 19, 21, ErrorKind.REFUSED),
        (False, 21, 23, ErrorKind.OK),
    ]
    events = make_events(
        len(told),
        action=0,
        flags=[EventFlag.RAMP_UP * ramp_up for ramp_up, *_ in told],
        intended_us=[due * 1_000_000 for _, due, _, _ in told],
        dispatch_us=1_000_000,
        service_us=[(done - due - 1) * 1_000_000 for _, due, done, _ in told],
        error=[error for *_, error in told],
    )
    start_us = wall_us() - 60_000_000
    await store.add(make_frame(1, events=events, anchor_wall_us=start_us))
    start = utc_of_us(start_us)
    judged_from, ended, latest = (start + timedelta(seconds=second) for second in (5, 20, 3_600))
    async with store.connection.transaction():
        found = await read_edges(store.connection, RUN, judged_from, ended, latest)
    assert list(found.values()) == [Edges(early=1, late=2, after=1)]


async def test_a_frame_written_again_changes_nothing(store: Store) -> None:
    frames = [run_of(1, 1), run_of(2, 2)]
    assert await store.add(*frames) == 2
    assert await store.add(frames[0], run_of(3, 3), frames[1]) == 1
    await store.fold()
    assert await store.add(*frames) == 0
    await assert_figures(store, [*frames, run_of(3, 3)])
    assert await store.query("SELECT count(*) FROM request_timing") == [(1_200,)]


async def test_a_time_line_says_the_same_from_rows_and_from_roll_ups(store: Store) -> None:
    await store.add(run_of(1, 1), run_of(2, 2, ago_us=65_000_000), run_of(3, 3, ago_us=HOUR_US))
    since, until = datetime.now(UTC) - timedelta(hours=2), datetime.now(UTC)

    async def drawn(step_s: int, table: str) -> list[Step]:
        return await read_timeline(store.connection, RUN, since, until, TimelinePlan(step_s, table))

    rows = await drawn(20, "request_timing")
    assert await drawn(20, "timing_window") == rows
    assert sum(step.count for step in rows if step.kind == Kind.REQUEST) == sum(
        int(event["action"] != 2) for seed in (1, 2, 3) for event in run_of(seed, seed).events
    )
    await store.fold()
    assert await drawn(20, "timing_window") == rows
    assert await drawn(3_600, "timing_hour") == await drawn(3_600, "request_timing")


async def test_a_step_holds_the_percentiles_of_its_own_rows(store: Store) -> None:
    events = run_of(1, 1).events
    await store.add(run_of(1, 1))
    since, until = datetime.now(UTC) - timedelta(hours=2), datetime.now(UTC)
    steps = await read_timeline(store.connection, RUN, since, until, TimelinePlan(10**9, "timing_hour"))
    told = [step for step in steps if step.kind == Kind.REQUEST]
    requests = events[events["action"] != 2]
    for name, times_us in (
        ("service", requests["service_us"]),
        ("response", requests["service_us"].astype(np.int64) + requests["dispatch_us"]),
    ):
        exact = np.sort(times_us)[[int(np.ceil(q * len(times_us))) - 1 for q in (0.5, 0.95, 0.99)]] / 1e3
        (step,) = told
        assert [getattr(step, f"{name}_p{q}_ms") for q in (50, 95, 99)] == pytest.approx(exact, rel=0.01)


async def test_opened_connections_are_counted_within_the_slices_alone(store: Store) -> None:
    opened = make_events(200, 5, connect_us=np.where(np.arange(200) % 4, 0, 2_000))
    await store.add(make_frame(1, events=opened, anchor_wall_us=wall_us() - 10_000_000, sent=200))
    now = datetime.now(UTC)
    (told,) = await read_connecting(store.connection, RUN, [(now - timedelta(hours=1), now)])
    requests = opened[opened["action"] != 2]
    assert told.looked_at == len(requests)
    assert told.opened == np.count_nonzero(requests["connect_us"])
    assert told.connect_ms == pytest.approx(2.0)
    assert await read_connecting(store.connection, RUN, [(now - timedelta(hours=2), now - timedelta(hours=1))]) == []


async def test_percentiles_in_sql_agree_with_the_histogram_bucket_for_bucket(store: Store) -> None:
    rng = np.random.default_rng(7)
    for size in (1, 2, 7, 1_000):
        values = rng.lognormal(8, 2, size)
        histogram = Histogram.of(values)
        pairs = np.array(list(histogram.counts.items()))
        halves = [pack(pairs[:, 0], pairs[:, 1]), pack(pairs[::-1, 0], pairs[::-1, 1])]
        for q in (0.001, 0.5, 0.9, 0.95, 0.999, 1.0):
            (row,) = await store.query(
                "SELECT histogram_percentile_us(%s::bigint[], %s), histogram_percentile_us(histogram_sum(h), %s) "
                "FROM (VALUES (%s::bigint[]), (%s::bigint[])) AS v(h)",
                halves[0], q, q, *halves,
            )  # fmt: skip
            assert row == (histogram.percentile_us(q),) * 2
    assert await store.query("SELECT histogram_percentile_us('{}', 0.5)") == [(None,)]
    buckets = [0, 1, 500, 1_111]
    found = await store.query("SELECT histogram_value_us(b) FROM unnest(%s::int[]) AS b", buckets)
    assert [row[0] for row in found] == pytest.approx([value_us(bucket) for bucket in buckets], rel=1e-12)


async def test_what_is_past_its_age_is_dropped_and_the_figures_stay(store: Store) -> None:
    frames = [run_of(1, 1), run_of(2, 2, ago_us=5 * DAY_US)]
    await store.add(*frames)
    await store.fold()
    store.keeping = Keeping(timings=timedelta(days=3), windows=timedelta(days=3))
    await store.tend()
    if store.side is Side.TIMESCALE:
        await store.run_jobs("policy_retention", "request_timing")
    await store.fold()
    assert await store.query("SELECT count(*) FROM request_timing") == [(400,)]
    await assert_figures(store, frames)


async def test_timescale_compresses_old_chunks_to_few_bytes_and_takes_late_rows_all_the_same(
    empty_timescale_dsn: str,
) -> None:
    assert migrate(empty_timescale_dsn) == Schema(len(read_migrations(Side.TIMESCALE)), Side.TIMESCALE)
    adapter = Timescale(empty_timescale_dsn, "test")
    async with await psycopg.AsyncConnection.connect(empty_timescale_dsn, autocommit=True) as connection:
        store = Store(connection, FrameStore(adapter), Side.TIMESCALE, Keeping())
        await store.tend()
        old = [run_of(seq, seq, 2_000, ago_us=2 * DAY_US) for seq in range(1, 6)]
        await store.add(*old)
        await store.run_jobs("policy_compression", "request_timing")
        (sizes,) = await store.query(
            "SELECT sum(before_compression_total_bytes), sum(after_compression_total_bytes) "
            "FROM hypertable_compression_stats('request_timing')"
        )
        assert sizes[1] < sizes[0] / 2
        late = run_of(6, 6, 100, ago_us=2 * DAY_US)
        await store.add(late)
        await assert_figures(store, [*old, late])
        assert await store.query("SELECT count(*) FROM request_timing") == [(10_100,)]
    await adapter.close()


@pytest.mark.parametrize(
    ("duration_s", "stored", "plan"),
    [
        pytest.param(60, 1_000, TimelinePlan(1, "request_timing"), id="short: to the second"),
        pytest.param(1_800, 200_000, TimelinePlan(3, "request_timing"), id="half an hour: at most 600 points"),
        pytest.param(200, 20_000_000, TimelinePlan(10, "timing_window"), id="many requests: from ten seconds"),
        pytest.param(7_300, 2_000_000, TimelinePlan(20, "timing_window"), id="longer: in whole tens"),
        pytest.param(30 * 86_400, 13_000_000, TimelinePlan(7_200, "timing_hour"), id="a month: by the hour"),
    ],
)
def test_a_time_line_is_drawn_from_what_answers_in_time(duration_s: float, stored: int, plan: TimelinePlan) -> None:
    assert plan_timeline(duration_s, stored, 600) == plan


async def test_recorded_traces_are_kept_apart_once_each_with_their_response_time(store: Store) -> None:
    frame = run_of(1, 1)
    await store.add(frame)
    await store.add(frame)
    found = await store.query("SELECT replace(trace_id::text, '-', ''), response_us FROM request_trace ORDER BY 1")
    recorded = [event for event in frame.events if event["flags"] & EventFlag.TRACE_RECORDED]
    assert found == sorted(
        (event["trace_id"].tobytes().hex(), int(event["service_us"]) + int(event["dispatch_us"])) for event in recorded
    )
    (row,) = await store.query("SELECT count(*) FROM request_trace JOIN request_timing USING (at, series_id, trace_id)")
    assert row == (len(recorded),)
