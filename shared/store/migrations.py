"""Numbered, checksummed, forward-only migrations (``schema/NNNN_name.sql``), applied under an advisory lock.

Every service may call ``migrate`` at start: one applies, the others wait and find it done.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg

from shared.errors import ConfigError

FOLDER = Path(__file__).parent / "schema"
_LOCK = 0x7469_6465  # "tide"
_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationError(ConfigError):
    """The store's schema and this version's migrations do not belong together."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All migrations in order; raises ``MigrationError`` when the numbers have a gap or a file a wrong name."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if not match:
            raise MigrationError(f"{path.name}: a migration is named NNNN_name.sql")
        migrations.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8")))
    for expected, migration in enumerate(migrations, 1):
        if migration.version != expected:
            raise MigrationError(f"migration {expected:04d} is missing before {migration.version:04d}_{migration.name}")
    return migrations


def migrate(dsn: str, folder: Path = FOLDER) -> int:
    """Bring the store to the newest version and return it.

    Raises ``MigrationError`` when an applied migration has since been changed, or the store is newer than this
    code; ``psycopg.Error`` when the store cannot be reached.
    """
    migrations = read_migrations(folder)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")  # the first partitions are days of UTC, wherever the server is
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migration (version integer PRIMARY KEY, name text NOT NULL, "
                "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            applied: dict[int, str] = dict(
                connection.execute("SELECT version, checksum FROM schema_migration").fetchall()
            )
            _verify(migrations, applied)
            for migration in migrations[len(applied) :]:
                with connection.transaction():
                    connection.execute(migration.sql.encode())
                    connection.execute(
                        "INSERT INTO schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
                        (migration.version, migration.name, migration.checksum),
                    )
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return len(migrations)


def _verify(migrations: list[Migration], applied: dict[int, str]) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, checksum in sorted(applied.items()):
        if version not in known:
            raise MigrationError(f"the store is at version {version}, newer than this Tidegate ({len(migrations)})")
        if known[version].checksum != checksum:
            raise MigrationError(f"migration {version:04d}_{known[version].name} was changed after it was applied")
