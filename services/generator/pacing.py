"""When load is due: pure functions of elapsed time, never of a clock.

A profile is a polyline of (seconds, level between 0 and 1) over the run. Closed load: user ``i`` of ``n`` is active
while ``i < n·level``. Open load: arrivals come at ``rate·level`` per second, evenly spaced; the ``j``-th is due
when the integral of that reaches ``j``. The idea of a pacer as a function of elapsed time and count follows
vegeta's ``Pace(elapsed, hits)``.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from shared.contracts.run import Load

_SPIKE_BASE = 0.2


@dataclass(frozen=True, slots=True)
class Shape:
    """The polyline: times strictly ordered except for steps, levels between 0 and 1; zero outside."""

    points: tuple[tuple[float, float], ...]

    @property
    def end_s(self) -> float:
        return self.points[-1][0]


def shape_of(load: Load) -> Shape:
    """Shape of a load's profile.

    steady and soak: ramp-up, then full. ramp: from nothing to full over the whole. spike: a fifth, full in the
    middle third, a fifth again; each with the ramp-up first.
    """
    end, ramp = load.duration_s, load.ramp_up_s
    if load.profile == "ramp":
        return Shape(((0.0, 0.0), (end, 1.0)))
    if load.profile == "spike":
        third = max(ramp, end / 3)
        upper = max(third, end * 2 / 3)
        levels = ((ramp, _SPIKE_BASE), (third, _SPIKE_BASE), (third, 1.0), (upper, 1.0), (upper, _SPIKE_BASE))
        return Shape(((0.0, 0.0 if ramp else _SPIKE_BASE), *levels, (end, _SPIKE_BASE)))
    return Shape(((0.0, 0.0 if ramp else 1.0), (ramp, 1.0), (end, 1.0)))


def next_active_s(shape: Shape, users: int, user: int, elapsed_s: float) -> float | None:
    """Earliest moment from ``elapsed_s`` on at which this user is active; None when it never is again.

    User ``i`` becomes active where the level passes ``i / users``.
    """
    threshold = user / users
    for (t0, l0), (t1, l1) in pairwise(shape.points):
        if t1 < elapsed_s or t1 == t0 or max(l0, l1) <= threshold:
            continue
        begin = max(t0, elapsed_s)
        level = l0 + (l1 - l0) * (begin - t0) / (t1 - t0)
        if level > threshold:
            return begin
        if l1 > l0:
            crossing = t0 + (threshold - l0) / (l1 - l0) * (t1 - t0)
            return max(begin, crossing)
    return None


def arrivals_by(shape: Shape, rate: float, elapsed_s: float) -> float:
    """Arrivals due before a moment: the integral of the rate, a real number."""
    total = 0.0
    for (t0, l0), (t1, l1) in pairwise(shape.points):
        if elapsed_s <= t0:
            break
        until = min(t1, elapsed_s)
        if t1 > t0:
            level = l0 + (l1 - l0) * (until - t0) / (t1 - t0)
            total += rate * (l0 + level) / 2 * (until - t0)
    return total


def arrival_s(shape: Shape, rate: float, number: int) -> float | None:
    """When the ``number``-th arrival (from 0) is due; None when the run ends before it."""
    before = 0.0
    for (t0, l0), (t1, l1) in pairwise(shape.points):
        span = t1 - t0
        here = rate * (l0 + l1) / 2 * span
        if span > 0 and before + here > number:
            # Solve rate·(l0·x + slope·x²/2) = number − before for x in [0, span).
            wanted, slope = (number - before) / rate, (l1 - l0) / span
            if abs(slope) < 1e-12:
                return t0 + wanted / l0
            return t0 + (math.sqrt(max(0.0, l0 * l0 + 2 * slope * wanted)) - l0) / slope
        before += here
    return None


def first_arrival(shape: Shape, rate: float, stripe: int, stripes: int, elapsed_s: float) -> int:
    """Number of the first arrival of a stripe (``number % stripes == stripe``) due at or after a moment.

    A worker that takes a stripe over goes on here: what was due before is a gap, not a burst.
    """
    due = math.ceil(arrivals_by(shape, rate, elapsed_s) - 1e-9)
    return due + (stripe - due) % stripes


def takeover_delay_s(position: int, users: int, spread_s: float = 1.0) -> float:
    """Delay of the ``position``-th of ``users`` that begin at once, spread so that sign-ins are no storm."""
    return spread_s * position / users if users else 0.0
