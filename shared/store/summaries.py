"""SQL of the table ``daily_summary``: what each canary run did on each day, one row per run and day."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True)
class SummaryHead:
    """``complete``: the day is over, or the run; ``events``: how many stored events it counts."""

    run: str
    day: date
    revision: int
    complete: bool
    events: int


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A summary; ``revision`` is 0 while the day goes on."""

    run: str
    day: date
    canary: str
    revision: int
    complete: bool
    written_at: datetime
    body: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The body, with its revision and when it was written."""
        return {**self.body, "revision": self.revision, "written_at": self.written_at.isoformat()}


async def save_summary(
    connection: AsyncConnection[Any],
    environment: str,
    run: str,
    day: date,
    canary: str,
    *,
    complete: bool,
    events: int,
    body: dict[str, Any],
) -> int | None:
    """Write a day, or a new revision of it; returns its number, None where nothing is new.

    A day that is complete is never made incomplete again, and the same summary written twice is there once.
    """
    found = await connection.execute(
        """
        INSERT INTO daily_summary AS kept (environment, run, day, canary, revision, complete, events, body)
        VALUES (%(environment)s, %(run)s, %(day)s, %(canary)s, %(complete)s::int, %(complete)s, %(events)s, %(body)s)
        ON CONFLICT (run, day) DO UPDATE
        SET revision = kept.revision + excluded.complete::int, complete = excluded.complete, events = excluded.events,
            canary = excluded.canary, written_at = now(), body = excluded.body
        WHERE (excluded.complete OR NOT kept.complete)
            AND (kept.body <> excluded.body OR kept.complete <> excluded.complete)
        RETURNING revision
        """,
        {
            "environment": environment,
            "run": run,
            "day": day,
            "canary": canary,
            "complete": complete,
            "events": events,
            "body": Jsonb(body),
        },
    )
    row = await found.fetchone()
    return None if row is None else int(row[0])


async def read_heads(
    connection: AsyncConnection[Any], environment: str, since: date
) -> dict[tuple[str, date], SummaryHead]:
    """What is written of days from one on, by run and day."""
    async with connection.cursor(row_factory=class_row(SummaryHead)) as cursor:
        await cursor.execute(
            "SELECT run, day, revision, complete, events FROM daily_summary WHERE environment = %s AND day >= %s",
            (environment, since),
        )
        return {(head.run, head.day): head for head in await cursor.fetchall()}


async def read_summary(
    connection: AsyncConnection[Any], run: str, *, day: date | None = None, before: date | None = None
) -> SummaryRow | None:
    """The summary of a day of a run, or the newest, or the newest before a day; None where there is none."""
    async with connection.cursor(row_factory=class_row(SummaryRow)) as cursor:
        await cursor.execute(
            """
            SELECT run, day, canary, revision, complete, written_at, body FROM daily_summary
            WHERE run = %(run)s AND (%(day)s::date IS NULL OR day = %(day)s)
                AND (%(before)s::date IS NULL OR day < %(before)s)
            ORDER BY day DESC LIMIT 1
            """,
            {"run": run, "day": day, "before": before},
        )
        return await cursor.fetchone()


async def list_summaries(
    connection: AsyncConnection[Any],
    environment: str,
    *,
    run: str | None = None,
    day: date | None = None,
    limit: int = 50,
) -> list[SummaryRow]:
    """Summaries of an environment, the newest day first; of one run or of one day if asked."""
    async with connection.cursor(row_factory=class_row(SummaryRow)) as cursor:
        await cursor.execute(
            """
            SELECT run, day, canary, revision, complete, written_at, body FROM daily_summary
            WHERE environment = %(environment)s AND (%(run)s::text IS NULL OR run = %(run)s)
                AND (%(day)s::date IS NULL OR day = %(day)s)
            ORDER BY day DESC, run LIMIT %(limit)s
            """,
            {"environment": environment, "run": run, "day": day, "limit": limit},
        )
        return await cursor.fetchall()
