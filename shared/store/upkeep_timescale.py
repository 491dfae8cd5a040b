"""Upkeep of the store on TimescaleDB: its policies, set from the settings; its own jobs carry them out."""

from datetime import timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection

from shared.store.keeping import Keeping

PARTS_KEPT = timedelta(days=7)
_LOCK = 0x7469_6474  # "tidt"
# What is refreshed reaches further back than any gap in the jobs, and less far than parts are kept.
_REFRESH = (timedelta(days=4), timedelta(hours=1), timedelta(minutes=10))


async def tend(connection: AsyncConnection[Any], keeping: Keeping) -> None:
    """Set every policy to what the settings say. In a transaction; may be repeated at any time."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    for table, kept in keeping.tables.items():
        await connection.execute("SELECT set_chunk_time_interval(%s::regclass, %s)", (table, keeping.chunk))
        await _replace(connection, "compression", table, "compress_after => %s", keeping.compress_after)
        await _replace(connection, "retention", table, "drop_after => %s", kept)
    for table, kept in (
        ("timing_part", PARTS_KEPT), ("timing_window", keeping.windows), ("timing_hour", keeping.hours)
    ):  # fmt: skip
        await _replace(connection, "retention", table, "drop_after => %s", kept)
    await connection.execute("DELETE FROM resource_minute WHERE at < now() - %s::interval", (keeping.minutes,))
    for view in ("timing_window", "timing_hour"):
        options: LiteralString = "start_offset => %s, end_offset => %s, schedule_interval => %s"
        await _replace(connection, "continuous_aggregate", view, options, *_REFRESH)


async def _replace(
    connection: AsyncConnection[Any], policy: LiteralString, table: str, options: LiteralString, *values: timedelta
) -> None:
    await connection.execute(f"SELECT remove_{policy}_policy(%s::regclass, if_exists => true)", (table,))
    await connection.execute(f"SELECT add_{policy}_policy(%s::regclass, {options})", (table, *values))
