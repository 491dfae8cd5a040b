"""Where a series of figures, one of each run, begins to be another. Pure.

Binary segmentation by the largest of Student's t over all places (Hawkins, JASA 1977), on logarithms. It is held
against what the same scan finds in series without a change that are as alike from run to run (machines have good
weeks), as Wang does for series of the climate (Journal of Applied Meteorology and Climatology 2008). A single run that
is an outlier makes no change: it widens the scatter by more than it moves the mean of the runs it must be taken with.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import signal

from services.console.comparing.slots import LOG_BASE, Floats

LEAST_RUNS = 5
DRAWS = 19_999
_GRAIN = LOG_BASE
"""Figures are drawn from buckets, so no two of them are known to be nearer than this."""
_RHO_STEP = 0.05
_MOST_CORRELATED = 0.95
_BURN_IN = 60


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """From the run at ``index`` on. ``before`` and ``after``: medians of the runs on each side, as far as the next
    change; ``change``: relative. ``p``: how probable so clear a change is in a series without one."""

    index: int
    before: float
    after: float
    p: float

    @property
    def change(self) -> float:
        return self.after / self.before - 1


def find_change_points(values: Sequence[float], *, level: float, threshold: float) -> list[ChangePoint]:
    """Changes of at least ``threshold``, in order; ``values`` are positive. ``level``: how often one may be seen in a
    series that has none. Each side of a change has at least ``LEAST_RUNS`` runs."""
    logarithms = np.log(np.asarray(values, float))
    found = dict(_split(logarithms, 0, level, threshold))
    edges = [0, *sorted(found), len(logarithms)]
    medians = [math.exp(float(np.median(logarithms[a:b]))) for a, b in pairwise(edges)]
    return [
        ChangePoint(index, medians[place], medians[place + 1], found[index])
        for place, index in enumerate(sorted(found))
        if abs(medians[place + 1] / medians[place] - 1) >= threshold
    ]


def _split(values: Floats, offset: int, level: float, threshold: float) -> Iterator[tuple[int, float]]:
    found = _find(values, level, threshold)
    if found is not None:
        place, p = found
        yield offset + place, p
        yield from _split(values[:place], offset, level, threshold)
        yield from _split(values[place:], offset + place, level, threshold)


def _find(values: Floats, level: float, threshold: float) -> tuple[int, float] | None:
    """The surest change of these runs, with its p; None where there is none.

    Looked for in all of them, and where that shows none in ever shorter stretches: what came and went again is none to
    the whole. Every halving has half of the level of the one before, shared by its stretches.
    """
    overall = 0.0
    for depth, stretches in enumerate(_stretches(len(values))):
        costs = 2 ** (depth + 1) * len(stretches)
        tested = [(_test(values[begin:end], threshold, overall), begin) for begin, end in stretches]
        p, place = min((costs * p, begin + place) for (p, place), begin in tested)
        if p <= level:
            return place, p
        overall = _correlation_despite_changes(values)
    return None


def _stretches(length: int) -> Iterator[list[tuple[int, int]]]:
    """All, three overlapping halves, seven quarters and so on (the seeded intervals of Kovács and others, Biometrika
    2023)."""
    parts = 1
    while (size := length // parts) >= 2 * LEAST_RUNS:
        begins = np.linspace(0, length - size, 2 * parts - 1).round().astype(int)
        yield [(int(begin), int(begin) + size) for begin in begins]
        parts *= 2


def _test(values: Floats, threshold: float, least_alike: float) -> tuple[float, int]:
    """p of the surest place, 1 where the change there is too small; and the place."""
    statistics = scan(values[None, :])[0]
    place = LEAST_RUNS + int(statistics.argmax())
    before, after = float(np.median(values[:place])), float(np.median(values[place:]))
    if abs(math.expm1(after - before)) < threshold:
        return 1.0, place
    alike = _correlation(np.concatenate([values[:place] - before, values[place:] - after]))
    null = _null(_near(len(values)), round(max(alike, least_alike) / _RHO_STEP))
    return (1 + int((null >= statistics.max() - 1e-9).sum())) / (DRAWS + 1), place


def scan(series: Floats) -> Floats:
    """|t| of the runs before against those after each place with ``LEAST_RUNS`` on both sides; a series a row."""
    length = series.shape[1]
    before = np.arange(LEAST_RUNS, length - LEAST_RUNS + 1)
    after = length - before
    centred = series - series.mean(axis=1, keepdims=True)
    sums = centred.cumsum(axis=1)[:, before - 1]
    apart = sums * (1 / before + 1 / after)
    within = (centred**2).sum(axis=1, keepdims=True) - sums**2 * (1 / before + 1 / after)
    variance = np.maximum(within, 0.0) / (length - 2)
    statistics: Floats = np.abs(apart) / np.sqrt((variance + _GRAIN**2 / 12) * (1 / before + 1 / after))
    return statistics


def _correlation(residuals: Floats) -> float:
    """Of neighbouring runs, not below 0, and rather more than it seems.

    What the two means and the choice of the place took off is added, and half of its standard error: few runs know
    little of it, and to think them independent costs false alarms.
    """
    length, own = len(residuals), float((residuals**2).sum())
    if own == 0:
        return 0.0
    rho = float((residuals[1:] * residuals[:-1]).sum()) / own
    likely = rho + 2 * (1 + 3 * rho) / length + 0.5 * math.sqrt(max(0.0, 1 - rho**2) / length)
    return min(max(likely, 0.0), _MOST_CORRELATED)


def _correlation_despite_changes(values: Floats) -> float:
    """The same from differences: those of every other run are larger than those of neighbours by one and the
    correlation.

    The largest tenth of either is left out, in which all those across a change are. It tells more of many runs than of
    few, so it is a floor for what a short stretch seems to have.
    """
    tenth = math.ceil(len(values) / 10)
    near, far = (float(np.sort((values[lag:] - values[:-lag]) ** 2)[:-tenth].mean()) for lag in (1, 2))
    return min(max(far / near - 1, 0.0), _MOST_CORRELATED) if near > 0 else 0.0


def _near(length: int) -> int:
    """A length near enough to have the same null, so that few of them need to be simulated."""
    grain = max(1, length // 10)
    return round(length / grain) * grain


@lru_cache(maxsize=256)
def _null(length: int, steps: int) -> Floats:
    """The largest statistic of each of ``DRAWS`` series without a change, neighbours correlated by ``steps`` steps."""
    rho = min(steps * _RHO_STEP, _MOST_CORRELATED)
    noise = np.random.default_rng(length).standard_normal((DRAWS, length + _BURN_IN))
    series = signal.lfilter([1.0], [1.0, -rho], noise, axis=1)[:, _BURN_IN:]
    # Of any scale but that of the grain: it is the statistic's alone.
    largest: Floats = scan(1e3 * series).max(axis=1)
    return largest
