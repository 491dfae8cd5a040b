"""When load is due: pure functions of elapsed time, never of a clock.

A load's level is drawn over the run, then turned into a ``Curve`` of users (closed) or arrivals per second (open).
Closed: user ``i`` is active while the curve is above ``i``. Open, evenly spaced: the ``j``-th arrival is due when the
integral of the curve reaches ``j`` (a pacer as a function of elapsed time and count, after vegeta's ``Pace``).
Open, Poisson: a unit-rate process in operational time, the integral of the curve (Çinlar's time change), drawn in
seeded blocks so that any worker can begin anywhere in it at no cost.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.contracts.run import Load, Pause

SPIKE_BASE = 0.2
# Arrivals of one stripe drawn at once for a Poisson process, on average.
BLOCK = 256
# Numbers a block may use: a Poisson count of mean 256 exceeds it less than once in 10^300.
_BLOCK_NUMBERS = 2048


@dataclass(frozen=True, slots=True)
class Curve:
    """Piecewise linear: segments (from s, to s, value at from, value at to), in order; zero outside of them."""

    segments: tuple[tuple[float, float, float, float], ...]
    before: tuple[float, ...]
    """The integral up to each segment's begin."""

    @property
    def end_s(self) -> float:
        return self.segments[-1][1]

    @property
    def total(self) -> float:
        begin, end, low, high = self.segments[-1]
        return self.before[-1] + (low + high) / 2 * (end - begin)


def curve_of(load: Load, pauses: Sequence[Pause] = ()) -> Curve:
    """Users, or arrivals/s where the load has a rate, over the run: its profile with its changes, zero while paused."""
    points = _levels(load)
    end_s = load.duration_s
    times = {time for time, _ in points} | {change.at_s for change in load.changes}
    times |= {at for pause in pauses for at in (pause.from_s, pause.to_s) if at is not None}
    cuts = sorted({0.0, end_s} | {time for time in times if 0 < time < end_s})
    segments: list[tuple[float, float, float, float]] = []
    before: list[float] = []
    total = 0.0
    for begin, end in pairwise(cuts):
        full = _amplitude(load, begin)
        if any(pause.from_s <= begin and (pause.to_s is None or begin < pause.to_s) for pause in pauses):
            full = 0.0
        low, high = full * _level(points, begin, after=True), full * _level(points, end, after=False)
        segments.append((begin, end, low, high))
        before.append(total)
        total += (low + high) / 2 * (end - begin)
    return Curve(tuple(segments), tuple(before))


def _levels(load: Load) -> list[tuple[float, float]]:
    """The profile as (s, share of the whole): times in order, twice the same where it steps."""
    end, ramp = load.duration_s, load.ramp_up_s
    if load.stages:
        at = level = 0.0
        points = [(at, level)]
        for stage in load.stages:
            if stage.duration_s == 0:
                points.append((at, level))
            at, level = at + stage.duration_s, stage.level
            points.append((at, level))
        return points
    if load.profile == "ramp":
        return [(0.0, 0.0), (end, 1.0)]
    if load.profile == "spike":
        third = max(ramp, end / 3)
        upper = max(third, end * 2 / 3)
        base = SPIKE_BASE
        return [(0.0, 0.0 if ramp else base), (ramp, base), (third, base), (third, 1.0), (upper, 1.0), (upper, base),
                (end, base)]  # fmt: skip
    return [(0.0, 0.0 if ramp else 1.0), (ramp, 1.0), (end, 1.0)]


def _level(points: list[tuple[float, float]], at: float, *, after: bool) -> float:
    """Level at a moment, just before or just after it where it steps; the last goes on."""
    for (t0, l0), (t1, l1) in pairwise(points):
        if (t0 <= at < t1) if after else (t0 < at <= t1):
            return l0 + (l1 - l0) * (at - t0) / (t1 - t0)
    return points[-1][1]


def _amplitude(load: Load, at_s: float) -> float:
    open_load = load.rate is not None
    value = float(load.rate if load.rate is not None else load.users)
    for change in sorted(load.changes, key=lambda change: change.at_s):
        new = change.rate if open_load else change.users
        if change.at_s <= at_s and new is not None:
            value = float(new)
    return value


def users_last(load: Load) -> int:
    """Users by the last change."""
    changed = [change.users for change in sorted(load.changes, key=lambda change: change.at_s) if change.users]
    return changed[-1] if changed else load.users


def value_at(curve: Curve, elapsed_s: float) -> float:
    """Users, or arrivals/s, at a moment."""
    for begin, end, low, high in curve.segments:
        if begin <= elapsed_s < end:
            return low + (high - low) * (elapsed_s - begin) / (end - begin)
    return 0.0


def next_active_s(curve: Curve, member: int, elapsed_s: float) -> float | None:
    """Earliest moment from ``elapsed_s`` on at which this user is active; None when it never is again."""
    for t0, t1, v0, v1 in curve.segments:
        if t1 <= elapsed_s or max(v0, v1) <= member:
            continue
        begin = max(t0, elapsed_s)
        if v0 + (v1 - v0) * (begin - t0) / (t1 - t0) > member:
            return begin
        if v1 > v0:
            return max(begin, t0 + (member - v0) / (v1 - v0) * (t1 - t0))
    return None


def active_until_s(curve: Curve, member: int, elapsed_s: float) -> float:
    """Until when a user that is active at a moment surely stays so: the end of a segment that has it all along."""
    for t0, t1, v0, v1 in curve.segments:
        if t0 <= elapsed_s < t1 and min(v0, v1) > member:
            return t1
    return elapsed_s


def arrivals_by(curve: Curve, elapsed_s: float) -> float:
    """Arrivals due before a moment: the integral of the rate, a real number."""
    index = bisect_right(curve.segments, elapsed_s, key=lambda segment: segment[0]) - 1
    if index < 0:
        return 0.0
    t0, t1, v0, v1 = curve.segments[index]
    span = min(elapsed_s, t1) - t0
    return curve.before[index] + (v0 + v0 + (v1 - v0) * span / (t1 - t0)) / 2 * span


def arrival_s(curve: Curve, count: float) -> float | None:
    """When the integral reaches ``count`` (0 and more); None when the run ends before it."""
    if count >= curve.total:
        return None
    index = bisect_right(curve.before, count) - 1
    t0, t1, v0, v1 = curve.segments[index]
    # Solve v0·x + slope·x²/2 = wanted for x, in the form that is stable for a slope near zero.
    wanted, slope = count - curve.before[index], (v1 - v0) / (t1 - t0)
    root = v0 + math.sqrt(max(0.0, v0 * v0 + 2 * slope * wanted))
    return min(t0 + (2 * wanted / root if root else 0.0), t1)


def arrivals(
    curve: Curve, spacing: str, seed: int, stripe: int, stripes: int, from_s: float
) -> Iterator[tuple[int, float]]:
    """(number, due s) of a stripe's arrivals due from ``from_s`` on; over all stripes no number comes twice.

    A worker that takes a stripe over goes on here: what was due before is a gap, not a burst. Even: the numbers
    ``n % stripes == stripe``. Poisson: the stripes are independent processes of an equal share each.
    """
    if spacing == "poisson":
        return _poisson(curve, seed, stripe, stripes, from_s)
    return _even(curve, stripe, stripes, from_s)


def _even(curve: Curve, stripe: int, stripes: int, from_s: float) -> Iterator[tuple[int, float]]:
    first = math.ceil(arrivals_by(curve, from_s) - 1e-9)
    number = first + (stripe - first) % stripes
    while (due_s := arrival_s(curve, number)) is not None:
        yield number, due_s
        number += stripes


def _poisson(curve: Curve, seed: int, stripe: int, stripes: int, from_s: float) -> Iterator[tuple[int, float]]:
    block = int(arrivals_by(curve, from_s) / stripes / BLOCK)
    while block * BLOCK * stripes < curve.total:
        drawn = np.random.default_rng((seed, stripe, block))
        moments = np.sort(drawn.random(drawn.poisson(BLOCK)))
        for index, moment in enumerate(moments.tolist()):
            due_s = arrival_s(curve, (block + moment) * BLOCK * stripes)
            if due_s is None:
                return
            if due_s >= from_s:
                yield (block * _BLOCK_NUMBERS + index) * stripes + stripe, due_s
        block += 1


def takeover_delay_s(position: int, users: int, spread_s: float = 1.0) -> float:
    """Delay of the ``position``-th of ``users`` that begin at once, spread so that sign-ins are no storm."""
    return spread_s * position / users if users else 0.0
