"""A TimescaleDB to test against: as WebAssembly in a child process of ours, or a database on a server that is named.

The child (``server.mjs``) speaks the wire protocol to several connections, COPY included, and has one backend behind
them. So connections take turns by transaction: one that waits for another's open transaction waits forever. ``SET``,
temporary tables and advisory locks are common to all connections and end with the last one. It has one database,
whatever name is asked for, runs jobs only by ``run_job`` and knows neither cancelling nor timeouts.
"""

import shutil
import time
import uuid
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deploy.embedded.errors import StackError
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.process import POLL_S, Child, read_log_tail, start_child

FOLDER = Path(__file__).parent
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"
EMPTY = FOLDER / "empty.sql"


def find_obstacle() -> str | None:
    """Why the child cannot be started here, or None when it can."""
    if shutil.which("node") is None:
        return "node is missing, so TimescaleDB cannot be started; or name a server in TIDEGATE_TEST_TIMESCALE_DSN"
    if not INSTALLED.exists():
        return "TimescaleDB for tests is not installed; run `make timescale` (it needs npm)"
    return None


def empty(dsn: str) -> None:
    """Drop whatever is in the schema ``public`` and is not the extension's, and all jobs."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(EMPTY.read_bytes())


class ChildServer:
    """The extension in memory; ``stop`` forgets everything."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "timescale.log"
        self._port = choose_port("timescale")
        self._child: Child | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres:any@{LOOPBACK}:{self._port}/tidegate"

    def start(self, timeout_s: float = 180.0) -> None:
        """Start and wait until connections are taken; ``StackError`` otherwise."""
        node = shutil.which("node")
        if node is None:
            raise StackError("timescale: node is missing")
        self._child = start_child("timescale", [node, FOLDER / "server.mjs", str(self._port)], self._log)
        deadline = time.monotonic() + timeout_s
        while not read_log_tail(self._log, 1).startswith("ready "):
            code = self._child.poll()
            if code is not None or time.monotonic() > deadline:
                self._child.kill()
                why = f"ended with code {code}" if code is not None else f"was not ready within {timeout_s:g} s"
                raise StackError(f"timescale: {why}: {read_log_tail(self._log)} (log: {self._log})")
            time.sleep(POLL_S)

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()


class OwnDatabase:
    """A database of the tests' own on a server that somebody else runs; ``stop`` drops it."""

    def __init__(self, server_dsn: str) -> None:
        self._server_dsn = server_dsn
        self._name = f"tidegate_test_{uuid.uuid4().hex[:12]}"

    @property
    def dsn(self) -> str:
        return make_conninfo(self._server_dsn, dbname=self._name)

    def start(self) -> None:
        self._administer("create database {}")
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("create extension if not exists timescaledb")

    def stop(self) -> None:
        self._administer("drop database if exists {} with (force)")

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self._server_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(self._name)))
