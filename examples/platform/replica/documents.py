"""The state the replicas of one system share: JSON documents by id in one SQLite file.

Durable across replicas, not across a power cut (synchronous off): it stands for the systems' own databases.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    created_at REAL NOT NULL,
    body TEXT NOT NULL
)
"""
_PRUNED_AT_ONCE = 1000


class Documents:
    """Documents of one system. Calls block for tens of microseconds, so they are made on the event loop."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(_SCHEMA)

    def put(self, id: str, body: dict[str, Any], owner: str, now: float) -> None:  # noqa: A002 - the domain's word
        """Create or replace the document `id`; `owner` is the instance that works on it."""
        self._connection.execute(
            "INSERT INTO documents (id, owner, created_at, body) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, body = excluded.body",
            (id, owner, now, json.dumps(body)),
        )

    def get(self, id: str) -> dict[str, Any] | None:  # noqa: A002 - the domain's word
        """The document `id`, or None."""
        row = self._connection.execute("SELECT body FROM documents WHERE id = ?", (id,)).fetchone()
        return None if row is None else json.loads(row[0])

    def unfinished(self, owner: str, statuses: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
        """The documents `owner` wrote last whose `status` is one of `statuses`, by id. Reads the whole table."""
        marks = ", ".join("?" * len(statuses))
        rows = self._connection.execute(
            f"SELECT id, body FROM documents WHERE owner = ? AND json_extract(body, '$.status') IN ({marks})",  # noqa: S608 - marks only
            (owner, *statuses),
        )
        return [(id_, json.loads(body)) for id_, body in rows]

    def prune(self, before: float) -> int:
        """Forget the oldest documents created before `before`, a bounded number at a time. How many went."""
        return self._connection.execute(
            "DELETE FROM documents WHERE created_at < ? AND position IN "
            "(SELECT position FROM documents ORDER BY position LIMIT ?)",
            (before, _PRUNED_AT_ONCE),
        ).rowcount

    def close(self) -> None:
        self._connection.close()
