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

from bench.plain_connection import PlainConnection

ANSWER_S, EVERY_S, FREEZE_S = 0.005, 8.0, 1.0
_NUMBER = re.compile(rb"n=(\d+)")


class Freezing(PlainConnection):
    """One connection of the target."""

    replies: list[tuple[int, int]] = []  # noqa: RUF012 - one log for all connections

    def asked(self, head: bytes) -> None:
        if head.startswith(b"GET /status"):
            self.say(str(len(self.replies)).encode())
        else:
            number = _NUMBER.search(head.partition(b"\r\n")[0])
            self.loop.call_later(ANSWER_S, self._reply, int(number[1]) if number else -1)

    def _reply(self, number: int) -> None:
        if self.say():
            self.replies.append((number, time.monotonic_ns() // 1000))


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
