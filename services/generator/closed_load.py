"""A closed load on this worker: its users repeat the scenario while the curve has them active."""

import asyncio
from collections.abc import Callable, Sequence

from services.generator import curve
from services.generator.compiled import CompiledScenario
from services.generator.shards import users_of
from services.generator.stripe import Stripe
from services.generator.transport import Transport
from services.generator.user import Arrival, Share, VirtualUser
from shared.clock import monotonic_us
from shared.contracts.run import Load, Pause

# A user whose iteration failed waits at least this long: a dead target is not hammered.
FAILURE_PAUSE_S = 0.1


class ClosedLoad:
    """``add`` a stripe to run its users, ``reshape`` when other numbers or pauses are asked for."""

    def __init__(
        self, compiled: CompiledScenario, share: Share, transport: Callable[[], Transport], pauses: Sequence[Pause]
    ) -> None:
        self._compiled, self._share, self._transport = compiled, share, transport
        self._running: dict[Stripe, dict[int, asyncio.Task[None]]] = {}
        self._asleep: set[asyncio.Future[None]] = set()
        self.load = compiled.load
        self._curve = curve.curve_of(self.load, pauses)

    def users(self, stripe: Stripe) -> int:
        """Users of the load that a stripe has, active or not."""
        return len(users_of(stripe.number, stripe.shards, curve.users_last(self.load)))

    def add(self, stripe: Stripe) -> None:
        """Begin at the present point of the schedule; users already due begin spread over a moment."""
        self._running[stripe] = {}
        self._start_users(stripe)

    def remove(self, stripe: Stripe, *, lost: bool) -> None:
        """Forget a stripe that has ended. (``lost`` is for loads that have a line.)"""
        self._running.pop(stripe, None)

    def reshape(self, load: Load, pauses: Sequence[Pause]) -> None:
        self.load, self._curve = load, curve.curve_of(load, pauses)
        for stripe in self._running:
            self._start_users(stripe)
        for asleep in list(self._asleep):
            if not asleep.done():
                asleep.set_result(None)

    def end(self) -> None:
        """No iteration begins any more: the curve has ended, or the gates are closed."""

    def refuse_line(self, now_us: int) -> None:
        """A closed load has no line."""

    def _start_users(self, stripe: Stripe) -> None:
        running = self._running[stripe]
        members = users_of(stripe.number, stripe.shards, self.load.users_at_most)
        missing = [member for member in members if member not in running or running[member].done()]
        elapsed_s = max(0.0, self._share.elapsed_s())
        # Some are not active yet; only those that are would sign in all at once.
        active = sum(curve.value_at(self._curve, elapsed_s) > member for member in missing)
        for position, member in enumerate(missing):
            spread = elapsed_s > 1.0 and position < active
            begin_s = elapsed_s + (curve.takeover_delay_s(position, active) if spread else 0.0)
            running[member] = stripe.spawn(self._repeat(stripe, member, begin_s))

    async def _repeat(self, stripe: Stripe, member: int, begin_s: float) -> None:
        user: VirtualUser | None = None
        start_us, iteration = self._share.start_us, 0
        due_us = start_us + int(begin_s * 1e6)
        looked_at, active_until_us = self._curve, 0
        while True:
            if due_us >= active_until_us or looked_at is not self._curve:
                looked_at, elapsed_s = self._curve, max((due_us - start_us) / 1e6, 0.0)
                active_s = curve.next_active_s(looked_at, member, elapsed_s)
                if active_s is None:
                    return
                active_us = start_us + int(active_s * 1e6)
                active_until_us = start_us + int(curve.active_until_s(looked_at, member, active_s) * 1e6)
                if active_us > due_us:
                    if not await self._nap(stripe, active_us):
                        continue
                    due_us = active_us
            if due_us > monotonic_us():
                await stripe.sleep_until(due_us)
            if user is None:
                user = VirtualUser(
                    self._compiled.first_user + member, self._compiled, self._share, self._transport(), stripe
                )
            went_well = user.signed_in or await user.sign_in()
            if went_well:
                # A user that had to sign in first begins when it has; else when it was due.
                due_us = max(due_us, user.ready_us)
                iteration += 1
                went_well = await user.iterate(Arrival(due_us, iteration, stripe))
            think_s = user.think_s(self._compiled.scenario.think_time)
            pause_s = think_s if went_well else max(think_s, FAILURE_PAUSE_S)
            due_us = monotonic_us() + int(pause_s * 1e6)

    async def _nap(self, stripe: Stripe, due_us: int) -> bool:
        """Sleep until this user is active; False when the load was reshaped meanwhile."""
        asleep: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeping = asyncio.ensure_future(stripe.sleep_until(due_us))
        self._asleep.add(asleep)
        try:
            await asyncio.wait((asleep, sleeping), return_when=asyncio.FIRST_COMPLETED)
            if sleeping.done():
                sleeping.result()
            return sleeping.done()
        finally:
            self._asleep.discard(asleep)
            sleeping.cancel()
