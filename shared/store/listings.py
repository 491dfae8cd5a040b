"""SQL that joins what several tables know of a run, for the operator's door. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.contracts.timing import ErrorKind, Kind


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """A run as a list shows it; ``verdict`` and ``overall_score`` are its latest report's, None without one."""

    run: str
    phase: str
    suite: str | None
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason: str
    scenarios: list[str]
    verdict: str | None
    overall_score: float | None


async def list_reported_runs(connection: AsyncConnection[Any], environment: str, limit: int = 50) -> list[ReportedRun]:
    """The runs of an environment with their verdicts, the newest first."""
    async with connection.cursor(row_factory=class_row(ReportedRun)) as cursor:
        await cursor.execute(
            """
            SELECT r.run, r.phase, r.suite, r.requested_by, r.requested_at, r.started_at, r.ended_at, r.reason,
                jsonb_path_query_array(r.desired, '$.loads[*].scenario.name') AS scenarios,
                p.body ->> 'verdict' AS verdict, (p.body ->> 'overall_score')::double precision AS overall_score
            FROM run r
            LEFT JOIN LATERAL (
                SELECT body FROM report WHERE report.run = r.run ORDER BY revision DESC LIMIT 1
            ) p ON true
            WHERE r.environment = %s ORDER BY r.requested_at DESC, r.run LIMIT %s
            """,
            (environment, limit),
        )
        return await cursor.fetchall()


async def read_latest_report(connection: AsyncConnection[Any], run: str) -> dict[str, Any] | None:
    """The highest revision of a run's report; None where there is none yet."""
    found = await connection.execute("SELECT body FROM report WHERE run = %s ORDER BY revision DESC LIMIT 1", (run,))
    row = await found.fetchone()
    return None if row is None else row[0]


async def find_last_reported(connection: AsyncConnection[Any], environment: str) -> str | None:
    """The newest run of an environment that has a report."""
    found = await connection.execute(
        """
        SELECT run FROM run WHERE environment = %s AND EXISTS (SELECT FROM report WHERE report.run = run.run)
        ORDER BY requested_at DESC, run LIMIT 1
        """,
        (environment,),
    )
    row = await found.fetchone()
    return None if row is None else row[0]


async def find_crossing_trace(connection: AsyncConnection[Any], run: str, services: list[str]) -> str | None:
    """A trace (32 hexadecimal digits) that a request of this run began and that has spans of all these services."""
    found = await connection.execute(
        """
        SELECT s.trace_id::text FROM spans s
        WHERE s.service = ANY (%(services)s)
            AND s.at >= (SELECT requested_at FROM run WHERE run = %(run)s)
            AND s.trace_id IN (
                SELECT t.trace_id FROM request_trace t JOIN series USING (series_id)
                WHERE series.run = %(run)s AND t.at >= (SELECT requested_at FROM run WHERE run = %(run)s)
            )
        GROUP BY s.trace_id HAVING count(DISTINCT s.service) = cardinality(%(services)s::text[])
        ORDER BY max(s.duration_us) DESC LIMIT 1
        """,
        {"run": run, "services": services},
    )
    row = await found.fetchone()
    return None if row is None else str(row[0]).replace("-", "")


async def read_workflow_p95_ms(
    connection: AsyncConnection[Any], run: str, since: datetime, until: datetime, least: int = 20
) -> float | None:
    """95th percentile (nearest-rank) of the workflows that ended within a time; None for fewer than ``least``."""
    found = await connection.execute(
        """
        SELECT histogram_value_us(percentile_disc(0.95) WITHIN GROUP (ORDER BY t.response_bucket)) / 1000
        FROM request_timing t JOIN series USING (series_id)
        WHERE series.run = %s AND series.kind = %s AND t.at >= %s AND t.at < %s AND t.error <> %s
        HAVING count(*) >= %s
        """,
        (run, Kind.WORKFLOW, since, until, ErrorKind.CANCELLED, least),
    )
    row = await found.fetchone()
    return None if row is None else float(row[0])
