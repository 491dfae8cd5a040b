"""Bounded servers in real time: a task takes a server for its service time, and others wait in line.

A server that is taken over starts its next task at the moment the last was due to end, not at the moment the
event loop got round to it. So the capacity is `servers / service time` whatever the timer's grain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .server_line import ServerLine


class Seat:
    """A server held by one task. Times are monotonic seconds."""

    __slots__ = ("arrived_at", "due_at", "started_at")

    def __init__(self, arrived_at: float, started_at: float) -> None:
        self.arrived_at = arrived_at
        self.started_at = started_at
        self.due_at = started_at

    @property
    def waited_s(self) -> float:
        """How long the task stood in line."""
        return self.started_at - self.arrived_at

    async def work(self, seconds: float) -> None:
        """Hold the server for `seconds` more."""
        self.due_at += seconds
        await asyncio.sleep(max(0.0, self.due_at - time.monotonic()))

    def catch_up(self) -> None:
        """Bring the server to the present, after it was held for something other than `work`."""
        self.due_at = time.monotonic()


class Capacity:
    """The servers of one replica for one class of work."""

    def __init__(self, servers: int) -> None:
        self._line: ServerLine[tuple[float, asyncio.Future[float]]] = ServerLine(servers)

    @property
    def servers(self) -> int:
        return self._line.servers

    @property
    def busy(self) -> int:
        return self._line.busy

    @property
    def queue_length(self) -> int:
        return self._line.queue_length

    @asynccontextmanager
    async def seat(self) -> AsyncIterator[Seat]:
        """Wait in line for a server and hold it. A waiter that is cancelled leaves the line."""
        arrived_at = time.monotonic()
        ticket = (arrived_at, asyncio.get_running_loop().create_future())
        is_served = self._line.arrive(ticket)
        seat = Seat(arrived_at, arrived_at if is_served else await self._wait(ticket))
        try:
            yield seat
        except BaseException:
            seat.catch_up()
            raise
        finally:
            self._release(seat.due_at)

    async def _wait(self, ticket: tuple[float, asyncio.Future[float]]) -> float:
        future = ticket[1]
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release(future.result())
            else:
                self._line.abandon(ticket)
            raise

    def _release(self, at: float) -> None:
        while (successor := self._line.leave()) is not None:
            arrived_at, future = successor
            # A waiter whose client went away is cancelled before it can leave the line: the next one takes over.
            if not future.done():
                future.set_result(max(at, arrived_at))
                return
