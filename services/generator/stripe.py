"""One leased stripe of a run on this worker: the gate before each of its requests, its users' tasks, and its end."""

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

from services.generator.user import Share, StopLoadError
from shared.clock import monotonic_us
from shared.contracts.run import Limits
from shared.lease import Lease

HALT_GRACE_S = 1.0
LEASE_POLL_S = 0.05
logger = logging.getLogger(__name__)


class Stripe:
    """Implements ``user.Gate``. Ends when its tasks do, ``halt`` stops it, or the lease is lost.

    ``limits`` are the run's; each of ``shards`` stripes has an equal part of them.
    """

    def __init__(self, number: int, shards: int, lease: Lease, share: Share, limits: Limits | None = None) -> None:
        self.number = number
        self.shards = shards
        self.lease = lease
        self.free_until_us = 0
        self._share = share
        self._loop = asyncio.get_running_loop()
        self.halted = False
        self._given_back = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Future[Any]] = set()
        self._next_us = self._spacing_us = 0
        self._quota: int | None = None
        if limits is not None and limits.rate is not None:
            self._spacing_us = max(int(1e6 * shards / limits.rate), 1)
        if limits is not None and limits.requests is not None:
            self._quota = limits.requests // shards + (number < limits.requests % shards)

    @property
    def ours(self) -> bool:
        """Whether what was due on it until now is this worker's: the lease is held, or was when it was given back."""
        return self._given_back or self.lease.held

    async def give_back(self) -> None:
        """Release the lease: from now on another worker may send."""
        self._given_back = self.lease.held
        await self.lease.release()

    async def opened(self) -> None:
        """Return when requests may be sent; ``StopLoadError`` when none may any more.

        While the lease is unconfirmed nothing is sent; when it is lost another worker sends instead.
        """
        while True:
            if self.halted or self.lease.lost:
                raise StopLoadError
            if self.lease.held:
                return
            await asyncio.sleep(LEASE_POLL_S)

    async def permit(self) -> None:
        """``opened``, and as the run's caps allow: return when one request may be sent now."""
        await self.opened()
        if not self._spacing_us and self._quota is None:
            self.free_until_us = int(self.lease.held_until * 1e6)
            return
        if self._quota is not None:
            if self._quota <= 0:
                raise StopLoadError
            self._quota -= 1
        if self._spacing_us:
            at_us = max(monotonic_us(), self._next_us)
            self._next_us = at_us + self._spacing_us
            await self.sleep_until(at_us)

    async def sleep_until(self, due_us: int) -> None:
        """Sleep to a monotonic reading (µs); ``StopLoadError`` as soon as the stripe is halted."""
        if due_us > monotonic_us():
            waiting = self._loop.create_future()
            alarm = self._share.alarms.call_at(due_us, partial(_wake, waiting))
            try:
                await self.wait(waiting)
            finally:
                alarm.cancel()

    async def wait(self, waiting: "asyncio.Future[Any]") -> Any:
        """Await a future of the caller's; ``StopLoadError`` as soon as the stripe is halted."""
        if self.halted:
            raise StopLoadError
        self._waits.add(waiting)
        try:
            return await waiting
        finally:
            self._waits.discard(waiting)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a user's task as part of this stripe."""
        task = asyncio.ensure_future(self._guard(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except StopLoadError:
            return
        except Exception as error:
            logger.exception("a virtual user stopped on a fault of its own")
            self._share.refuse(f"a virtual user stopped on a fault of the generator: {error!r}")

    def close_gate(self) -> None:
        """Let no request begin any more; those in flight go on until ``halt`` or ``finish``."""
        self.halted = True
        self.free_until_us = 0
        for waiting in list(self._waits):
            if not waiting.done():
                waiting.set_exception(StopLoadError())

    async def halt(self, grace_s: float = HALT_GRACE_S) -> None:
        """Send nothing more; requests in flight have ``grace_s`` to end, then are cancelled and recorded as such."""
        self.close_gate()
        await self.finish(grace_s)

    async def finish(self, deadline_s: float) -> None:
        """Let iterations under way end until a deadline, then stop them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, deadline_s))
        self.close_gate()
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
