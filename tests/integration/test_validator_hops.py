"""Hops from a real store: chosen traces, the report's section, and the hop of a breach told while it is open."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from services.validator.board import RunBoard
from services.validator.facts import Observed
from services.validator.hop_finder import HopFinder
from services.validator.report import build_report
from services.validator.reporter import Reporter
from services.validator.timescale import Store
from shared.contracts.benchmarks import Source
from shared.contracts.breach import Breach, BreachStatus, BreachWindow
from shared.contracts.timing import EventFlag, Kind
from shared.contracts.window import Exemplar
from shared.store.figures import TraceSpan
from shared.store.migrations import migrate
from shared.store.spans import choose_traces, copy_spans, limit_statements, plan_slices, read_trace, read_traces
from tests.integration.span_rows import renamed, rows_of
from tests.integration.test_validator_report import ASKED, BENCHMARKS, RAMP_UP_S, STARTED, ended
from tests.unit.traces import NEUROWEAVER, RELAYCORE, polled_workflow
from tests.unit.validator_frames import RUN

pytestmark = pytest.mark.integration

Connection = psycopg.AsyncConnection[Any]


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as opened:
        yield opened


async def store_workflow(
    connection: Connection, number: int, queue_ms: float, at_s: float, *, whole: bool = True, flags: int = 1
) -> UUID:
    """A traced workflow that began so long after the run did, as the collector keeps it."""
    trace_id, began = UUID(int=number), STARTED + timedelta(seconds=at_s)
    spans = polled_workflow(queue_ms=queue_ms)
    rows = rows_of(trace_id, spans, began)
    await copy_spans(connection, rows if whole else rows[1:])
    for kind, action, took_us in ((Kind.WORKFLOW, "workflow", spans[0].duration_us), (Kind.REQUEST, "create", 20_000)):
        await connection.execute(
            "INSERT INTO series (run, system, scenario, action, kind) VALUES (%s, 'autmatrix', 'story', %s, %s) "
            "ON CONFLICT DO NOTHING",
            (RUN, action, kind),
        )
        await connection.execute(
            "INSERT INTO request_timing SELECT %s, series_id, 1, 0, 0, %s, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, %s, "
            "500, 500, %s FROM series WHERE run = %s AND action = %s",
            (began + timedelta(microseconds=took_us), took_us, flags, trace_id, RUN, action),
        )
        if flags & EventFlag.TRACE_RECORDED:
            await connection.execute(
                "INSERT INTO request_trace SELECT %s, series_id, %s, %s FROM series WHERE run = %s AND action = %s",
                (began + timedelta(microseconds=took_us), trace_id, took_us, RUN, action),
            )
    return trace_id


async def test_traces_are_drawn_evenly_after_ramp_up_and_the_slowest_are_among_them(connection: Connection) -> None:
    for number in range(1, 41):
        await store_workflow(connection, number, queue_ms=10.0 * number, at_s=RAMP_UP_S + number / 4)
    await store_workflow(connection, 90, queue_ms=9_000, at_s=-8)
    await store_workflow(connection, 91, queue_ms=9_000, at_s=20, flags=int(EventFlag.RAMP_UP))
    since, until = STARTED + timedelta(seconds=RAMP_UP_S), STARTED + timedelta(seconds=60)
    chosen = await choose_traces(connection, RUN, plan_slices(since, until, 41), drawn=10, slowest=3)
    assert {one.scenario for one in chosen} == {"story"}
    assert [int(one.trace_id, 16) for one in chosen] == [40, 39, 38, *range(10, 0, -1)]
    assert [one.drawn for one in chosen] == [False] * 3 + [True] * 10
    assert chosen[0].response_us == 800_000, "of the workflow, not of a request in it"
    traces = await read_traces(connection, [one.trace_id for one in chosen], STARTED, until)
    assert sorted(traces[chosen[-1].trace_id]) == sorted(
        TraceSpan(
            **{name: getattr(span, name) for name in TraceSpan.__slots__}
            | {"start_us": span.start_us + round((STARTED.timestamp() + RAMP_UP_S + 0.25) * 1e6)}
        )
        for span in renamed(polled_workflow(queue_ms=10))
    )
    assert await read_traces(connection, [chosen[0].trace_id], until, until) == {}


async def test_a_report_breaks_the_calls_of_a_scenario_down_by_hop(connection: Connection, postgres_dsn: str) -> None:
    for number in range(1, 21):
        await store_workflow(connection, number, queue_ms=600 if number > 10 else 20, at_s=RAMP_UP_S + number / 2)
    await store_workflow(connection, 50, queue_ms=20, at_s=20, whole=False)
    facts = await Store(postgres_dsn).gather(ASKED, ended(), Observed(), {})
    assert facts.missing_traces == (f"{50:032x}",)
    (section,) = build_report(BENCHMARKS, facts)["hops"]
    assert (section["scenario"], section["traces"], section["missing"]) == ("story", 20, 1)
    assert section["slowest_hop"] == RELAYCORE
    rows = {row["hop"]: row for row in section["hops"]}
    assert (rows[RELAYCORE]["system"], rows[RELAYCORE]["calls"]) == ("relaycore", 20)
    assert (rows[RELAYCORE]["own_ms"]["p50"], rows[RELAYCORE]["own_ms"]["p95"]) == (45, 625)
    assert rows[NEUROWEAVER]["own_ms"]["p50"] == rows[NEUROWEAVER]["own_ms"]["p95"] == 171
    assert len(section["slowest"]) == 3


async def test_a_trace_whose_root_comes_late_gives_a_higher_revision(connection: Connection, postgres_dsn: str) -> None:
    trace_id = await store_workflow(connection, 1, queue_ms=20, at_s=10, whole=False)
    late = rows_of(trace_id, polled_workflow(), STARTED + timedelta(seconds=10))[:1]

    class LateStore(Store):
        """A store into which the root comes just after the first report."""

        async def write_report(self, run: str, body: dict[str, Any]) -> int:
            revision = await super().write_report(run, body)
            if revision == 1:
                await copy_spans(connection, late)
            return revision

    board = RunBoard(RUN, desired=ASKED, state=ended())
    await Reporter(LateStore(postgres_dsn), BENCHMARKS, settle_s=0.3, late_s=0.2).report(board)
    stored = await (
        await connection.execute("SELECT revision, jsonb_array_length(body->'hops') FROM report ORDER BY revision")
    ).fetchall()
    assert stored == [(1, 0), (2, 1)]


async def test_a_report_is_written_without_hops_that_take_too_long(
    connection: Connection, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_workflow(connection, 1, queue_ms=20, at_s=10)
    monkeypatch.setattr("services.validator.timescale.HOPS_MS", 50)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as blocker:
        await blocker.execute("LOCK TABLE spans IN ACCESS EXCLUSIVE MODE")
        facts = await Store(postgres_dsn).gather(ASKED, ended(), Observed(), {})
    assert facts.hops == ()
    assert build_report(BENCHMARKS, facts)["hops"] == []
    await limit_statements(connection, 50)
    with pytest.raises(psycopg.errors.QueryCanceled):
        await connection.execute("SELECT pg_sleep(1)")


def breach(trace_id: UUID, response_ms: float, source: str = "workflow_execution_time") -> Breach:
    end = datetime.now(UTC)
    return Breach(
        breach="b1",
        revision=1,
        status=BreachStatus.OPENED,
        environment="test",
        run=RUN,
        system="autmatrix",
        service="autmatrix-backend",
        metric=source,
        series=RUN,
        level="target",
        statistic="p95",
        value=response_ms,
        limit=1.0,
        target=1.0,
        critical=2.0,
        unit="ms",
        better="lower",
        confidence=1.0,
        samples=100,
        window=BreachWindow(start=end - timedelta(seconds=10), end=end, seconds=10),
        opened_at=end,
        exemplars=(
            Exemplar(trace_id="f" * 32, response_us=10**9, recorded=False),
            Exemplar(trace_id=trace_id.hex, response_us=round(response_ms * 1e3), recorded=True),
        ),
    )


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


async def found_by(finder: HopFinder) -> list[str]:
    await until(lambda: not finder.looking)
    return [f"{one.breach} {one.slowest.hop}" for one in finder.take()]


class CountingStore(Store):
    """Counts how often traces were read."""

    reads = 0

    async def read_traces(
        self, trace_ids: Sequence[str], since: datetime, until: datetime
    ) -> dict[str, list[TraceSpan]]:
        found = await super().read_traces(trace_ids, since, until)
        self.reads += 1
        return found


async def test_the_hop_of_a_breach_is_found_once_its_spans_are_all_there(
    connection: Connection, postgres_dsn: str
) -> None:
    trace_id = UUID(int=7)
    rows = rows_of(trace_id, polled_workflow(queue_ms=900), datetime.now(UTC) - timedelta(seconds=2))
    # What NeuroWeaver and RelayCore recorded comes later: before that, the time would seem to be spent in a call.
    await copy_spans(connection, rows[:5])
    store = CountingStore(postgres_dsn)
    finder = HopFinder(store, (0.02,) * 200)
    finder.look(breach(trace_id, 1_300), Source.WORKFLOW_TIME)
    await until(lambda: store.reads >= 3)
    assert (finder.take(), finder.looking) == ([], 1)
    await copy_spans(connection, rows[5:])
    assert await found_by(finder) == [f"b1 {RELAYCORE}"]
    finder.look(breach(trace_id, 1_300), Source.WORKFLOW_TIME)
    assert finder.looking == 0, "these exemplars were looked at"
    await finder.close()


async def test_the_hop_of_a_slow_request_is_found_before_its_workflow_has_ended(
    connection: Connection, postgres_dsn: str
) -> None:
    trace_id = UUID(int=8)
    rows = rows_of(trace_id, polled_workflow(queue_ms=900), datetime.now(UTC) - timedelta(seconds=2))
    await copy_spans(connection, rows[1:])
    finder = HopFinder(Store(postgres_dsn), (0.02,))
    finder.look(breach(trace_id, 21, "api_response_time"), Source.RESPONSE_TIME)
    assert await found_by(finder) == ["b1 autmatrix-backend"]
    finder.look(breach(trace_id, 21, "cpu_usage"), Source.RESOURCE)
    assert finder.looking == 0, "a resource says itself whose it is"
    await finder.close()


async def test_a_store_that_is_away_finds_nothing_and_holds_nothing_up() -> None:
    finder = HopFinder(Store("postgresql://nobody@127.0.0.1:1/none"), (0.01, 0.01))
    for _ in range(2):
        finder.look(breach(UUID(int=9), 100), Source.WORKFLOW_TIME)
        assert finder.looking == 1, "asked again by the next event"
        assert await found_by(finder) == []
    finder.look(breach(UUID(int=9), 100), Source.WORKFLOW_TIME)
    await finder.close()
    assert finder.looking == 0


async def test_a_span_stored_twice_is_read_once(connection: Connection) -> None:
    rows = rows_of(UUID(int=5), polled_workflow(), datetime.now(UTC))
    await copy_spans(connection, [*rows, *rows[:3]])
    assert len(await read_trace(connection, UUID(int=5).hex)) == len(rows)


async def test_of_a_large_run_even_slices_are_looked_at(connection: Connection) -> None:
    since, until = STARTED, STARTED + timedelta(seconds=50)
    slices = plan_slices(since, until, 400_000)
    assert [(start - since).total_seconds() for start, _ in slices] == list(range(50))
    assert {end - start for start, end in slices} == {timedelta(seconds=0.25)}
    for number in range(1, 9):
        # Each ends 0.4 s after it began.
        await store_workflow(connection, number, queue_ms=0, at_s=9.6 + 0.1 * number)
    chosen = await choose_traces(connection, RUN, slices, drawn=10, slowest=3)
    assert sorted(int(one.trace_id, 16) for one in chosen) == [1, 2]


async def test_a_store_with_timescaledb_answers_the_same(
    connection: Connection, postgres_dsn: str, empty_timescale_dsn: str
) -> None:
    migrate(empty_timescale_dsn)
    async with await psycopg.AsyncConnection.connect(empty_timescale_dsn, autocommit=True) as timescale:
        for number in range(1, 4):
            for each in (connection, timescale):
                await store_workflow(each, number, queue_ms=20.0 * number, at_s=RAMP_UP_S + number)
    sides = [await Store(dsn).gather(ASKED, ended(), Observed(), {}) for dsn in (postgres_dsn, empty_timescale_dsn)]
    assert sides[0].hops == sides[1].hops
    assert len(sides[0].hops[0].calls) == 3
