"""Frames wait where they can: in memory, on disk, and in memory again where the disk refuses too."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from services.generator.publisher import Publisher
from shared.contracts.frame import ActionState, Frame, FrameId, decode
from shared.contracts.timing import ROW_DTYPE, Kind
from shared.subjects import Subjects


class Broker:
    """Refuses until it is ``up``; keeps the sequence numbers of what it took."""

    def __init__(self) -> None:
        self.up, self.refused = asyncio.Event(), asyncio.Event()
        self.taken: list[int] = []

    async def publish(self, _: str, body: bytes, **__: Any) -> None:
        if not self.up.is_set():
            self.refused.set()
            raise NatsTimeoutError
        self.taken.append(decode(body).id.seq)


def frame(seq: int) -> Frame:
    actions = (ActionState("things", "look", Kind.REQUEST),)
    return Frame(FrameId("run-1", "w1", 1, "shop", seq), 0, 0, 0, 0, actions, np.zeros(10, ROW_DTYPE))


@asynccontextmanager
async def drained(publisher: Publisher, broker: Broker) -> AsyncIterator[None]:
    """Everything put within is refused at first, and taken at last."""
    publishing = asyncio.ensure_future(publisher.run())
    yield
    async with asyncio.timeout(5):
        while publisher.refusals < 2:
            broker.refused.clear()
            await broker.refused.wait()
    broker.up.set()
    await publisher.drain(5.0)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    assert publisher.idle


async def test_frames_that_neither_broker_nor_disk_takes_are_kept_in_order(tmp_path: Path) -> None:
    broker: Any = Broker()
    folder = tmp_path / "spool"
    folder.write_text("a file where the folder should be")
    publisher = Publisher(broker, Subjects("local"), folder / "w1.spool", 3_000)
    publishing = asyncio.ensure_future(publisher.run())
    for seq in range(1, 6):
        publisher.put(frame(seq))
    folder.unlink()
    for seq in range(6, 9):
        publisher.put(frame(seq))
    assert publisher.backlog_events == 80
    broker.up.set()
    await publisher.drain(5.0)
    assert publisher.idle
    for seq in range(9, 12):
        publisher.put(frame(seq))
    await publisher.drain(5.0)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    assert broker.taken == list(range(1, 12))
    assert publisher.backlog_events == 0
    assert publisher.acknowledged == {"shop": 110}


async def test_what_is_on_disk_while_the_broker_is_away_is_synced_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    broker: Any = Broker()
    folder = tmp_path / "spool"
    publisher = Publisher(broker, Subjects("local"), folder / "w1.spool", 3_000)
    async with drained(publisher, broker):
        for seq in range(1, 6):
            publisher.put(frame(seq))
    assert {"w1.spool", "spool"} <= set(synced)
    assert broker.taken == [1, 2, 3, 4, 5]
