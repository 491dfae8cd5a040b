"""A way to a Docker Engine that can hold a request back: it has been sent, and the engine has not heard it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Door:
    """``hold``: requests with this word in their first line are held until ``release``. ``answers``: to those that were
    held, the first kilobyte of each."""

    url: str
    hold: bytes = b""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    answers: list[bytes] = field(default_factory=list)


@contextlib.asynccontextmanager
async def open_door(path: Path, engine: Path) -> AsyncIterator[Door]:
    """A socket at ``path`` behind which is the engine's."""
    door = Door(f"unix://{path}")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            behind_reader, behind_writer = await asyncio.open_unix_connection(engine)
            told = asyncio.Event()
            back = asyncio.ensure_future(_pass_back(door, behind_reader, writer, told))
            try:
                while data := await reader.read(65_536):
                    if door.hold and door.hold in data.partition(b"\r\n")[0]:
                        door.held.set()
                        await door.release.wait()
                        told.set()
                    behind_writer.write(data)
            finally:
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
                behind_writer.close()
                writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connected, path)
    try:
        yield door
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_back(
    door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: asyncio.Event
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            if told.is_set():
                told.clear()
                door.answers.append(data[:1024])
            writer.write(data)
        writer.close()
