"""Named queries of the store about itself: how large its tables are, and how much each commit writes. Reads only."""

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.store.figures import Commits, StoredTable
from shared.store.keeping import Keeping

_PARTITIONS = """
SELECT parent.relname AS table, sum(pg_total_relation_size(part.oid))::bigint AS bytes,
       sum(greatest(part.reltuples, 0))::bigint AS rows,
       min(to_date(right(part.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC')
           FILTER (WHERE pg_relation_size(part.oid) > 0) AS since
  FROM pg_class AS parent JOIN pg_inherits ON inhparent = parent.oid JOIN pg_class AS part ON part.oid = inhrelid
 WHERE parent.relname = ANY(%(tables)s) AND parent.relnamespace = current_schema()::regnamespace
 GROUP BY 1 ORDER BY 2 DESC
"""

_HYPERTABLES = """
SELECT h.hypertable_name::text AS table,
       hypertable_size(format('%%I.%%I', h.hypertable_schema, h.hypertable_name)::regclass) AS bytes,
       approximate_row_count(format('%%I.%%I', h.hypertable_schema, h.hypertable_name)::regclass) AS rows,
       min(c.range_start) AS since,
       coalesce(sum(pg_total_relation_size(format('%%I.%%I', c.chunk_schema, c.chunk_name)::regclass)) FILTER (
           WHERE NOT c.is_compressed AND c.range_end < now() - %(compress_after)s::interval), 0)::bigint AS compressible
  FROM timescaledb_information.hypertables AS h
  LEFT JOIN timescaledb_information.chunks AS c USING (hypertable_schema, hypertable_name)
 WHERE h.hypertable_name = ANY(%(tables)s) GROUP BY h.hypertable_schema, h.hypertable_name ORDER BY 2 DESC
"""

_COMMITS = """
SELECT count(DISTINCT committed_at) AS commits, count(*) AS frames, coalesce(sum(events), 0)::bigint AS events,
       coalesce(extract(epoch FROM max(committed_at) - min(committed_at)), 0)::float8 AS span_s
  FROM frames WHERE committed_at >= %(since)s AND committed_at < %(until)s
"""


async def read_tables(connection: AsyncConnection[Any], keeping: Keeping) -> list[StoredTable]:
    """The large tables, the largest first."""
    asked = {"tables": list(keeping.tables), "compress_after": keeping.compress_after}
    found = await connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
    query = _HYPERTABLES if await found.fetchone() else _PARTITIONS
    async with connection.cursor(row_factory=class_row(StoredTable)) as cursor:
        await cursor.execute(query.encode(), asked)
        return await cursor.fetchall()


async def read_commits(connection: AsyncConnection[Any], since: datetime, until: datetime) -> Commits:
    """How frames were committed: those of one commit have the same time."""
    async with connection.cursor(row_factory=class_row(Commits)) as cursor:
        await cursor.execute(_COMMITS.encode(), {"since": since, "until": until})
        return (await cursor.fetchall())[0]
