"""SQL of the tables ``spans`` and ``resource_sample``: what is observed of the systems beside the requests."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.contracts.resource import ResourceSample

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


async def save_samples(connection: AsyncConnection[Any], samples: Iterable[ResourceSample]) -> None:
    """Append resource samples."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO resource_sample (at, environment, service, system, instance, ready, values)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            """,
            [
                (
                    sample.at,
                    sample.environment,
                    sample.service,
                    sample.system,
                    sample.instance,
                    sample.ready,
                    Jsonb(sample.values),
                )
                for sample in samples
            ],
        )
