"""An open load on this worker: arrivals come when they are due, whether or not a user is free to serve them."""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from services.generator import curve
from services.generator.alarms import Alarm
from services.generator.closed_load import FAILURE_PAUSE_S
from services.generator.compiled import CompiledScenario
from services.generator.shards import users_of
from services.generator.stripe import Stripe
from services.generator.transport import Transport
from services.generator.user import Arrival, NotBegunError, Share, VirtualUser, refuse
from shared.clock import monotonic_us
from shared.contracts.run import Load, Pause
from shared.contracts.timing import EventFlag

FIRST_MOMENT_S = 0.02

_Due = tuple[int, int, Stripe, Iterator[tuple[int, float]]]


class OpenLoad:
    """One pacer for the arrivals of all stripes held here, one line for those that find no free user.

    An arrival that is due belongs to this worker: it is sent, or recorded as refused, except where its stripe's lease
    was lost, since then another worker has sent it.
    """

    def __init__(
        self, compiled: CompiledScenario, share: Share, transport: Callable[[], Transport], pauses: Sequence[Pause]
    ) -> None:
        self._compiled, self._share, self._transport = compiled, share, transport
        self.load = compiled.load
        self._curve = curve.curve_of(self.load, pauses)
        self._due: list[_Due] = []
        self._line: deque[Arrival] = deque()
        self._idle: deque[asyncio.Future[Arrival | None]] = deque()
        self._resting: deque[asyncio.Future[Arrival | None]] = deque()
        self._stripes: set[Stripe] = set()
        self._ended = False
        self._room = 0
        self._timer: Alarm | None = None
        self._loop = asyncio.get_running_loop()
        compiled.first.stream.watch_line(compiled.first.action, self._line)
        if compiled.workflow is not None:
            compiled.stream.watch_line(compiled.workflow, self._line)

    def users(self, stripe: Stripe) -> int:
        """Users of the load that a stripe has, busy or not."""
        members = users_of(stripe.number, stripe.shards, self.load.users_at_most)
        return sum(self._serves(stripe, member) for member in members)

    def _serves(self, stripe: Stripe, member: int) -> bool:
        # Where arrivals come there is at least one to serve them, however few users are asked for.
        return member < curve.users_last(self.load) or member == stripe.number

    def _stripes_in_all(self, stripe: Stripe) -> int:
        """Stripes without a user of this load take none of its arrivals."""
        return min(stripe.shards, self._compiled.load.users)

    def _measure_room(self) -> None:
        """How many may stand in line here: of the run's line, the part of those stripes with arrivals that are here."""
        stripe = next(iter(self._stripes), None)
        shards = 1 if stripe is None else self._stripes_in_all(stripe)
        here = sum(stripe.number < shards for stripe in self._stripes)
        self._room = math.ceil(self.load.max_waiting * here / shards)

    def add(self, stripe: Stripe) -> None:
        """Begin at the present point of the schedule."""
        self._stripes.add(stripe)
        self._measure_room()
        if stripe.number >= self._stripes_in_all(stripe):
            return
        self._draw(stripe)
        for member in users_of(stripe.number, stripe.shards, self.load.users_at_most):
            stripe.spawn(self._serve(stripe, member))
        self._pace()

    def remove(self, stripe: Stripe, *, lost: bool) -> None:
        """Forget a stripe that has ended; when its lease was ``lost`` its arrivals are another's."""
        if not lost:
            self._emit(monotonic_us())
        self._stripes.discard(stripe)
        self._measure_room()
        self._due = [due for due in self._due if due[2] is not stripe]
        heapq.heapify(self._due)
        heir = next(iter(self._stripes), None)
        kept = [arrival for arrival in self._line if not (lost and arrival.gate is stripe)]
        self._line.clear()
        # What was due before it was handed over is still ours: the users of the other stripes serve it.
        self._line.extend(
            arrival._replace(gate=heir) if heir and arrival.gate is stripe else arrival for arrival in kept
        )
        if heir is None:
            self.refuse_line(monotonic_us())

    def reshape(self, load: Load, pauses: Sequence[Pause]) -> None:
        """Go on by other numbers; what was due until now stays due."""
        self._emit(monotonic_us())
        more = range(self.load.users_at_most, load.users_at_most)
        self.load, self._curve = load, curve.curve_of(load, pauses)
        self._measure_room()
        self._due = []
        for stripe in self._stripes:
            if stripe.number < self._stripes_in_all(stripe):
                self._draw(stripe)
                for member in more:
                    if member % stripe.shards == stripe.number:
                        stripe.spawn(self._serve(stripe, member))
        self._release_idle()
        self._pace()

    def end(self) -> None:
        """Nothing arrives any more; what is in line is served until the stripes end."""
        self._emit(min(monotonic_us(), self._at_us(self._curve.end_s) - 1))
        self._ended = True
        self._due = []
        self._release_idle()
        if self._timer is not None:
            self._timer.cancel()

    def refuse_line(self, now_us: int) -> None:
        """Record what was never served: left in line it would look like requests that wait for ever."""
        while self._line:
            arrival = self._line.popleft()
            if arrival.gate.ours:
                self._refuse(arrival, now_us)

    def _refuse(self, arrival: Arrival, now_us: int) -> None:
        in_ramp_up = arrival.due_us < self._at_us(self.load.ramp_up_s)
        refuse(self._compiled, arrival, now_us, EventFlag.RAMP_UP if in_ramp_up else 0)

    def _at_once(self) -> float:
        """Connections to open before the load begins: what comes in the first moment, where it does not ramp up.

        Opened on arrival they would cost more than the moment has, and every request that waits for one opens another.
        """
        return (self.load.rate or 0.0) * FIRST_MOMENT_S if self.load.ramp_up_s == 0 else 0.0

    def _at_us(self, elapsed_s: float) -> int:
        return self._share.start_us + int(elapsed_s * 1e6)

    def _draw(self, stripe: Stripe) -> None:
        coming = curve.arrivals(
            self._curve,
            self.load.spacing,
            self._share.seed,
            stripe.number,
            self._stripes_in_all(stripe),
            max(0.0, self._share.elapsed_s()),
        )
        self._push(stripe, coming)

    def _push(self, stripe: Stripe, coming: Iterator[tuple[int, float]]) -> None:
        upcoming = next(coming, None)
        if upcoming is not None:
            number, due_s = upcoming
            heapq.heappush(self._due, (self._at_us(due_s), number, stripe, coming))

    def _pace(self) -> None:
        """Emit what is due and set the timer for the next; runs as a callback, so that nothing waits for a task."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_us = monotonic_us()
        self._emit(now_us)
        if self._due:
            self._timer = self._share.alarms.call_at(self._due[0][0], self._pace)

    def _emit(self, now_us: int) -> None:
        while self._due and self._due[0][0] <= now_us:
            due_us, number, stripe, coming = heapq.heappop(self._due)
            self._arrive(Arrival(due_us, number, stripe), now_us)
            self._push(stripe, coming)

    def _arrive(self, arrival: Arrival, now_us: int) -> None:
        while self._idle:
            free = self._idle.popleft()
            if not free.done():
                free.set_result(arrival)
                return
        if len(self._line) >= self._room:
            self._refuse(arrival, now_us)
        else:
            self._line.append(arrival)

    def _release_idle(self) -> None:
        """Let every user that waits see what has changed."""
        waiting = [*self._idle, *self._resting]
        self._idle.clear()
        self._resting.clear()
        for free in waiting:
            if not free.done():
                free.set_result(None)

    async def _serve(self, stripe: Stripe, member: int) -> None:
        """A user takes the oldest arrival from the line, or waits for the next."""
        number = self._compiled.first_user + member
        transport = self._transport()
        user = VirtualUser(number, self._compiled, self._share, transport, stripe)
        if member < self._at_once() and self._share.elapsed_s() < 0:
            async with self._share.sign_ins:
                await transport.warm(self._compiled.first.endpoint)
        while True:
            while not await user.sign_in():
                await stripe.sleep_until(monotonic_us() + int(FAILURE_PAUSE_S * 1e6))
            serves = self._serves(stripe, member)
            if self._line and serves:
                await self._iterate(user, stripe, self._line.popleft(), waited=True)
                continue
            if self._ended or stripe.halted:
                # An arrival given to a user who serves no more would be seen by nobody.
                return
            free: asyncio.Future[Arrival | None] = self._loop.create_future()
            (self._idle if serves else self._resting).append(free)
            arrival = await stripe.wait(free)
            if arrival is not None:
                await self._iterate(user, stripe, arrival, waited=False)

    async def _iterate(self, user: VirtualUser, stripe: Stripe, arrival: Arrival, *, waited: bool) -> None:
        try:
            await user.iterate(arrival, waited=waited)
        except NotBegunError:
            if arrival.gate.ours:
                # Handed over while it waited for leave: it goes back to the head of the line.
                self._line.appendleft(arrival if stripe.halted else arrival._replace(gate=stripe))
            if stripe.halted or stripe.lease.lost:
                raise
