"""The worker's own health: loop lag and CPU, and when they make its measurements doubtful."""

import asyncio
import time
from dataclasses import dataclass

from shared import metrics
from shared.clock import monotonic_us
from shared.contracts.frame import Health

TICK_S = 0.02
LAG_AT_FAULT_US = 250_000
CPU_AT_FAULT_PERMILLE = 980


def at_fault(loop_lag_us: int, cpu_permille: int) -> bool:
    """Whether the generator, not the target, may have made requests late: pure.

    A loop late by a quarter of a second delays sends and readings by as much; a core without idle time queues
    them.
    """
    return loop_lag_us > LAG_AT_FAULT_US or cpu_permille > CPU_AT_FAULT_PERMILLE


@dataclass(slots=True)
class Vitals:
    """Worst loop lag and CPU share, kept per second and for the second before, so that a frame sees both."""

    _lag_us: int = 0
    _previous_lag_us: int = 0
    cpu_permille: int = 0

    @property
    def loop_lag_us(self) -> int:
        return max(self._lag_us, self._previous_lag_us)

    @property
    def at_fault(self) -> bool:
        return at_fault(self.loop_lag_us, self.cpu_permille)

    def health(self, backlog_events: int, spooled_events: int) -> Health:
        return Health(self.loop_lag_us, 0, self.cpu_permille, backlog_events, spooled_events)

    async def watch(self) -> None:
        """Measure until cancelled."""
        second_us, cpu = monotonic_us(), time.process_time()
        while True:
            before = monotonic_us()
            await asyncio.sleep(TICK_S)
            now = monotonic_us()
            self._lag_us = max(self._lag_us, now - before - int(TICK_S * 1e6))
            if now - second_us >= 1_000_000:
                used = time.process_time()
                self.cpu_permille = int((used - cpu) * 1e9 / (now - second_us))
                metrics.LOOP_LAG_SECONDS.set(self._lag_us / 1e6)
                self._previous_lag_us, self._lag_us = self._lag_us, 0
                second_us, cpu = now, used
