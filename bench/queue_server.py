"""The queue of ``queue_model.py`` over real HTTP: c servers, first come first served, exponential service times.

``python -m bench.queue_server PORT SERVERS MEAN_MS SEED``. A service begins when the one before it on its server was to
end, not when a timer happened to fire, so that a late event loop makes no server slower.
"""

import asyncio
import heapq
import random
import sys

import uvloop

_END = b"\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Desk:
    """When each server is free next, and how long each service takes."""

    def __init__(self, servers: int, mean_s: float, seed: int) -> None:
        self._free = [0.0] * servers
        self._random, self._rate = random.Random(seed), 1 / mean_s

    def serve(self, now_s: float) -> float:
        """The moment a request that comes now is done."""
        done = max(now_s, self._free[0]) + self._random.expovariate(self._rate)
        heapq.heapreplace(self._free, done)
        return done


class Customer(asyncio.Protocol):
    """One connection. Requests come one at a time and without a body."""

    def __init__(self, desk: Desk) -> None:
        self._loop, self._desk = asyncio.get_running_loop(), desk
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while _END in self._rest:
            _, self._rest = self._rest.split(_END, 1)
            self._loop.call_at(self._desk.serve(self._loop.time()), self._answer)

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(_ANSWER)


async def main(port: int, servers: int, mean_ms: float, seed: int) -> None:
    desk = Desk(servers, mean_ms / 1e3, seed)
    server = await asyncio.get_running_loop().create_server(lambda: Customer(desk), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
