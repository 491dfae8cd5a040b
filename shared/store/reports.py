"""The table of reports: one row per revision, the highest is the report. Rendering belongs to the reader."""

from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

_WRITE = """
INSERT INTO report (run, revision, body)
SELECT %(run)s, next, jsonb_set(%(body)s, '{revision}', to_jsonb(next))
  FROM (SELECT coalesce(max(revision), 0) + 1 AS next FROM report WHERE run = %(run)s) AS n
RETURNING revision
"""


async def write_report(connection: AsyncConnection[Any], run: str, body: dict[str, Any]) -> int:
    """Store a report as the run's newest revision, which is also set in it; returns the revision."""
    cursor = await connection.execute(_WRITE, {"run": run, "body": Jsonb(body)})
    row = await cursor.fetchone()
    assert row is not None, "an insert that returns gives one row"  # noqa: S101 - told to the type checker
    return int(row[0])


async def has_report(connection: AsyncConnection[Any], run: str) -> bool:
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM report WHERE run = %s)", (run,))
    row = await cursor.fetchone()
    return bool(row and row[0])
