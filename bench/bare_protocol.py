"""Python's own limit: connections on uvloop and httptools that ask for one path again and again, and nothing else.

``python -m bench.bare_protocol HOST PORT PATH CONNECTIONS SECONDS`` prints how many answers came.
"""

import asyncio
import sys

import httptools
import uvloop


class Bare(asyncio.Protocol):
    """Writes the request again as soon as its answer is complete."""

    answers = 0

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._write()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        Bare.answers += 1
        self._write()

    def _write(self) -> None:
        if self._transport is not None:
            self._transport.write(self._request)


async def main(host: str, port: int, path: str, connections: int, seconds: float) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Bare(request), host, port)
    await asyncio.sleep(seconds)
    print(Bare.answers)


if __name__ == "__main__":
    host, port, path, connections, seconds = sys.argv[1:]
    uvloop.run(main(host, int(port), path, int(connections), float(seconds)))
