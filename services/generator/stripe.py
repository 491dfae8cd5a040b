"""One leased stripe of a run on this worker: its users, the gate before each request, and how it ends."""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from services.generator import pacing
from services.generator.compiled import CompiledScenario
from services.generator.shards import users_of
from services.generator.user import Arrival, Share, StopLoadError, VirtualUser, arrive, leave
from shared.clock import monotonic_us
from shared.lease import Lease

# A closed-loop user whose iteration failed waits at least this long: a dead target is not hammered.
FAILURE_PAUSE_S = 0.1
HALT_GRACE_S = 1.0
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Line:
    """Arrivals of an open load that wait for a free user of this stripe."""

    compiled: CompiledScenario
    waiting: deque[Arrival] = field(default_factory=deque)
    wake: asyncio.Condition = field(default_factory=asyncio.Condition)
    closed: bool = False


class Stripe:
    """Runs from ``start`` until its loads end, ``halt`` stops it, or the lease is lost."""

    def __init__(self, number: int, shards: int, lease: Lease, share: Share, loads: list[CompiledScenario]) -> None:
        self.number = number
        self.lease = lease
        self._shards = shards
        self._share = share
        self._loads = loads
        self._halted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._lines: list[_Line] = []

    def _at_us(self, elapsed_s: float) -> int:
        return self._share.start_us + int(elapsed_s * 1e6)

    @property
    def users(self) -> int:
        return sum(len(users_of(self.number, self._shards, compiled.load.users)) for compiled in self._loads)

    async def permit(self) -> None:
        """Return when a request may be sent now; ``StopLoadError`` when none may any more.

        While the lease is unconfirmed nothing is sent; when it is lost another worker sends instead.
        """
        while not self.lease.held:
            if self.lease.lost or self._halted.is_set():
                raise StopLoadError
            await asyncio.sleep(0.05)
        if self._halted.is_set():
            raise StopLoadError

    async def sleep_until(self, due_us: int) -> None:
        """Sleep to a monotonic reading (µs); ``StopLoadError`` as soon as the stripe is halted."""
        wait_us = due_us - monotonic_us()
        if wait_us > 200_000:
            try:
                await asyncio.wait_for(self._halted.wait(), wait_us / 1e6)
            except TimeoutError:
                return
            raise StopLoadError
        if wait_us > 0:
            await asyncio.sleep(wait_us / 1e6)

    def start(self) -> None:
        """Begin at the present point of the schedule; users already due begin spread over a moment."""
        for compiled in self._loads:
            members = users_of(self.number, self._shards, compiled.load.users)
            if not members:
                continue
            shape = pacing.shape_of(compiled.load)
            users = [VirtualUser(compiled.first_user + i, compiled, self._share, self) for i in members]
            if compiled.load.rate is not None:
                line = _Line(compiled)
                self._lines.append(line)
                self._spawn(self._arrive(compiled, shape, compiled.load.rate, line))
                for user in users:
                    self._spawn(self._serve(user, line))
                continue
            begin_s = max(0.0, self._share.elapsed_s())
            for position, (member, user) in enumerate(zip(members, users, strict=True)):
                delay_s = pacing.takeover_delay_s(position, len(users)) if begin_s > 1.0 else 0.0
                self._spawn(self._repeat(user, member, compiled, shape, begin_s + delay_s))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(self._guard(coroutine)))

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except StopLoadError:
            return
        except Exception as error:
            logger.exception("a virtual user stopped on a fault of its own")
            self._share.refuse(f"a virtual user stopped on a fault of the generator: {error!r}")

    async def _repeat(
        self, user: VirtualUser, member: int, compiled: CompiledScenario, shape: pacing.Shape, begin_s: float
    ) -> None:
        """Closed load: iterate from ``begin_s`` on while this user is active in the profile."""
        due_us = self._at_us(begin_s)
        while True:
            elapsed_s = max((due_us - self._share.start_us) / 1e6, 0.0)
            active_s = pacing.next_active_s(shape, compiled.load.users, member, elapsed_s)
            if active_s is None or active_s >= shape.end_s:
                return
            due_us = max(due_us, self._at_us(active_s))
            await self.sleep_until(due_us)
            went_well = await user.sign_in()
            if went_well:
                # A user that had to sign in first begins when it has; else when it was due.
                due_us = max(due_us, user.ready_us)
                went_well = await user.iterate(user.arrive(due_us))
            think_s = user.think_s(compiled.scenario.think_time)
            pause_s = think_s if went_well else max(think_s, FAILURE_PAUSE_S)
            due_us = monotonic_us() + int(pause_s * 1e6)

    async def _arrive(self, compiled: CompiledScenario, shape: pacing.Shape, rate: float, line: _Line) -> None:
        """Open load: put each arrival of this stripe in line when it is due."""
        # Stripes without a user of this load take none of its arrivals.
        stripes = min(self._shards, compiled.load.users)
        number = pacing.first_arrival(shape, rate, self.number, stripes, max(0.0, self._share.elapsed_s()))
        try:
            while (when_s := pacing.arrival_s(shape, rate, number)) is not None:
                due_us = self._at_us(when_s)
                await self.sleep_until(due_us)
                arrival = arrive(compiled, self._share, due_us, compiled.first_user)
                async with line.wake:
                    line.waiting.append(arrival)
                    line.wake.notify()
                number += stripes
        finally:
            line.closed = True
            async with line.wake:
                line.wake.notify_all()

    async def _serve(self, user: VirtualUser, line: _Line) -> None:
        """Open load: a user takes the oldest arrival from the line."""
        while True:
            while not await user.sign_in():
                await self.sleep_until(monotonic_us() + int(FAILURE_PAUSE_S * 1e6))
            async with line.wake:
                await line.wake.wait_for(lambda: line.waiting or line.closed)
                if not line.waiting:
                    return
                arrival = line.waiting.popleft()
            waited = monotonic_us() - arrival.due_us > 1_000
            await user.iterate(arrival, waited=waited)

    def close_gate(self) -> None:
        """Let no request begin any more; those in flight go on until ``halt`` or ``finish``."""
        self._halted.set()

    async def halt(self, grace_s: float = HALT_GRACE_S) -> None:
        """Send nothing more; requests in flight have ``grace_s`` to end, then are cancelled and recorded as such."""
        self._halted.set()
        await self.finish(grace_s)

    async def finish(self, deadline_s: float) -> None:
        """Let iterations under way end until a deadline, then stop them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, deadline_s))
        self._halted.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Nobody serves these any more; left in line they would look like requests that wait for ever.
        for line in self._lines:
            while line.waiting:
                leave(line.compiled, self._share, line.waiting.popleft())
