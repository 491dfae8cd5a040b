"""SQL of the table ``run``: the newest desired state and the latest state of each run, and who reads them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.contracts.run import Phase, RunDesired, RunState

FINAL = [phase.value for phase in Phase if phase.final]


@dataclass(frozen=True, slots=True)
class RunRow:
    """``desired`` and ``state`` are the JSON of ``RunDesired`` and ``RunState`` (None before the first)."""

    run: str
    environment: str
    phase: str
    generation: int
    suite: str | None
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason: str
    desired: dict[str, Any]
    state: dict[str, Any] | None


async def save_desired(connection: AsyncConnection[Any], desired: RunDesired, body: str) -> None:
    """Keep a desired state unless one of the same or a later generation is there. ``body``: its JSON as it came."""
    await connection.execute(
        """
        INSERT INTO run (run, environment, phase, generation, suite, requested_by, requested_at, desired)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s::jsonb)
        ON CONFLICT (run) DO UPDATE
        SET generation = excluded.generation, desired = excluded.desired,
            requested_at = least(run.requested_at, excluded.requested_at)
        WHERE run.generation < excluded.generation
        """,
        (
            desired.run,
            desired.environment,
            Phase.STARTING,
            desired.generation,
            desired.suite,
            desired.requested_by,
            desired.requested_at,
            body,
        ),
    )


async def save_state(connection: AsyncConnection[Any], state: RunState, body: str) -> bool:
    """Keep a state unless a later one is there or the run has ended. False when there is no such run (yet)."""
    await connection.execute(
        """
        UPDATE run
        SET phase = %(phase)s, started_at = coalesce(%(started_at)s, started_at),
            ended_at = coalesce(%(ended_at)s, ended_at), reason = %(reason)s, state = %(body)s::jsonb
        WHERE run = %(run)s AND NOT phase = ANY(%(final)s)
            AND (state IS NULL OR (state ->> 'at')::timestamptz <= %(at)s)
        """,
        {
            "run": state.run,
            "phase": state.phase,
            "started_at": state.started_at,
            "ended_at": state.ended_at,
            "reason": state.reason,
            "at": state.at,
            "final": FINAL,
            "body": body,
        },
    )
    known = await connection.execute("SELECT 1 FROM run WHERE run = %s", (state.run,))
    return await known.fetchone() is not None


async def list_runs(connection: AsyncConnection[Any], environment: str, limit: int = 50) -> list[RunRow]:
    """The runs of an environment, the newest first."""
    async with connection.cursor(row_factory=class_row(RunRow)) as cursor:
        await cursor.execute(
            """
            SELECT run, environment, phase, generation, suite, requested_by, requested_at, started_at, ended_at,
                reason, desired, state
            FROM run WHERE environment = %s ORDER BY requested_at DESC, run LIMIT %s
            """,
            (environment, limit),
        )
        return await cursor.fetchall()


async def read_run(connection: AsyncConnection[Any], run: str) -> RunRow | None:
    """One run by its id; None where there is none."""
    async with connection.cursor(row_factory=class_row(RunRow)) as cursor:
        await cursor.execute(
            """
            SELECT run, environment, phase, generation, suite, requested_by, requested_at, started_at, ended_at,
                reason, desired, state
            FROM run WHERE run = %s
            """,
            (run,),
        )
        return await cursor.fetchone()
