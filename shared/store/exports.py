"""A run's rows in bulk, as they are stored: timings as whole columns of a binary COPY, the rest through a cursor.

Reads only, in bounded memory, and slice by slice of time: no statement holds its locks for as long as a large run
takes, behind which partitions could not be dropped and rows not be added. Each event is in exactly one slice.
"""

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection, Connection
from psycopg.abc import Buffer
from psycopg.rows import dict_row

from shared.store.ingest import TIMING_COLUMNS
from shared.store.series import HOUR, Hour

ROWS_OF_SLICE = 2_000_000
ROWS_OF_BATCH = 65_536
ROWS_OF_FETCH = 10_000
POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01T00:00:00Z in µs since the Unix epoch: where timestamptz counts from."""
_SIGNATURE, _HEADER_BYTES, _TRAILER_BYTES = b"PGCOPY\n\xff\r\n\0", 19, 2
_COPIED = tuple((name, kind) for name, kind in TIMING_COLUMNS if not name.endswith("_bucket"))
_NO_TRACE = UUID(int=0)
ROW = np.dtype(
    [("fields", ">i2"), *(part for name, kind in _COPIED for part in ((f"{name} length", ">i4"), (name, kind)))]
)
"""A row on the wire: a count of fields, and before each field its length."""
_TIMINGS = f"""
COPY (
    SELECT {", ".join(name for name, _ in _COPIED if name != "trace_id")}, coalesce(trace_id, '{_NO_TRACE}')
      FROM request_timing WHERE series_id = ANY(%(ids)s) AND at >= %(since)s AND at < %(until)s
) TO STDOUT (FORMAT BINARY)
"""  # noqa: S608 - built from this module's own constants

_RESOURCES = """
SELECT r.at, r.service, r.system, r.instance, r.ready, v.key AS metric, (v.value #>> '{}')::float8 AS value
  FROM resource_sample r CROSS JOIN jsonb_each(r.values) AS v
 WHERE r.environment = %(environment)s AND r.at >= %(since)s AND r.at < %(until)s AND jsonb_typeof(v.value) = 'number'
 ORDER BY r.at, r.service, r.instance, v.key
"""

_SPANS = """
SELECT DISTINCT ON (s.at, s.trace_id, s.span_id)
       s.at, s.duration_us, s.trace_id, s.span_id, s.parent_span_id, s.service, s.name, s.kind, s.status,
       s.attributes::text AS attributes
  FROM spans s
 WHERE s.at >= %(since)s AND s.at < %(until)s AND s.trace_id IN (
        SELECT trace_id FROM request_trace
         WHERE series_id = ANY(%(ids)s)
           AND at >= %(since)s - %(skew)s::interval AND at < %(until)s + %(longest)s::interval)
 ORDER BY s.at, s.trace_id, s.span_id
"""
_SKEW, _LONGEST = timedelta(minutes=1), timedelta(hours=1)
"""A span may seem to begin after its request's end by the first, and a request to last as long as the second."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Events that ended (spans and samples: began) from ``since`` to before ``until``."""

    since: datetime
    until: datetime


def cut(hours: Sequence[Hour], rows: int = ROWS_OF_SLICE) -> list[Slice]:
    """These hours as slices of about so many rows or fewer, without an overlap or a gap within an hour."""
    slices = []
    for hour in hours:
        parts = max(1, math.ceil(hour.n / rows))
        edges = [hour.at + HOUR * part / parts for part in range(parts)]
        slices += [Slice(since, until) for since, until in zip(edges, [*edges[1:], hour.at + HOUR], strict=True)]
    return slices


def hourly(since: datetime, until: datetime) -> list[Slice]:
    """Slices of an hour, the last one shorter."""
    count = math.ceil((until - since) / HOUR)
    return [Slice(since + HOUR * hour, min(since + HOUR * (hour + 1), until)) for hour in range(count)]


def read_workers(connection: Connection[Any], run: str) -> dict[int, str]:
    """Producer ids of a run, each with the name of its worker."""
    found = connection.execute("SELECT producer_id, worker FROM producer WHERE run = %s", (run,))
    return dict(found.fetchall())


def copy_timings(
    connection: Connection[Any], series_ids: list[int], part: Slice, rows: int = ROWS_OF_BATCH
) -> Iterator[NDArray[np.void]]:
    """Rows of ``request_timing`` in batches, each an array with a field for each column but the buckets.

    As the wire has them: big-endian, ``at`` in µs since 2000, ``trace_id`` sixteen bytes of zero where it is NULL.
    In the order of the table, which is that of their coming.
    """
    asked = {"ids": series_ids, "since": part.since, "until": part.until}
    with connection.cursor() as cursor, cursor.copy(_TIMINGS.encode(), asked) as copy:
        blocks = iter(copy)
        while taken := _gather(islice(blocks, rows)):
            batch = decode(taken)
            if len(batch):
                yield batch


def _gather(blocks: Iterator[Buffer]) -> bytearray:
    """A row each; not kept to be joined, since that costs twice what reading them does."""
    taken = bytearray()
    for block in blocks:
        taken += block
    return taken


def decode(stream: bytes | bytearray) -> NDArray[np.void]:
    """A part of the COPY stream, cut between rows. ``ValueError`` when its rows are not those that were asked for."""
    begin = _HEADER_BYTES if stream.startswith(_SIGNATURE) else 0
    count, rest = divmod(len(stream) - begin, ROW.itemsize)
    if rest not in (0, _TRAILER_BYTES):
        raise ValueError("rows of request_timing have another width than their columns say")
    rows: NDArray[np.void] = np.frombuffer(stream, ROW, count, begin)
    if not (rows["fields"] == len(_COPIED)).all():
        raise ValueError("rows of request_timing have other columns than were asked for")
    return rows


async def stream_resources(
    connection: AsyncConnection[Any], environment: str, slices: Sequence[Slice]
) -> AsyncIterator[list[dict[str, Any]]]:
    """Every value of every sample: ``at, service, system, instance, ready, metric, value``."""
    for part in slices:
        asked = {"environment": environment, "since": part.since, "until": part.until}
        async for rows in _fetch(connection, _RESOURCES, asked):
            yield rows


async def stream_spans(
    connection: AsyncConnection[Any], series_ids: list[int], slices: Sequence[Slice]
) -> AsyncIterator[list[dict[str, Any]]]:
    """Spans of the traces that these series' requests began; one that was exported twice comes once.

    ``at`` (start), ``duration_us, trace_id, span_id, parent_span_id, service, name, kind, status, attributes`` (JSON
    as text); ``kind`` and ``status`` are the numbers of OpenTelemetry's enumerations.
    """
    for part in slices:
        asked = {"ids": series_ids, "since": part.since, "until": part.until, "skew": _SKEW, "longest": _LONGEST}
        async for rows in _fetch(connection, _SPANS, asked):
            yield rows


async def _fetch(
    connection: AsyncConnection[Any], query: str, asked: dict[str, Any]
) -> AsyncIterator[list[dict[str, Any]]]:
    async with (
        connection.transaction(),
        connection.cursor("export", row_factory=dict_row) as cursor,
    ):
        await cursor.execute(query.encode(), asked)
        while rows := await cursor.fetchmany(ROWS_OF_FETCH):
            yield rows
