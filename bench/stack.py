"""The embedded stack for a bench, and runs of ``tidegate run`` in it while something is done to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg


def tidegate(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "services.console", *arguments], check=True, stdout=subprocess.DEVNULL)


class Stack:
    """``state`` is what the stack says of itself; ``store`` a connection to its database."""

    def __init__(self, data: Path, store: psycopg.Connection[Any]) -> None:
        self.data, self.store = data, store
        self.state: dict[str, Any] = json.loads((data / "stack.json").read_text())

    def run(self, report: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        """Begin ``tidegate run``, which leaves its report in a file."""
        command = [sys.executable, "-m", "services.console", "run", *arguments]
        return subprocess.Popen([*command, "--data", str(self.data), "--json", str(report)])

    def started(self) -> tuple[str, float]:
        """The id and the start (s since the Unix epoch) of the only run there is."""
        for _ in range(300):
            row = self.store.execute("SELECT run, extract(epoch FROM started_at)::float FROM run").fetchone()
            if row and row[1]:
                return row[0], row[1]
            time.sleep(0.1)
        raise SystemExit("the run did not start")

    def worker_pid(self, name: str) -> int:
        return int(self.state["services"][f"generator-{name}"]["pid"])

    @contextmanager
    def keeper_frozen(self) -> Iterator[None]:
        """What dies meanwhile is not replaced: its keeper would start it again within two seconds."""
        os.kill(self.state["keeper_pid"], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.state["keeper_pid"], signal.SIGCONT)


@contextmanager
def stack(folder: Path, workers: int) -> Iterator[Stack]:
    data = folder / "data"
    tidegate("up", "--data", str(data), "--workers", str(workers))
    try:
        dsn = json.loads((data / "stack.json").read_text())["store_dsn"]
        with psycopg.connect(dsn, autocommit=True) as store:
            yield Stack(data, store)
    finally:
        tidegate("down", "--data", str(data))


def sleep_until(wall_s: float) -> None:
    time.sleep(max(0.0, wall_s - time.time()))
