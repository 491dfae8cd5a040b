"""The HorizontalPodAutoscaler of Kubernetes on utilization, with the defaults of ``autoscaling/v2``. Pure.

Every 15 s: r = utilization / target over the ready replicas; within the tolerance nothing; else n = ⌈r · ready⌉.
Replicas that are starting count 0 on the way up, and where that turns the direction, nothing moves. Down to the highest
count wanted within the stabilization window. Up by the larger of 100 % and 4 in 15 s, down by 100 % in 15 s.
"""

import math
from collections import deque

from services.scaler.simulation.replicas import Second

SYNC_S = 15
TOLERANCE = 0.1
DOWN_S = 300
UP_PERCENT = 100
UP_REPLICAS = 4


class Hpa:
    """One target of utilization."""

    def __init__(self, target: float = 0.7) -> None:
        self._target = target
        self._used: deque[float] = deque(maxlen=SYNC_S)
        self._wanted: deque[tuple[int, int]] = deque()

    def wanted(self, second: Second) -> int:
        self._used.append(second.utilization)
        if second.at_s % SYNC_S:
            return second.desired
        advised = self._advised(second, sum(self._used) / len(self._used))
        self._wanted.append((second.at_s, advised))
        while self._wanted[0][0] < second.at_s - DOWN_S:
            self._wanted.popleft()
        if advised > second.desired:
            return min(advised, max(second.desired * (100 + UP_PERCENT) // 100, second.desired + UP_REPLICAS))
        return min(second.desired, max(count for _, count in self._wanted))

    def _advised(self, second: Second, utilization: float) -> int:
        ratio = utilization / self._target
        if abs(ratio - 1) <= TOLERANCE:
            return second.desired
        if ratio < 1 or second.ready == second.desired:
            return math.ceil(ratio * second.ready)
        with_starting = utilization * second.ready / (self._target * second.desired)
        if with_starting <= 1 + TOLERANCE:
            return second.desired
        return math.ceil(with_starting * second.desired)
