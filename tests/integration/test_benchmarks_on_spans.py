"""From an export of spans to the message a validator merges, and the store's queries that reports and budgets ask."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.contracts.span_window import SpanWindows
from shared.contracts.timing import Kind
from shared.histogram import Histogram, bucket_of
from shared.store.budgets import BudgetOf, read_spending
from shared.store.spans import SpanRow, copy_spans, read_span_times
from tests.contracts.schemas import hold
from tests.integration.collector_rig import Rig, eventually, open_rig
from tests.integration.test_collector_doors import post
from tests.integration.test_store_queries import filled
from tests.unit.collector_frames import RUN, SYSTEM

pytestmark = pytest.mark.integration
Connection = psycopg.AsyncConnection[Any]


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


@pytest.fixture
async def connection(store_dsn: str) -> AsyncIterator[Connection]:
    """On plain PostgreSQL and on TimescaleDB."""
    async with filled(store_dsn) as opened:
        yield opened


def export(numbers: range, ms: float, name: str = "relaycore.routing") -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "relaycore"
    spans = resource_spans.scope_spans.add().spans
    for number in numbers:
        now_ns = time.time_ns()
        spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name=name,
            start_time_unix_nano=now_ns - int(ms * 1e6),
            end_time_unix_nano=now_ns,
        )
    return bytes(request.SerializeToString())


def told(rig: Rig) -> list[SpanWindows]:
    subject = rig.bus.subjects.span("relaycore")
    return [SpanWindows.model_validate_json(message.data) for message in rig.heard if message.subject == subject]


async def test_named_spans_are_told_once_within_a_second_and_others_never(rig: Rig) -> None:
    async with rig.collector():
        body = export(range(1, 41), 80)
        for again in (body, body, export(range(100, 120), 5, name="relaycore.other"), export(range(41, 61), 20)):
            assert (await post(rig, again))[0] == 200
        began = time.monotonic()

        def count() -> int:
            return sum(cell.count for windows in told(rig) for cell in windows.cells)

        await eventually(lambda: asyncio.sleep(0, count()), lambda found: found >= 60)
        assert time.monotonic() - began < 2.5
        await eventually(lambda: rig.count("spans"), lambda found: found == 120)
        await asyncio.sleep(0.6)
        assert count() == 60, "an export that came again counts once"
    cells = [cell for windows in told(rig) for cell in windows.cells]
    whole = Histogram()
    for cell in cells:
        whole.merge(cell.times)
    assert {cell.span for cell in cells} == {"relaycore.routing"}
    assert whole.counts[bucket_of(80_000)] == 40
    assert [windows.seq for windows in told(rig)] == list(range(1, len(told(rig)) + 1))
    hold("SpanWindows", rig.bodies("span"))


async def test_span_times_of_the_store_are_those_of_the_spans_that_ended_then(connection: Connection) -> None:
    now = datetime.now(UTC)

    def row(number: int, ended_s: float, ms: float, name: str = "route") -> SpanRow:
        at = now + timedelta(seconds=ended_s, milliseconds=-ms)
        return SpanRow(at, UUID(int=number), bytes(8), None, "relaycore", name, 1, round(ms * 1e3), 0)

    rows = [row(number, -10 - number / 100, 3.0 * number) for number in range(1, 101)]
    others = [row(1, -10.01, 3.0), row(900, -30, 5), row(901, 0, 5), row(902, -10, 5, "other")]
    await copy_spans(connection, [*rows, *others])
    found = await read_span_times(connection, "relaycore", "route", now - timedelta(seconds=20), now)
    assert found.times == Histogram.of([3_000.0 * number for number in range(1, 101)]).counts
    assert found.sum_us == sum(3_000 * number for number in range(1, 101))
    nothing = await read_span_times(connection, "relaycore", "nothing", now - timedelta(seconds=20), now)
    assert (nothing.times, nothing.sum_us) == ({}, 0)


ROWS = """
SELECT s.action, s.kind, floor(extract(epoch FROM t.at) / 10)::bigint * 10 AS step, t.response_bucket,
       t.error NOT IN (0, 9) OR t.check_result = 2 AS failed
  FROM request_timing t JOIN series s USING (series_id) WHERE s.run = %s
"""


@pytest.mark.parametrize("actions", [(), ("create",)])
@pytest.mark.parametrize("slow", [False, True])
async def test_what_was_spent_of_a_budget_is_what_the_rows_say(
    connection: Connection, actions: tuple[str, ...], slow: bool
) -> None:
    rows = await (await connection.execute(ROWS, (RUN,))).fetchall()
    actions = tuple(sorted({row[0] for row in rows if row[1] == Kind.REQUEST})[:1]) if actions else ()
    chosen = [row for row in rows if row[1] == Kind.REQUEST and (not actions or row[0] in actions)]
    edge = int(np.median([row[3] for row in chosen]))
    budget = BudgetOf(RUN, SYSTEM, Kind.REQUEST, actions=actions, slower_than=edge if slow else None)
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    found = await read_spending(connection, budget, until - timedelta(hours=3), until)
    assert sum(count for _, count, _ in found) == len(chosen) > 100
    steps = {row[2] for row in chosen}
    assert [step for step, _, _ in found] == sorted(steps)
    if slow:
        expected = {step: sum(row[2] == step and row[3] > edge for row in chosen) for step in steps}
        assert {step: bad for step, _, bad in found} == expected
    else:
        failed = await connection.execute("SELECT sum(failed)::int FROM timing_hour JOIN series USING (series_id) "
            "WHERE run = %s AND kind = %s AND (%s::text[] = '{}' OR action = ANY(%s))",
            (RUN, int(Kind.REQUEST), list(actions), list(actions)))  # fmt: skip
        assert sum(bad for *_, bad in found) == (await failed.fetchone() or (0,))[0] > 0
    assert not await read_spending(
        connection, BudgetOf("no-such-run", SYSTEM, Kind.REQUEST), until - timedelta(hours=3), until
    )


async def test_far_back_steps_are_hours(connection: Connection) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    budget = BudgetOf(RUN, SYSTEM, Kind.REQUEST)
    later = now + timedelta(hours=30)
    found = await read_spending(connection, budget, now - timedelta(hours=2), later)
    assert {step % 3_600 for step, _, _ in found} == {0}
    fine = await read_spending(connection, budget, now - timedelta(hours=2), now + timedelta(hours=1))
    assert sum(count for _, count, _ in found) == sum(count for _, count, _ in fine)
