"""SQL of the table ``scaling_record``: the audit of scaling, one chain per service."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.contracts.scaling import REFUSALS, Action, ScalingRecord


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """One link of a chain; ``record`` is the JSON of its ``ScalingRecord``."""

    environment: str
    service: str
    sequence: int
    kind: str
    decision: str
    at: datetime
    hash: str
    record: dict[str, Any]


async def save_scaling(connection: AsyncConnection[Any], record: ScalingRecord, body: str) -> None:
    """Keep a record; one at the same place of the chain stays as it is. ``body``: the record's JSON as it came."""
    await connection.execute(
        """
        INSERT INTO scaling_record (environment, service, sequence, kind, decision, at, hash, record)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s::json) ON CONFLICT DO NOTHING
        """,
        (
            record.environment,
            record.service,
            record.sequence,
            record.kind,
            record.decision,
            record.at,
            record.hash,
            body,
        ),
    )


async def list_scaling(
    connection: AsyncConnection[Any],
    environment: str,
    *,
    service: str | None = None,
    run: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    moves: bool = False,
    limit: int | None = 100,
) -> list[ScalingRow]:
    """Records, the newest first: of one service, within a time, or of the decisions that name a run, with what
    followed from these decisions. ``moves``: without decisions that nothing should change."""
    return await _rows(
        connection,
        """
        SELECT environment, service, sequence, kind, decision, at, hash, record FROM scaling_record
        WHERE environment = %(environment)s
            AND (%(service)s::text IS NULL OR service = %(service)s)
            AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
            AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
            AND (%(run)s::text IS NULL OR decision IN (
                SELECT decision FROM scaling_record
                WHERE environment = %(environment)s AND (record -> 'runs')::jsonb @> to_jsonb(%(run)s::text)
            ))
            AND (NOT %(moves)s OR record ->> 'action' IS DISTINCT FROM %(nothing)s
                OR record ->> 'reason_code' = ANY(%(refusals)s))
        ORDER BY at DESC, service, sequence DESC LIMIT %(limit)s
        """,
        {
            "environment": environment,
            "service": service,
            "run": run,
            "since": since,
            "until": until,
            "moves": moves,
            "nothing": Action.NO_ACTION,
            "refusals": list(REFUSALS),
            "limit": limit,
        },
    )


async def list_scaled_services(connection: AsyncConnection[Any], environment: str) -> list[str]:
    """The services that have a chain."""
    async with connection.cursor() as cursor:
        await cursor.execute(
            "SELECT DISTINCT service FROM scaling_record WHERE environment = %s ORDER BY service", (environment,)
        )
        return [str(row[0]) for row in await cursor.fetchall()]


async def read_scaling_chain(
    connection: AsyncConnection[Any], environment: str, service: str, *, after: int = 0, limit: int = 1000
) -> list[ScalingRow]:
    """The next records of a chain past a sequence, in its order."""
    return await _rows(
        connection,
        """
        SELECT environment, service, sequence, kind, decision, at, hash, record FROM scaling_record
        WHERE environment = %(environment)s AND service = %(service)s AND sequence > %(after)s
        ORDER BY sequence LIMIT %(limit)s
        """,
        {"environment": environment, "service": service, "after": after, "limit": limit},
    )


async def find_scaling_decision(
    connection: AsyncConnection[Any], environment: str, service: str, at: datetime
) -> ScalingRow | None:
    """The last decision made until a moment."""
    found = await _rows(
        connection,
        """
        SELECT environment, service, sequence, kind, decision, at, hash, record FROM scaling_record
        WHERE environment = %(environment)s AND service = %(service)s AND kind = 'decision' AND at <= %(at)s
        ORDER BY sequence DESC LIMIT 1
        """,
        {"environment": environment, "service": service, "at": at},
    )
    return found[0] if found else None


async def list_scaling_decisions(
    connection: AsyncConnection[Any], environment: str, service: str, limit: int
) -> list[ScalingRow]:
    """The last decisions on a service, the newest first."""
    return await _rows(
        connection,
        """
        SELECT environment, service, sequence, kind, decision, at, hash, record FROM scaling_record
        WHERE environment = %(environment)s AND service = %(service)s AND kind = 'decision'
        ORDER BY sequence DESC LIMIT %(limit)s
        """,
        {"environment": environment, "service": service, "limit": limit},
    )


async def read_scaling_decision(connection: AsyncConnection[Any], environment: str, decision: str) -> list[ScalingRow]:
    """A decision and all that is told of it, in the order of the chain; empty for one that is not known."""
    return await _rows(
        connection,
        """
        SELECT environment, service, sequence, kind, decision, at, hash, record FROM scaling_record
        WHERE environment = %(environment)s AND decision = %(decision)s ORDER BY service, sequence
        """,
        {"environment": environment, "decision": decision},
    )


async def _rows(connection: AsyncConnection[Any], query: LiteralString, parameters: dict[str, Any]) -> list[ScalingRow]:
    async with connection.cursor(row_factory=class_row(ScalingRow)) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()
