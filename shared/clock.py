"""Durations that never step, anchored once to wall time.

A worker measures with the monotonic clock and publishes, once per epoch, the pair (wall, monotonic) that
turns its readings into wall time. When the two clocks drift apart by more than ``STEP_LIMIT_US`` (NTP or an
operator moved the wall clock) the owner starts a new epoch; this module only tells that it happened.
"""

import time
from dataclasses import dataclass

STEP_LIMIT_US = 100_000


def monotonic_us() -> int:
    """Microseconds of the monotonic clock, comparable within one process only."""
    return time.monotonic_ns() // 1_000


def wall_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Anchor:
    """One simultaneous reading of both clocks; everything in an epoch is relative to it.

    ``wall_us``: µs since the Unix epoch. ``monotonic_us``: µs of the process's monotonic clock.
    """

    wall_us: int
    monotonic_us: int

    @classmethod
    def now(cls) -> "Anchor":
        return cls(wall_us(), monotonic_us())

    def to_wall_us(self, reading_us: int) -> int:
        """Wall time (µs since the Unix epoch) of a monotonic reading of the same process."""
        return self.wall_us + reading_us - self.monotonic_us

    def to_monotonic_us(self, at_wall_us: int) -> int:
        """Monotonic reading that corresponds to a wall time, by this anchor."""
        return self.monotonic_us + at_wall_us - self.wall_us

    def step_us(self, other: "Anchor") -> int:
        """How far the wall clock moved against the monotonic one between two readings (signed µs)."""
        return (other.wall_us - self.wall_us) - (other.monotonic_us - self.monotonic_us)

    def stepped(self, other: "Anchor") -> bool:
        """True when the wall clock stepped so far that a new epoch is due."""
        return abs(self.step_us(other)) > STEP_LIMIT_US
