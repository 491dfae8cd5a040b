"""The queue of ``queue_model.py`` over real HTTP: c servers, first come first served, exponential service times.

``python -m bench.queue_server PORT SERVERS MEAN_MS SEED``. A service begins when the one before it on its server was to
end, not when a timer happened to fire, so that a late event loop makes no server slower.
"""

import asyncio
import heapq
import random
import sys

import uvloop

from bench.plain_connection import PlainConnection


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


class Customer(PlainConnection):
    """One connection of the queue."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def asked(self, head: bytes) -> None:
        self.loop.call_at(self._desk.serve(self.loop.time()), self.say)


async def main(port: int, servers: int, mean_ms: float, seed: int) -> None:
    desk = Desk(servers, mean_ms / 1e3, seed)
    server = await asyncio.get_running_loop().create_server(lambda: Customer(desk), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
