"""The autoscaler of Knative on concurrency, with its defaults: windows of 60 s and 6 s, panic at a doubling. Pure.

Every 2 s: n = ⌈requests inside / (0.7 · concurrency)⌉, inside being at a server or in line, mean of the window. Panic
when the short window wants twice what is ready; in it the larger count holds and nothing goes, until 60 s without
cause. Up without bound, down to a half at once.
"""

import math
from collections import deque

from services.scaler.simulation.replicas import Second

TICK_S = 2
STABLE_S = 60
PANIC_S = 6
THRESHOLD = 2.0
TARGET = 0.7
MOST_DOWN = 2.0


class Knative:
    """``concurrency``: requests a replica works on at once."""

    def __init__(self, concurrency: int) -> None:
        self._per_replica = TARGET * concurrency
        self._inside: deque[int] = deque(maxlen=STABLE_S)
        self._panic_since_s: int | None = None
        self._highest = 0

    def wanted(self, second: Second) -> int:
        self._inside.append(second.in_flight + second.waiting)
        if second.at_s % TICK_S:
            return second.desired
        ready = max(second.ready, 1)
        least = math.floor(ready / MOST_DOWN)
        stable = max(self._count(STABLE_S), least)
        panic = max(self._count(PANIC_S), least)
        if panic / ready >= THRESHOLD:
            self._panic_since_s = second.at_s
        elif self._panic_since_s is not None and second.at_s - self._panic_since_s > STABLE_S:
            self._panic_since_s, self._highest = None, 0
        if self._panic_since_s is None:
            return stable
        self._highest = max(self._highest, panic, stable, second.desired)
        return self._highest

    def _count(self, window_s: int) -> int:
        last = list(self._inside)[-window_s:]
        return math.ceil(sum(last) / len(last) / self._per_replica)
