"""SQL of the table ``spans``: what was told of the way of requests through the systems.

Reads of many traces are bounded: in time by what their caller says, in size by ``MOST_SPANS`` of each trace.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.contracts.timing import Kind
from shared.histogram import MAX_BUCKET
from shared.store.figures import TraceSpan

MOST_SPANS = 1_000
ROWS_LOOKED_AT = 100_000
SLICES = 50
_FOLLOWS_A_BREACH = ["validator.breach", "scaler.decide"]
"""Spans that continue the trace of a request which showed a breach; no part of the call itself."""

_SPAN_TYPES = ("timestamptz", "uuid", "bytea", "bytea", "text", "text", "int2", "int8", "int2", "jsonb")


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span. ``at``: its start. ``kind`` and ``status`` are the numbers of OpenTelemetry's enumerations."""

    at: datetime
    trace_id: UUID
    span_id: bytes
    parent_span_id: bytes | None
    service: str
    name: str
    kind: int
    duration_us: int
    status: int
    attributes: dict[str, Any] = field(default_factory=dict)


async def copy_spans(connection: AsyncConnection[Any], spans: Iterable[SpanRow]) -> None:
    """Append spans; each must lie within a partition."""
    async with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY spans (at, trace_id, span_id, parent_span_id, service, name, kind, duration_us, status, attributes) "
            "FROM STDIN (FORMAT BINARY)"
        ) as copy,
    ):
        copy.set_types(_SPAN_TYPES)
        for span in spans:
            await copy.write_row(
                (
                    span.at,
                    span.trace_id,
                    span.span_id,
                    span.parent_span_id,
                    span.service,
                    span.name,
                    span.kind,
                    span.duration_us,
                    span.status,
                    Jsonb(span.attributes),
                )
            )


async def read_trace(connection: AsyncConnection[Any], trace_id: str) -> list[SpanRow]:
    """The spans of a trace (32 hexadecimal digits) by start; a span that was exported twice comes once."""
    async with connection.cursor(row_factory=class_row(SpanRow)) as cursor:
        await cursor.execute(
            """
            SELECT * FROM (
                SELECT DISTINCT ON (span_id)
                    at, trace_id, span_id, parent_span_id, service, name, kind, duration_us, status, attributes
                FROM spans WHERE trace_id = %s ORDER BY span_id
            ) AS once ORDER BY at, span_id
            """,
            (UUID(hex=trace_id),),
        )
        return await cursor.fetchall()


async def limit_statements(connection: AsyncConnection[Any], most_ms: int) -> None:
    """From here on every statement of this connection fails that takes longer."""
    await connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(most_ms),))


@dataclass(frozen=True, slots=True)
class ChosenTrace:
    """A recorded iteration of a scenario. ``drawn``: one of the even sample; otherwise only among the slowest."""

    scenario: str
    trace_id: str
    response_us: int
    drawn: bool


def plan_slices(
    since: datetime, until: datetime, stored: int, *, rows: int = ROWS_LOOKED_AT, slices: int = SLICES
) -> list[tuple[datetime, datetime]]:
    """The whole time of a run, or of one with very many rows so many even slices of it that not all are looked at."""
    if stored <= rows:
        return [(since, until)]
    step = (until - since) / slices
    length = step * (rows / stored)
    return [(since + number * step, since + number * step + length) for number in range(slices)]


async def choose_traces(
    connection: AsyncConnection[Any], run: str, slices: Sequence[tuple[datetime, datetime]], *, drawn: int, slowest: int
) -> list[ChosenTrace]:
    """Of each scenario of a run so many recorded traces that ended within ``slices``, drawn evenly, and the slowest.

    Trace ids are random, so the first of them in their own order are an even draw, and the same one each time. A
    scenario without workflows is chosen by the longest request of each trace. Slowest first.
    """
    found = await connection.execute(
        """
        WITH line AS (
            SELECT series_id, scenario FROM (
                SELECT *, max(kind) OVER (PARTITION BY scenario) AS whole FROM series
                WHERE run = %(run)s AND kind IN (%(request)s, %(workflow)s)
            ) AS of_run WHERE kind = whole
        ), timed AS (
            SELECT line.scenario, t.trace_id, max(t.response_us) AS response_us
            FROM line
            CROSS JOIN unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS slice(start, stop)
            CROSS JOIN LATERAL (
                SELECT trace_id, response_us FROM request_trace
                WHERE series_id = line.series_id AND at >= slice.start AND at < slice.stop
                OFFSET 0  -- keeps the planner from joining everything first and looking at the time afterwards
            ) AS t
            GROUP BY line.scenario, t.trace_id
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY scenario ORDER BY trace_id) AS place,
                row_number() OVER (PARTITION BY scenario ORDER BY response_us DESC, trace_id) AS slowness
            FROM timed
        )
        SELECT scenario, replace(trace_id::text, '-', ''), response_us, place <= %(drawn)s FROM ranked
        WHERE place <= %(drawn)s OR slowness <= %(slowest)s ORDER BY scenario, response_us DESC, trace_id
        """,
        {
            "run": run,
            "starts": [start for start, _ in slices],
            "ends": [end for _, end in slices],
            "request": int(Kind.REQUEST),
            "workflow": int(Kind.WORKFLOW),
            "drawn": drawn,
            "slowest": slowest,
        },
    )
    return [ChosenTrace(*row) for row in await found.fetchall()]


async def read_traces(
    connection: AsyncConnection[Any], trace_ids: Iterable[str], since: datetime, until: datetime
) -> dict[str, list[TraceSpan]]:
    """By trace (32 hexadecimal digits) its spans that began within a time; a trace without any is absent."""
    found = await connection.execute(
        """
        SELECT replace(trace_id::text, '-', ''), span_id, duration_us, (extract(epoch FROM at) * 1000000)::bigint,
            service, name, kind, coalesce(parent_span_id, ''),
            coalesce(attributes->>'peer.service', attributes->>'server.address', '')
        FROM (
            SELECT *, row_number() OVER (PARTITION BY trace_id ORDER BY at, span_id) AS place FROM spans
            WHERE trace_id = ANY (%(ids)s) AND at >= %(since)s AND at < %(until)s AND name <> ALL (%(other)s)
        ) AS numbered WHERE place <= %(most)s
        """,
        {
            "ids": [UUID(hex=trace_id) for trace_id in trace_ids],
            "since": since,
            "until": until,
            "other": _FOLLOWS_A_BREACH,
            "most": MOST_SPANS,
        },
    )
    traces: dict[str, list[TraceSpan]] = {}
    for trace_id, *columns in await found.fetchall():
        traces.setdefault(trace_id, []).append(TraceSpan(*columns))
    return traces


@dataclass(frozen=True, slots=True)
class SpanTimes:
    """How long the spans of one name took: counts by bucket (``shared.histogram``), and their exact sum."""

    times: dict[int, int]
    sum_us: int


async def read_span_times(
    connection: AsyncConnection[Any], service: str, span: str, since: datetime, until: datetime
) -> SpanTimes:
    """The spans of one name that ended within a time; one that was exported twice counts once."""
    found = await connection.execute(
        """
        SELECT least(floor(ln(greatest(duration_us, 1)::float8) / ln(1.02::float8)), %(most)s)::int, count(*),
            sum(duration_us)::bigint
        FROM (
            SELECT DISTINCT ON (trace_id, span_id) duration_us FROM spans
            WHERE service = %(service)s AND name = %(span)s AND at >= %(since)s - interval '1 hour' AND at < %(until)s
                AND at + duration_us * interval '1 microsecond' >= %(since)s
                AND at + duration_us * interval '1 microsecond' < %(until)s
            ORDER BY trace_id, span_id
        ) AS once GROUP BY 1
        """,
        {"most": MAX_BUCKET, "service": service, "span": span, "since": since, "until": until},
    )
    rows = await found.fetchall()
    return SpanTimes({int(bucket): int(count) for bucket, count, _ in rows}, sum(int(total) for *_, total in rows))


async def count_roots(
    connection: AsyncConnection[Any], trace_ids: Iterable[str], since: datetime, until: datetime
) -> int:
    """How many of these traces have a span without a parent."""
    found = await connection.execute(
        """
        SELECT count(DISTINCT trace_id) FROM spans
        WHERE trace_id = ANY (%s) AND at >= %s AND at < %s AND parent_span_id IS NULL
        """,
        ([UUID(hex=trace_id) for trace_id in trace_ids], since, until),
    )
    row = await found.fetchone()
    return int(row[0]) if row else 0
