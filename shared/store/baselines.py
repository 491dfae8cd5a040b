"""SQL of the table ``baseline``: runs that others are compared with, by name; the newest of a name counts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """``set_by``: who said so, empty where that is not known."""

    environment: str
    name: str
    run: str
    set_at: datetime
    set_by: str


async def set_baseline(connection: AsyncConnection[Any], environment: str, name: str, run: str, by: str = "") -> None:
    """Let a name stand for this run from now on; what it stood for before stays on record."""
    await connection.execute(
        """
        INSERT INTO baseline (environment, name, run, set_at, set_by) VALUES (%s, %s, %s, clock_timestamp(), %s)
        """,
        (environment, name, run, by),
    )


async def find_baseline(connection: AsyncConnection[Any], environment: str, name: str) -> BaselineRow | None:
    """What a name stands for now; None where it was never set."""
    async with connection.cursor(row_factory=class_row(BaselineRow)) as cursor:
        await cursor.execute(
            """
            SELECT environment, name, run, set_at, set_by FROM baseline
            WHERE environment = %s AND name = %s ORDER BY set_at DESC LIMIT 1
            """,
            (environment, name),
        )
        return await cursor.fetchone()


async def list_baselines(connection: AsyncConnection[Any], environment: str) -> list[BaselineRow]:
    """Every name with what it stands for now, by name."""
    async with connection.cursor(row_factory=class_row(BaselineRow)) as cursor:
        await cursor.execute(
            """
            SELECT DISTINCT ON (name) environment, name, run, set_at, set_by FROM baseline
            WHERE environment = %s ORDER BY name, set_at DESC
            """,
            (environment,),
        )
        return await cursor.fetchall()


async def remove_baseline(connection: AsyncConnection[Any], environment: str, name: str) -> bool:
    """Forget a name with all it ever stood for; False where it was never set."""
    cursor = await connection.execute("DELETE FROM baseline WHERE environment = %s AND name = %s", (environment, name))
    return cursor.rowcount > 0
