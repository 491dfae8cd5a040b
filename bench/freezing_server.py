"""A target that answers after 5 ms and stands still for 1 s in every 8, and keeps a log of what it replied and when.

``python -m bench.freezing_server PORT LOG``. ``GET /…n=NUMBER…`` is logged under its number; ``/status`` says how many
were answered. On SIGTERM the log is written: a NumPy array of (number, µs of the monotonic clock when it was replied).
"""

import asyncio
import re
import signal
import sys
import time

import numpy as np
import uvloop

ANSWER_S, EVERY_S, FREEZE_S = 0.005, 8.0, 1.0
_NUMBER = re.compile(rb"n=(\d+)")
_END = b"\r\n\r\n"


class Freezing(asyncio.Protocol):
    """One connection. Requests come one at a time and without a body."""

    replies: list[tuple[int, int]] = []  # noqa: RUF012 - one log for all connections

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while _END in self._rest:
            head, self._rest = self._rest.split(_END, 1)
            if head.startswith(b"GET /status"):
                self._say(str(len(self.replies)).encode())
            else:
                number = _NUMBER.search(head, 0, head.find(b"\r\n"))
                self._loop.call_later(ANSWER_S, self._reply, int(number[1]) if number else -1)

    def _reply(self, number: int) -> None:
        if self._say(b"{}"):
            self.replies.append((number, time.monotonic_ns() // 1000))

    def _say(self, body: bytes) -> bool:
        if self._transport is None:
            return False
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return True


async def main(port: int, log: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(Freezing, "127.0.0.1", port)

    def freeze() -> None:
        loop.call_later(EVERY_S, freeze)
        time.sleep(FREEZE_S)

    loop.call_later(EVERY_S - FREEZE_S, freeze)
    await stop.wait()
    server.close()
    np.save(log, np.array(Freezing.replies, np.int64).reshape(-1, 2))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
