"""Which traces are recorded: all up to a budget per second, a share beyond it; pure.

A token bucket of a tenth of a second's budget, so that recording is spread; when it is empty every ``beyond``-th
trace is recorded all the same, so that a busy run keeps a thin even sample.
"""


class TraceBudget:
    """``per_second`` traces are recorded, then one in ``beyond``. 0 of them: none at all."""

    __slots__ = ("_at_us", "_beyond", "_next_us", "_skipped", "_tokens", "per_second")

    def __init__(self, per_second: float, now_us: int, beyond: int = 1000) -> None:
        self.per_second = per_second
        self._tokens = 1.0
        self._at_us = self._next_us = now_us
        self._beyond = beyond
        self._skipped = 0

    def take(self, now_us: int) -> bool:
        """Whether the trace that begins now is recorded."""
        if now_us >= self._next_us and self.per_second > 0:
            grown = self._tokens + (now_us - self._at_us) / 1e6 * self.per_second
            self._tokens, self._at_us = min(max(self.per_second / 10, 1.0), grown), now_us
            if self._tokens >= 1:
                self._tokens -= 1
                return True
            # Not asked before it can have grown enough; within a tenth of a second, since the budget may change.
            self._next_us = now_us + min(int((1 - self._tokens) / self.per_second * 1e6), 100_000)
        self._skipped += 1
        if self._skipped >= self._beyond and self.per_second > 0:
            self._skipped = 0
            return True
        return False
