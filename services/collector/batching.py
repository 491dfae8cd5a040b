"""When a batch closes: it has enough events, enough bytes, or its first item has waited long enough."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    events: int
    bytes: int
    age_s: float


@dataclass(slots=True)
class Batch(Generic[T]):
    """Items that are written together. Times are seconds of one monotonic clock, passed in."""

    limits: BatchLimits
    items: list[T] = field(default_factory=list)
    events: int = 0
    bytes: int = 0
    _opened_at: float = 0.0

    def add(self, item: T, events: int, size_bytes: int, now: float) -> None:
        if not self.items:
            self._opened_at = now
        self.items.append(item)
        self.events += events
        self.bytes += size_bytes

    @property
    def full(self) -> bool:
        return self.events >= self.limits.events or self.bytes >= self.limits.bytes

    def due(self, now: float) -> bool:
        """True when the batch should be written now; an empty one never is."""
        return bool(self.items) and (self.full or now - self._opened_at >= self.limits.age_s)

    def patience_s(self, now: float, idle_s: float) -> float:
        """How long to wait for another item: until the batch is due, or ``idle_s`` while it is empty."""
        return max(0.0, self._opened_at + self.limits.age_s - now) if self.items else idle_s
