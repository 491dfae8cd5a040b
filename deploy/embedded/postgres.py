"""One PostgreSQL server as a direct child on a loopback port, with a password, started and ended by handle.

Owns its settings, readiness, databases and end. The folder on disk is ``cluster.py``'s, the user it runs as
``unprivileged.py``'s, tables are ``shared.store``'s.
"""

import signal
import time
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deploy.embedded.cluster import SUPERUSER, Cluster, clean_environment, find_postgres_binaries
from deploy.embedded.errors import StackError
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.process import Child, read_log_tail, start_child
from deploy.embedded.unprivileged import plan_unprivileged

# Tied to the parent's death: "immediate shutdown", which also ends all backends; the log is replayed at the next start.
DEATH_SIGNAL = signal.SIGQUIT
DATABASE = "tidegate"

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "jit": "off",  # compiling costs more than it saves on queries of milliseconds
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "max_wal_size": "1GB",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on"}
# For tests: survives the death of its processes, not of the machine. Commits still wait until they are written to the
# file; without synchronous_commit the last 200 ms would die with the server.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


class PostgresServer:
    """``start``, ``stop``, ``restart`` and ``kill`` in any order; port and password stay the same throughout."""

    def __init__(
        self,
        data: Path,
        port: int | None = None,
        *,
        password: str,
        durable: bool = True,
        log: Path | None = None,
        setting: str = "--postgres-port",
    ) -> None:
        self.data = data
        self.log = log or data.with_name(data.name + ".log")
        self.port = choose_port(setting, port)
        self._password = password
        self._durable = durable
        self._child: Child | None = None

    @property
    def dsn(self) -> str:
        """The URL of the stack's own database, password included."""
        return self.dsn_of(DATABASE)

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StackError("postgres: is not started")
        return self._child

    def dsn_of(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self.port}/{database}"

    def start(self, timeout_s: float = 60.0) -> None:
        """Make the cluster if need be, start, and wait until queries are answered. ``StackError`` otherwise.

        Recovery after a crash is part of the wait; half a gigabyte of log replays in some seconds.
        """
        binaries = find_postgres_binaries()
        # Asked for with the parent: the folder itself is given to the other user.
        user = plan_unprivileged([self.data.resolve().parent], binaries / "postgres", DEATH_SIGNAL)
        cluster = Cluster(self.data, binaries, user)
        if self._child is not None and not cluster.path.exists():
            # An empty cluster in its place would pass for the store and hide that the data is gone.
            raise StackError(
                f"postgres: {cluster.path} is gone while the stack is up; put it back, "
                "or begin with an empty store by tidegate down and up"
            )
        cluster.ensure(self._password, self._durable)
        cluster.wait_for_leftovers()
        settings = {**SETTINGS, **(DURABLE if self._durable else NOT_DURABLE), "port": str(self.port)}
        self._child = start_child(
            "postgres",
            [
                *(user.prefix if user else ()),
                binaries / "postgres",
                "-D",
                cluster.path.resolve(),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            self.log,
            env=clean_environment(),
            cwd=Path("/"),
            death_signal=DEATH_SIGNAL,
        )
        self._wait_ready(timeout_s)
        self._ensure_database()

    def stop(self, timeout_s: float = 20.0) -> None:
        """Fast shutdown (clients cut off, a checkpoint written); past the deadline, immediate, then kill."""
        if self._child is None:
            return
        self._child.send(signal.SIGINT)
        if self._child.wait(timeout_s) is None:
            self._child.stop(signal.SIGQUIT, timeout_s=6.0)

    def kill(self) -> None:
        """End the server as ``kill -9`` would; its backends notice by themselves."""
        if self._child is not None:
            self._child.kill()

    def restart(self, immediate: bool = False, timeout_s: float = 60.0) -> None:
        """Stop in order, or with ``immediate`` as in a crash, and start again on the same port."""
        if immediate:
            self.child.stop(signal.SIGQUIT, timeout_s=6.0)
        else:
            self.stop()
        self.start(timeout_s)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, optionally as a copy of one nobody is connected to; returns its URL."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {} strategy file_copy").format(sql.Identifier(template))
        self._administer(statement)
        return self.dsn_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database whoever is still connected."""
        self._administer(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn_of("postgres"), autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)

    def _ensure_database(self) -> None:
        with psycopg.connect(self.dsn_of("postgres"), autocommit=True, connect_timeout=5) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone()
        if known is None:
            self.create_database(DATABASE)

    def _wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        conninfo = make_conninfo(self.dsn_of("postgres"), connect_timeout=2)
        while True:
            try:
                psycopg.connect(conninfo).close()
            except psycopg.OperationalError as error:
                reason = str(error).strip().splitlines()[-1]
            else:
                return
            code = self.child.poll()
            if code is None and "password authentication failed" not in reason and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            self.stop()
            if code is not None:
                raise StackError(f"postgres: ended with code {code}: {read_log_tail(self.log)} (log: {self.log})")
            if "password authentication failed" in reason:
                raise StackError(f"postgres: {self.data} was made with another password; choose another --data folder")
            raise StackError(f"postgres: was not ready within {timeout_s:g} s: {reason} (log: {self.log})")
