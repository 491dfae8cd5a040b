"""A connection of a bench's own HTTP server. Requests come one at a time and without a body."""

import asyncio

_END = b"\r\n\r\n"


class PlainConnection(asyncio.Protocol):
    """``asked`` gets the head of every request; ``say`` answers with a body, False when the connection is gone."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def asked(self, head: bytes) -> None:
        raise NotImplementedError

    def say(self, body: bytes = b"{}") -> bool:
        if self._transport is None:
            return False
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while _END in self._rest:
            head, self._rest = self._rest.split(_END, 1)
            self.asked(head)
