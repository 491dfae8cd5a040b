"""SQL of the ingest transaction: names to ids, frame identities, rows, counters, partitions.

Order of locks within a transaction, the same in every collector so that two never wait for each other in a ring:
``frames`` by (producer, seq), then ``producer`` by id, then ``sent_counter`` of the producers already locked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

SeriesKey = tuple[str, str, str, str, int]
"""run, system, scenario, action, kind"""

ProducerKey = tuple[str, str, int, str]
"""run, worker, epoch, system"""

TIMING_COLUMNS: tuple[tuple[str, str], ...] = (
    ("at", ">i8"),
    ("series_id", ">i4"),
    ("producer_id", ">i4"),
    ("user_no", ">i4"),
    ("dispatch_us", ">i8"),
    ("service_us", ">i8"),
    ("ttfb_us", ">i8"),
    ("connect_us", ">i8"),
    ("ttft_us", ">i8"),
    ("gap_us", ">i8"),
    ("bytes_in", ">i8"),
    ("bytes_out", ">i8"),
    ("tokens", ">i4"),
    ("status", ">i2"),
    ("error", ">i2"),
    ("check_result", ">i2"),
    ("attempt", ">i2"),
    ("flags", ">i2"),
    ("service_bucket", ">i2"),
    ("response_bucket", ">i2"),
    ("trace_id", "V16"),
)
"""Columns of ``request_timing`` in the order they are copied, each with its binary form (``at``: µs since 2000)."""

_PARTITIONED = ("request_timing", "spans", "resource_sample")
_PARTITION_LOCK = 0x7469_6470  # "tidp"
_COPY_TIMINGS = f"COPY request_timing ({', '.join(name for name, _ in TIMING_COLUMNS)}) FROM STDIN (FORMAT BINARY)"


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest frame of a producer in a batch."""

    producer_id: int
    seq: int
    final: bool
    emitted_at: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """What a producer had sent of one series as of frame ``seq``."""

    producer_id: int
    series_id: int
    seq: int
    sent: int
    in_flight: int
    waiting: int


async def resolve_series(connection: AsyncConnection[Any], keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
    """Ids of these series, made where they are new."""
    columns = [list(column) for column in zip(*sorted(keys), strict=True)]
    if not columns:
        return {}
    await connection.execute(
        """
        INSERT INTO series (run, system, scenario, action, kind)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::smallint[])
        ON CONFLICT DO NOTHING
        """,
        columns,
    )
    rows = await connection.execute(
        """
        SELECT run, system, scenario, action, kind, series_id FROM series
        JOIN unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::smallint[])
            AS k(run, system, scenario, action, kind) USING (run, system, scenario, action, kind)
        """,
        columns,
    )
    return {(run, system, scenario, action, kind): number async for run, system, scenario, action, kind, number in rows}


async def resolve_producers(connection: AsyncConnection[Any], keys: Iterable[ProducerKey]) -> dict[ProducerKey, int]:
    """Ids of these producers, made where they are new."""
    columns = [list(column) for column in zip(*sorted(keys), strict=True)]
    if not columns:
        return {}
    await connection.execute(
        """
        INSERT INTO producer (run, worker, epoch, system)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[]) ON CONFLICT DO NOTHING
        """,
        columns,
    )
    rows = await connection.execute(
        """
        SELECT run, worker, epoch, system, producer_id FROM producer
        JOIN unnest(%s::text[], %s::text[], %s::bigint[], %s::text[])
            AS k(run, worker, epoch, system) USING (run, worker, epoch, system)
        """,
        columns,
    )
    return {(run, worker, epoch, system): number async for run, worker, epoch, system, number in rows}


async def claim_frames(
    connection: AsyncConnection[Any], frames: Iterable[tuple[int, int, int]]
) -> set[tuple[int, int]]:
    """Insert frame identities (producer, seq, events); returns those (producer, seq) that were not there before.

    Waits for another transaction that holds one of them, and then finds it taken (or free, if that one rolled back).
    """
    columns = [list(column) for column in zip(*sorted(frames), strict=True)]
    if not columns:
        return set()
    rows = await connection.execute(
        "INSERT INTO frames (producer_id, seq, events) SELECT * FROM unnest(%s::int[], %s::bigint[], %s::int[]) "
        "ON CONFLICT DO NOTHING RETURNING producer_id, seq",
        columns,
    )
    return {(producer, seq) async for producer, seq in rows}


async def copy_timings(connection: AsyncConnection[Any], buffer: bytes) -> None:
    """Append rows given as a whole binary COPY stream over ``TIMING_COLUMNS``."""
    async with connection.cursor() as cursor, cursor.copy(_COPY_TIMINGS.encode()) as copy:
        await copy.write(buffer)


async def advance_producers(connection: AsyncConnection[Any], progress: Sequence[Progress]) -> None:
    """Move producers forward, one entry each; an entry that is not newer than what is stored changes nothing."""
    await connection.execute(
        """
        WITH latest AS (
            SELECT * FROM unnest(%s::int[], %s::bigint[], %s::boolean[], %s::timestamptz[])
                AS v(producer_id, seq, final, emitted)
        ), locked AS (
            SELECT producer_id FROM producer WHERE producer_id IN (SELECT producer_id FROM latest)
            ORDER BY producer_id FOR UPDATE
        )
        UPDATE producer
        SET last_seq = latest.seq, final = producer.final OR latest.final, last_emitted = latest.emitted
        FROM latest JOIN locked USING (producer_id)
        WHERE producer.producer_id = latest.producer_id AND producer.last_seq < latest.seq
        """,
        [
            [item.producer_id for item in progress],
            [item.seq for item in progress],
            [item.final for item in progress],
            [item.emitted_at for item in progress],
        ],
    )


async def advance_sent(connection: AsyncConnection[Any], counts: Iterable[Sent]) -> None:
    """Move cumulative counters forward, one entry per (producer, series); older entries change nothing."""
    ordered = sorted(counts, key=lambda item: (item.producer_id, item.series_id))
    await connection.execute(
        """
        INSERT INTO sent_counter (producer_id, series_id, seq, sent, in_flight, waiting)
        SELECT * FROM unnest(%s::int[], %s::int[], %s::bigint[], %s::bigint[], %s::int[], %s::int[])
        ON CONFLICT (producer_id, series_id) DO UPDATE
        SET seq = excluded.seq, sent = excluded.sent, in_flight = excluded.in_flight, waiting = excluded.waiting
        WHERE sent_counter.seq < excluded.seq
        """,
        [
            [item.producer_id for item in ordered],
            [item.series_id for item in ordered],
            [item.seq for item in ordered],
            [item.sent for item in ordered],
            [item.in_flight for item in ordered],
            [item.waiting for item in ordered],
        ],
    )


async def prune_frames(connection: AsyncConnection[Any], before: datetime) -> int:
    """Forget the identities of frames committed before a moment, which no redelivery can reach any more; how many."""
    cursor = await connection.execute("DELETE FROM frames WHERE committed_at < %s", (before,))
    return cursor.rowcount


async def ensure_partitions(connection: AsyncConnection[Any], around: datetime, days_ahead: int) -> int:
    """Make the daily partitions of every large table around a moment; returns how many are new. In a transaction."""
    # A day of the schema's function is one of the session's time zone: of 23 hours where a summer begins.
    await connection.execute("SET LOCAL TIME ZONE 'UTC'")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PARTITION_LOCK,))
    created = 0
    for table in _PARTITIONED:
        row = await (
            await connection.execute("SELECT ensure_partitions(%s::regclass, %s, %s)", (table, around, days_ahead))
        ).fetchone()
        created += row[0] if row else 0
    return created
