"""When the generator was at fault or silent, by the hour: readings of counters that only grow. Pure and bounded.

A worker is heard each second, so a second in which none was heard was the generator's, not the system's.
"""

from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from services.validator.facts import FAULT_SHARE

KEPT = 26 * 60
"""Readings, one a minute: a day and an hour before it are looked back at."""
EVERY_S = 60.0

Of = tuple[str, str]
"""Run and system."""


@dataclass(frozen=True, slots=True)
class Reading:
    at: datetime
    seconds: int
    at_fault: int


class FaultLog:
    """Readings of ``GeneratorHealth`` of every run and system that is watched."""

    def __init__(self) -> None:
        self._readings: dict[Of, deque[Reading]] = {}

    def note(self, of: Of, at: datetime, seconds: int, at_fault: int) -> None:
        """Keep a reading, unless one was kept just before. A counter that fell has begun anew."""
        readings = self._readings.setdefault(of, deque(maxlen=KEPT))
        if readings and seconds < readings[-1].seconds:
            readings.clear()
        if not readings or (at - readings[-1].at).total_seconds() >= EVERY_S:
            readings.append(Reading(at, seconds, at_fault))

    def at_fault(self, of: Of, start: datetime, stop: datetime) -> bool:
        """True when too many of the seconds known of a time were spoiled or silent; the unknown spoil nothing."""
        readings = self._readings.get(of)
        if not readings:
            return False
        before = next((one for one in reversed(readings) if one.at <= start), readings[0])
        after = next((one for one in readings if one.at >= stop), readings[-1])
        elapsed_s = (after.at - before.at).total_seconds()
        silent_s = max(0.0, elapsed_s - (after.seconds - before.seconds))
        return after.at_fault - before.at_fault + silent_s > FAULT_SHARE * max(1.0, elapsed_s)

    def keep_only(self, runs: AbstractSet[str]) -> None:
        """Forget every other run."""
        for of in [of for of in self._readings if of[0] not in runs]:
            del self._readings[of]
