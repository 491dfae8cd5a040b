"""Which traces are recorded up to a budget per second; pure.

A token bucket of a tenth of a second's budget, so that recording is spread over the second.
"""


class TraceBudget:
    """``per_second`` traces are recorded; 0 of them: none. ``take`` says no at once before ``next_us``."""

    __slots__ = ("_at_us", "_tokens", "next_us", "per_second")

    def __init__(self, per_second: float, now_us: int) -> None:
        self.per_second = per_second
        self._tokens = 1.0
        self._at_us = self.next_us = now_us

    def take(self, now_us: int) -> bool:
        """Whether the trace that begins now is within the budget."""
        if now_us < self.next_us:
            return False
        grown = self._tokens + (now_us - self._at_us) / 1e6 * self.per_second
        self._tokens, self._at_us = min(max(self.per_second / 10, 1.0), grown), now_us
        if self._tokens >= 1 and self.per_second > 0:
            self._tokens -= 1
            return True
        # Not asked before it can have grown enough; within a tenth of a second, since the budget may change.
        missing_us = (1 - self._tokens) / self.per_second * 1e6 if self.per_second > 0 else 1e6
        self.next_us = now_us + int(min(missing_us, 100_000))
        return False
