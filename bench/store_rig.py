"""A durable store and a broker for benches of the collector, and collector processes that are given both."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nats
import psycopg
from nats.js import JetStreamContext

from bench.harness import wait_until
from deploy.embedded.nats import NatsServer
from deploy.embedded.postgres import PostgresServer
from shared.store.migrations import migrate
from shared.streams import ensure_streams
from shared.subjects import Subjects

ENVIRONMENT = "bench"
SUBJECTS = Subjects(ENVIRONMENT)
IN_FLIGHT = 500
STORED = "SELECT coalesce(sum(events), 0) FROM producer"
TABLES = (
    "request_timing",
    "request_trace",
    "frames",
    "timing_part",
    "timing_folded_window",
    "sent_counter",
    "producer",
    "series",
)


class StoreRig:
    """Both servers below one folder; the store is durable (fsync, synchronous_commit) and migrated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nats = NatsServer(folder / "nats")
        self.postgres = PostgresServer(folder / "postgres", password="only-for-benches")  # noqa: S106
        self.dsn = ""

    def fresh_database(self, name: str) -> str:
        """An empty store of the newest schema."""
        self.dsn = self.postgres.create_database(name)
        migrate(self.dsn)
        return self.dsn

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def query(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, none of a statement without any."""
        with self.connect() as connection:
            cursor = connection.execute(sql.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []

    def stored(self) -> int:
        """Events committed, as the producers' counters have it: cheap at any size."""
        return int(self.query(STORED)[0][0])

    def wait_stored(self, events: int, timeout_s: float = 600.0) -> None:
        with self.connect() as connection:

            def enough() -> bool:
                row = connection.execute(STORED).fetchone()
                return row is not None and row[0] >= events

            wait_until(enough, f"{events} events are stored", timeout_s)

    def empty(self) -> None:
        """No rows, no messages."""
        asyncio.run(_purge(self.nats.url))
        here = self.query("SELECT t FROM unnest(%s::text[]) AS t WHERE to_regclass(t) IS NOT NULL", list(TABLES))
        self.query(f"TRUNCATE {', '.join(name for (name,) in here)} RESTART IDENTITY")
        self.query("CHECKPOINT")

    @contextmanager
    def collector(self, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
        child = self.start_collector(**settings)
        try:
            yield child
        finally:
            child.terminate()
            child.wait(30)

    def start_collector(self, **settings: str) -> "subprocess.Popen[bytes]":
        given = {
            "nats_url": self.nats.url, "store_dsn": self.dsn, "environment": ENVIRONMENT, "http_port": "0", **settings
        }  # fmt: skip
        environment = {f"TIDEGATE_{name.upper()}": value for name, value in given.items()}
        with (self.folder / "collector.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "services.collector"], env={**os.environ, **environment}, stderr=log
            )

    def publish(self, bodies: Iterable[tuple[str, bytes]]) -> None:
        """(subject, body) into TIMINGS, each acknowledged by the broker."""
        asyncio.run(_publish(self.nats.url, bodies))


async def _publish(url: str, bodies: Iterable[tuple[str, bytes]]) -> None:
    client = await nats.connect(url, pending_size=64 * 1024 * 1024)
    js = client.jetstream(publish_async_max_pending=IN_FLIGHT)
    try:
        await ensure_streams(js, SUBJECTS)
        answers = []
        for subject, body in bodies:
            answers.append(await js.publish_async(subject, body, wait_stall=60.0))
            if len(answers) >= IN_FLIGHT:
                await asyncio.gather(*answers)
                answers.clear()
        await asyncio.gather(*answers)
    finally:
        await client.close()


async def _purge(url: str) -> None:
    client = await nats.connect(url)
    try:
        js: JetStreamContext = client.jetstream()
        await ensure_streams(js, SUBJECTS)
        for name in ("TIMINGS", "WINDOWS", "DEAD"):
            await js.purge_stream(SUBJECTS.stream(name))
    finally:
        await client.close()


@contextmanager
def store_rig(folder: Path) -> Iterator[StoreRig]:
    rig = StoreRig(folder)
    rig.nats.start()
    try:
        rig.postgres.start()
        try:
            yield rig
        finally:
            rig.postgres.stop()
    finally:
        rig.nats.stop()
