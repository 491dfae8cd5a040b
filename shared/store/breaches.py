"""SQL of the table ``breach_revision``: every event of every breach, read as episodes at their latest revision."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.contracts.breach import BreachEvent, BreachStatus


@dataclass(frozen=True, slots=True)
class BreachRow:
    """An episode at one revision; ``event`` is the JSON of its ``BreachEvent``."""

    breach: str
    revision: int
    at: datetime
    environment: str
    run: str
    system: str
    metric: str
    series: str
    status: str
    level: str
    event: dict[str, Any]


async def save_breach(connection: AsyncConnection[Any], event: BreachEvent, body: str) -> None:
    """Keep a revision; one that is there already stays as it is. ``body``: the event's JSON as it came."""
    breach = event.data
    await connection.execute(
        """
        INSERT INTO breach_revision
            (breach, revision, at, environment, run, system, metric, series, status, level, event)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb) ON CONFLICT DO NOTHING
        """,
        (
            breach.breach,
            breach.revision,
            event.time,
            breach.environment,
            breach.run,
            breach.system,
            breach.metric,
            breach.series,
            breach.status,
            breach.level,
            body,
        ),
    )


async def list_breaches(
    connection: AsyncConnection[Any],
    environment: str,
    *,
    run: str | None = None,
    open_only: bool = False,
    limit: int | None = 100,
) -> list[BreachRow]:
    """Episodes at their latest revision, the last changed first; of one run, or only those not resolved, if asked."""
    async with connection.cursor(row_factory=class_row(BreachRow)) as cursor:
        await cursor.execute(
            """
            SELECT * FROM (
                SELECT DISTINCT ON (breach)
                    breach, revision, at, environment, run, system, metric, series, status, level, event
                FROM breach_revision
                WHERE environment = %(environment)s AND (%(run)s::text IS NULL OR run = %(run)s)
                ORDER BY breach, revision DESC
            ) AS latest
            WHERE NOT %(open_only)s OR status <> %(resolved)s
            ORDER BY at DESC, breach LIMIT %(limit)s
            """,
            {
                "environment": environment,
                "run": run,
                "open_only": open_only,
                "resolved": BreachStatus.RESOLVED,
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def read_breach(connection: AsyncConnection[Any], breach: str) -> list[BreachRow]:
    """All revisions of one episode, the first first; empty where there is none."""
    async with connection.cursor(row_factory=class_row(BreachRow)) as cursor:
        await cursor.execute(
            """
            SELECT breach, revision, at, environment, run, system, metric, series, status, level, event
            FROM breach_revision WHERE breach = %s ORDER BY revision
            """,
            (breach,),
        )
        return await cursor.fetchall()
