"""Upkeep of the store on plain PostgreSQL: partitions made ahead and dropped on time, roll-ups folded."""

from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from shared.store.keeping import TIMINGS_AGE, Keeping

DAYS_AHEAD = timedelta(days=2)
FOLD_EVERY_S = 5.0
WAIT_MS = 900
"""For a table that somebody reads: who comes after waits as long. Less than it takes to be told of a deadlock."""
_PARTITION_LOCK = 0x7469_6470  # "tidp"
_FOLD_LOCK = 0x7469_6466  # "tidf"
_SUMMARIZE = """
SELECT brin_summarize_new_values(inhrelid) FROM pg_inherits WHERE inhparent = 'request_timing_by_time'::regclass
"""


async def tend(connection: AsyncConnection[Any], keeping: Keeping, now: datetime) -> int:
    """Make the partitions that anything yet to come may need, drop what is past its age; how many are new.

    In a transaction; ``LockNotAvailable`` while a table is read for long, to be tried again. Partitions reach back as
    far as TIMINGS does: a store that was away for days takes it all.
    """
    # A day of the schema's function is one of the session's time zone: of 23 hours where a summer begins.
    await connection.execute("SET LOCAL TIME ZONE 'UTC'")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PARTITION_LOCK,))
    await connection.execute(f"SET LOCAL lock_timeout = {WAIT_MS:d}")
    created = 0
    for table, kept in keeping.tables.items():
        earliest = now - min(TIMINGS_AGE + timedelta(days=1), kept)
        row = await (
            await connection.execute(
                "SELECT ensure_partitions(%s::regclass, %s, %s)", (table, earliest, now + DAYS_AHEAD)
            )
        ).fetchone()
        created += row[0] if row else 0
        await connection.execute("SELECT drop_partitions(%s::regclass, %s)", (table, now - kept))
    await connection.execute("DELETE FROM resource_minute WHERE at < %s", (now - keeping.minutes,))
    await connection.execute("DELETE FROM timing_folded_window WHERE at < %s", (now - keeping.windows,))
    await connection.execute("DELETE FROM timing_folded_hour WHERE at < %s", (now - keeping.hours,))
    return created


async def fold(connection: AsyncConnection[Any], now: datetime) -> None:
    """Fold the roll-ups of what was committed so far, and let the index by time know its rows: an autovacuum that
    would tell it comes too late for a report. In a transaction; does nothing while another one folds."""
    row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_FOLD_LOCK,))).fetchone()
    if row is not None and row[0]:
        await connection.execute("SELECT fold_timings(%s)", (now,))
        await connection.execute(_SUMMARIZE)
