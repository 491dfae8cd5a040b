"""When a child that died is started again: a pure decision over its history."""

from dataclasses import dataclass, replace

FIRST_DELAY_S = 0.25
MAX_DELAY_S = 10.0
# Up for this long, a child counts as well again and its next death waits the first delay only.
WELL_AFTER_S = 60.0


@dataclass(frozen=True)
class Restarts:
    """Times are seconds of one monotonic clock. ``due_at`` is None while the child runs."""

    total: int = 0
    in_a_row: int = 0
    started_at: float = 0.0
    due_at: float | None = None

    def died(self, now: float) -> "Restarts":
        """Schedule the next start, each later than the one before, up to ``MAX_DELAY_S``."""
        in_a_row = 0 if now - self.started_at >= WELL_AFTER_S else self.in_a_row
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(in_a_row, 16))
        return replace(self, in_a_row=in_a_row + 1, due_at=now + delay_s)

    def is_due(self, now: float) -> bool:
        return self.due_at is not None and now >= self.due_at

    def restarted(self, now: float) -> "Restarts":
        return replace(self, total=self.total + 1, started_at=now, due_at=None)
