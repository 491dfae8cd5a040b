"""Numbered, checksummed, forward-only migrations (``schema/NNNN_name.sql``), applied under an advisory lock.

Where TimescaleDB and plain PostgreSQL differ, a number has a file for each side (``NNNN_name.timescale.sql`` and
``NNNN_name.postgres.sql``). The first such number fixes the side of a store: TimescaleDB where the server has it
loaded. Every service may call ``migrate`` at start: one applies, the others wait and find it done.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg

from shared.errors import ConfigError

FOLDER = Path(__file__).parent / "schema"
EXTENSION = "timescaledb"
_LOCK = 0x7469_6465  # "tide"
_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)(?:\.(postgres|timescale))?\.sql$")


class Side(StrEnum):
    """What a store is built on."""

    POSTGRES = "postgres"
    TIMESCALE = "timescale"


class MigrationError(ConfigError):
    """The store's schema and this version's migrations do not belong together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """``side`` is None where both sides have the same SQL."""

    version: int
    name: str
    sql: str
    side: Side | None = None

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def title(self) -> str:
        """What the store remembers it by."""
        return f"{self.name}.{self.side}" if self.side else self.name


def read_migrations(side: Side = Side.POSTGRES, folder: Path = FOLDER) -> list[Migration]:
    """All migrations of a side in order; ``MigrationError`` when the numbers have a gap or a file a wrong name."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if not match:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql, or NNNN_name.SIDE.sql of two sides")
        its_side = Side(match[3]) if match[3] else None
        if its_side in (None, side):
            migrations.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8"), its_side))
    for expected, migration in enumerate(migrations, 1):
        if migration.version > expected:
            raise MigrationError(f"migration {expected:04d} is missing before {migration.version:04d}_{migration.name}")
        if migration.version < expected:
            raise MigrationError(f"migration {migration.version:04d} stands twice: {migration.title}")
    return migrations


@dataclass(frozen=True, slots=True)
class Schema:
    """What a store is at."""

    version: int
    side: Side


def migrate(dsn: str, folder: Path = FOLDER) -> Schema:
    """Bring the store to the newest version and return it.

    Raises ``MigrationError`` when an applied migration has since been changed, or the store is newer than this
    code; ``psycopg.Error`` when the store cannot be reached.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")  # the first partitions are days of UTC, wherever the server is
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migration (version integer PRIMARY KEY, name text NOT NULL, "
                "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            applied = {
                version: (name, checksum)
                for version, name, checksum in connection.execute(
                    "SELECT version, name, checksum FROM schema_migration"
                )
            }
            side = _side_of([name for name, _ in applied.values()]) or _detect(connection)
            migrations = read_migrations(side, folder)
            _verify(migrations, applied)
            for migration in migrations[len(applied) :]:
                with connection.transaction():
                    connection.execute(migration.sql.encode())
                    connection.execute(
                        "INSERT INTO schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
                        (migration.version, migration.title, migration.checksum),
                    )
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return Schema(len(migrations), side)


def read_schema(connection: psycopg.Connection[Any]) -> Schema | None:
    """Version and side of a store; None where no migration was applied."""
    rows = connection.execute("SELECT version, name FROM schema_migration ORDER BY version").fetchall()
    if not rows:
        return None
    return Schema(rows[-1][0], _side_of([name for _, name in rows]) or Side.POSTGRES)


def _side_of(names: list[str]) -> Side | None:
    """The side that applied migrations have fixed."""
    for side in Side:
        if any(name.endswith(f".{side}") for name in names):
            return side
    return None


def _detect(connection: psycopg.Connection[Any]) -> Side:
    """TimescaleDB where the server has its library loaded, or the database the extension already."""
    found = connection.execute(
        "SELECT FROM pg_extension WHERE extname = %(name)s UNION ALL "
        "SELECT FROM pg_available_extensions WHERE name = %(name)s "
        "AND current_setting('shared_preload_libraries') LIKE '%%' || %(name)s || '%%'",
        {"name": EXTENSION},
    ).fetchone()
    if found is None:
        return Side.POSTGRES
    connection.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
    return Side.TIMESCALE


def _verify(migrations: list[Migration], applied: dict[int, tuple[str, str]]) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, (_, checksum) in sorted(applied.items()):
        if version not in known:
            raise MigrationError(f"the store is at version {version}, newer than this Tidegate ({len(migrations)})")
        if known[version].checksum != checksum:
            raise MigrationError(f"migration {version:04d}_{known[version].name} was changed after it was applied")
