"""SQL of the ingest transaction: names to ids, frame identities, rows, counters.

Order of locks within a transaction, the same in every collector so that two never wait for each other in a ring:
``frames`` by (producer, seq), then ``producer`` by id, then ``sent_counter`` of the producers already locked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.copy import AsyncLibpqWriter

_FLUSH_BYTES = 1024 * 1024
"""Waiting until the server has taken what was written costs a turn of the loop each time."""

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

_COPY_TIMINGS = f"COPY request_timing ({', '.join(name for name, _ in TIMING_COLUMNS)}) FROM STDIN (FORMAT BINARY)"


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest frame of a producer in a batch, and how many frames and events of it the batch adds."""

    producer_id: int
    seq: int
    final: bool
    emitted_at: datetime
    frames: int
    events: int


@dataclass(frozen=True, slots=True)
class TimingPart:
    """What a batch adds to ten seconds of a series; a row of ``timing_part`` but for when it was committed.

    ``at``: their start. ``streams``: answers with tokens; ``stream_us``: from their first token to their end. The lists
    are histograms as the store has them: see ``pack``.
    """

    series_id: int
    at: datetime
    ramp_up: bool
    cancelled: bool
    n: int
    failed: int
    service_sum_us: int
    response_sum_us: int
    service_max_us: int
    response_max_us: int
    bytes_in: int
    bytes_out: int
    streams: int
    tokens: int
    stream_us: int
    errors: list[int]
    service: list[int]
    response: list[int]
    ttft: list[int]
    gap: list[int]


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """A request or workflow whose trace was recorded: when it was done (µs since the Unix epoch), how long it took."""

    done_us: int
    series_id: int
    trace_id: str
    response_us: int


_PART_NAMES = [field.name for field in fields(TimingPart)]
_ADD_PART = f"""
INSERT INTO timing_part ({", ".join(_PART_NAMES)}) VALUES ({", ".join(["%s"] * len(_PART_NAMES))})
"""  # noqa: S608 - the names are those of the class above


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


async def copy_timings(connection: AsyncConnection[Any], pieces: Iterable[bytes]) -> None:
    """Append rows given as the pieces of a binary COPY stream over ``TIMING_COLUMNS``."""
    async with connection.cursor() as cursor:
        writer = AsyncLibpqWriter(cursor, flush_threshold=_FLUSH_BYTES)
        async with cursor.copy(_COPY_TIMINGS.encode(), writer=writer) as copy:
            for piece in pieces:
                await copy.write(memoryview(piece))


async def advance_producers(connection: AsyncConnection[Any], progress: Sequence[Progress]) -> None:
    """Move producers forward, one entry each: what is older than what is stored only adds to the counts."""
    await connection.execute(
        """
        WITH latest AS (
            SELECT * FROM unnest(%s::int[], %s::bigint[], %s::boolean[], %s::timestamptz[], %s::bigint[], %s::bigint[])
                AS v(producer_id, seq, final, emitted, frames, events)
        ), locked AS (
            SELECT producer_id FROM producer WHERE producer_id IN (SELECT producer_id FROM latest)
            ORDER BY producer_id FOR UPDATE
        )
        UPDATE producer
        SET last_seq = greatest(last_seq, latest.seq), final = producer.final OR latest.final,
            last_emitted = greatest(last_emitted, latest.emitted),
            frames = producer.frames + latest.frames, events = producer.events + latest.events
        FROM latest JOIN locked USING (producer_id)
        WHERE producer.producer_id = latest.producer_id
        """,
        [
            [item.producer_id for item in progress],
            [item.seq for item in progress],
            [item.final for item in progress],
            [item.emitted_at for item in progress],
            [item.frames for item in progress],
            [item.events for item in progress],
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


async def add_traces(connection: AsyncConnection[Any], traces: Sequence[RequestTrace]) -> None:
    """Append recorded traces, in the partitions or chunks of their time."""
    await connection.execute(
        """
        INSERT INTO request_trace (at, series_id, trace_id, response_us)
        SELECT timestamptz 'epoch' + done * interval '1 microsecond', series_id, trace_id, response
        FROM unnest(%s::bigint[], %s::int[], %s::uuid[], %s::bigint[]) AS v(done, series_id, trace_id, response)
        """,
        [
            _array(trace.done_us for trace in traces),
            _array(trace.series_id for trace in traces),
            _array(trace.trace_id for trace in traces),
            _array(trace.response_us for trace in traces),
        ],
    )


async def add_parts(connection: AsyncConnection[Any], parts: Sequence[TimingPart]) -> None:
    """Add what a batch counted, to be folded later; committed with the rows that it counts."""
    async with connection.cursor() as cursor:
        await cursor.executemany(_ADD_PART, [_values(part) for part in parts])


def _values(part: TimingPart) -> list[Any]:
    values = [getattr(part, name) for name in _PART_NAMES]
    return [_array(value) if isinstance(value, list) else value for value in values]


def _array(values: Iterable[int | str]) -> str:
    """PostgreSQL's text for an array of numbers or ids: the driver's own way takes a turn for each of them."""
    return "{" + ",".join(map(str, values)) + "}"


async def prune_frames(connection: AsyncConnection[Any], before: datetime) -> int:
    """Forget the identities of frames committed before a moment, which no redelivery can reach any more; how many."""
    cursor = await connection.execute("DELETE FROM frames WHERE committed_at < %s", (before,))
    return cursor.rowcount
