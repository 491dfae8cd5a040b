"""A TimescaleDB for benches: a database of our own on the server that is named, or the tests' WebAssembly one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.store.migrations import migrate
from tests.timescale.fixtures import SERVER
from tests.timescale.server import ChildServer, OwnDatabase, find_obstacle


def named() -> str | None:
    """The server to measure speed on; the WebAssembly one says nothing of speed."""
    return os.environ.get(SERVER)


@contextmanager
def timescale(folder: Path) -> Iterator[str | None]:
    """The DSN of a migrated store; None, and a line why, where there can be none."""
    address = named()
    obstacle = None if address else find_obstacle()
    if obstacle:
        print(f"  not measured on TimescaleDB: {obstacle}", flush=True)
        yield None
        return
    server = OwnDatabase(address) if address else ChildServer(folder)
    server.start()
    try:
        migrate(server.dsn)
        yield server.dsn
    finally:
        server.stop()
