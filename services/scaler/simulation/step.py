"""One more above a threshold, one fewer below another, and then a cool-down: what many write first. Pure."""

from collections import deque

from services.scaler.simulation.replicas import Second

ABOVE, BELOW = 0.8, 0.5
WINDOW_S = 15
COOLDOWN_S = 60


class Step:
    """On utilization, mean of ``WINDOW_S``."""

    def __init__(self) -> None:
        self._used: deque[float] = deque(maxlen=WINDOW_S)
        self._moved_s = -COOLDOWN_S

    def wanted(self, second: Second) -> int:
        self._used.append(second.utilization)
        utilization = sum(self._used) / len(self._used)
        change = 1 if utilization > ABOVE else -1 if utilization < BELOW else 0
        if change == 0 or second.at_s - self._moved_s < COOLDOWN_S:
            return second.desired
        self._moved_s = second.at_s
        return second.desired + change
