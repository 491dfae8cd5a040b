"""How far this machine's wall clock is from the broker's: what lines up the events of workers on several machines."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.errors import APIError
from nats.js.kv import KeyValue

from shared import metrics
from shared.bus import Bus
from shared.clock import STEP_LIMIT_US, wall_us
from shared.lease import ANSWER_S

ASK_S, BEST_OF = 5.0, 8
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Skew:
    """``ahead_us``: this clock minus the broker's, true within ``bound_us`` either way."""

    ahead_us: int
    bound_us: int

    @property
    def harmful(self) -> bool:
        """Certainly so much that windows of several workers do not line up."""
        return abs(self.ahead_us) - self.bound_us > STEP_LIMIT_US


def skew_of(asked_us: int, answered_us: int, stamped_us: int) -> Skew:
    """The broker stamped it between the two readings of our clock, at the middle for all we know (Cristian, 1989)."""
    return Skew((asked_us + answered_us) // 2 - stamped_us, (answered_us - asked_us + 1) // 2)


def surest(readings: Iterable[Skew]) -> Skew | None:
    """The reading whose answer came soonest."""
    return min(readings, key=lambda skew: skew.bound_us, default=None)


class BrokerClock:
    """``skew`` is the surest of the last readings; None while there is none."""

    def __init__(self, bus: Bus, leases: KeyValue, worker: str) -> None:
        self._bus, self._leases, self._key = bus, leases, f"clock.{worker}"
        self._readings: deque[Skew] = deque(maxlen=BEST_OF)
        self._harmful = False

    @property
    def skew(self) -> Skew | None:
        return surest(self._readings)

    @property
    def skew_ms(self) -> float | None:
        skew = self.skew
        return None if skew is None else skew.ahead_us / 1000

    def forget(self) -> None:
        """The clock was moved."""
        self._readings.clear()

    async def read(self) -> None:
        """One more reading; raises what nats-py raises."""
        asked_us = wall_us()
        async with asyncio.timeout(ANSWER_S):
            revision = await self._leases.put(self._key, b"")
        answered_us = wall_us()
        stamped = (await self._bus.js.get_msg(f"KV_{self._bus.subjects.bucket('leases')}", seq=revision)).time
        if stamped is not None:
            self._readings.append(skew_of(asked_us, answered_us, int(stamped.timestamp() * 1e6)))

    async def watch(self) -> None:
        """Read until cancelled, and say so once when the clocks are far apart."""
        while True:
            try:
                await self.read()
            except (NatsError, APIError, TimeoutError) as error:
                logger.debug("the broker's clock was not read: %s", error or type(error).__name__)
            skew = self.skew
            if skew is not None:
                metrics.CLOCK_SKEW_SECONDS.set(skew.ahead_us / 1e6)
                if skew.harmful and not self._harmful:
                    logger.warning("this clock is %+.3f s from the broker's; have both set", skew.ahead_us / 1e6)
                self._harmful = skew.harmful
            await asyncio.sleep(ASK_S)
