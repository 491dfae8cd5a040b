"""A collector under test: the real service in this process, a real bus beside it, and polls that end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import psycopg
import pytest
from nats.aio.msg import Msg

from deploy.embedded.ports import choose_port
from services.collector.app import serve
from services.collector.settings import CollectorSettings
from shared.bus import Bus, open_bus
from shared.contracts.dead import DeadLetter
from shared.contracts.frame import Frame, encode
from shared.contracts.window import FrameWindows

T = TypeVar("T")


async def eventually(read: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], within_s: float = 20.0) -> T:
    """Poll until the value is as wanted; fails with the last value otherwise."""
    deadline = time.monotonic() + within_s
    while True:
        value = await read()
        if wanted(value):
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"still {value!r} after {within_s} s")
        await asyncio.sleep(0.02)


@dataclass
class Rig:
    """What a test holds: where things are, what was heard on the bus."""

    bus: Bus
    nats_url: str
    dsn: str
    port: int = field(default_factory=lambda: choose_port("test"))
    heard: list[Msg] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: Any) -> CollectorSettings:
        return CollectorSettings(
            **{
                "environment": self.bus.subjects.environment,
                "nats_url": self.nats_url,
                "store_dsn": self.dsn,
                "http_port": self.port,
                "batch_age_s": 0.02,
                "ack_wait_s": 1.0,
                **changes,
            }
        )

    @contextlib.asynccontextmanager
    async def collector(self, **changes: Any) -> AsyncIterator["asyncio.Task[None]"]:
        """A running, ready collector; stopped cleanly at the end unless the test has seen it end."""
        stop = asyncio.Event()
        task = asyncio.create_task(serve(self.settings(**changes), stop))
        try:
            await eventually(self.health, lambda answer: answer[0] == 200 or task.done())
            yield task
        finally:
            stop.set()
            await asyncio.wait([task], timeout=15)
            assert task.done(), "the collector did not stop"
        if not task.cancelled():
            task.result()

    async def health(self) -> tuple[int, list[str]]:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health") as response:
                return response.status, (await response.json())["reasons"]
        except aiohttp.ClientConnectionError:
            return 0, []

    async def publish(self, *frames: Frame) -> None:
        for frame in frames:
            await self.publish_bytes(encode(frame), frame.id.run, frame.id.system)

    async def publish_bytes(self, body: bytes, run: str = "run-of-test", system: str = "autmatrix") -> None:
        await self.bus.js.publish(self.bus.subjects.timing(run, system), body)

    async def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            return await (await connection.execute(sql.encode(), values)).fetchall()

    async def count(self, table: str) -> int:
        return int((await self.query(f"SELECT count(*) FROM {table}"))[0][0])

    async def unsettled(self) -> int:
        """Frames that are not acknowledged yet: a work queue forgets those that are."""
        info = await self.bus.js.stream_info(self.bus.subjects.stream("TIMINGS"))
        return int(info.state.messages)

    async def settled(self, within_s: float = 30.0) -> None:
        await eventually(self.unsettled, lambda left: left == 0, within_s)

    def windows(self) -> list[FrameWindows]:
        return [FrameWindows.model_validate_json(body) for body in self.bodies("window")]

    def dead(self) -> list[DeadLetter]:
        return [DeadLetter.model_validate_json(body) for body in self.bodies("dead")]

    def bodies(self, kind: str) -> list[bytes]:
        """What was published under a subject's first word, as it was."""
        prefix = f"{self.bus.subjects.prefix}.{kind}."
        return [msg.data for msg in self.heard if msg.subject.startswith(prefix)]


@contextlib.asynccontextmanager
async def open_rig(nats_url: str, environment: str, dsn: str) -> AsyncIterator[Rig]:
    async with open_bus(nats_url, environment, "test") as bus:
        rig = Rig(bus, nats_url, dsn)

        async def hear(msg: Msg) -> None:
            rig.heard.append(msg)

        # Core subscriptions: they hear every publication, also one that the stream drops as a duplicate.
        for subject in (
            bus.subjects.window("*", "*"),
            bus.subjects.dead("*"),
            bus.subjects.resource("*"),
            bus.subjects.span("*"),
        ):
            await bus.client.subscribe(subject, cb=hear)
        yield rig
