"""A server that answers byte for byte as a test says, to see what a client makes of it."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable

Script = Callable[["Caller"], Awaitable[None]]


class Caller:
    """One accepted connection as a script sees it: ``number`` counts connections from 0."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer, self.number = reader, writer, number
        self.requests: list[bytes] = []

    async def request(self) -> bytes:
        """Read one request, its body included; empty when the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        body = b""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                body = await self.reader.readexactly(int(value))
        self.requests.append(head + body)
        return head + body

    async def say(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Write pieces, each in a packet of its own when ``pause_s`` is given."""
        for position, piece in enumerate(pieces):
            if position and pause_s:
                await asyncio.sleep(pause_s)
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.writer.transport.abort()


class Misbehaving:
    """Listens while entered; ``callers`` are the connections so far."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script, self._tls = script, tls
        self.callers: list[Caller] = []

    async def __aenter__(self) -> "Misbehaving":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for caller in self.callers:
            caller.writer.close()
        await asyncio.sleep(0)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def requests(self) -> list[bytes]:
        return [request for caller in self.callers for request in caller.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = Caller(reader, writer, len(self.callers))
        self.callers.append(caller)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._script(caller)
        writer.close()
