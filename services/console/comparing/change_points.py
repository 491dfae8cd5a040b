"""Where a series of figures, one of each run, begins to be another. Pure.

Binary segmentation by a scan of Mann-Whitney statistics (the largest over all places; Pettitt, Applied Statistics
1979): no run that is an outlier makes a change, and how the figures are distributed does not matter. The largest is
held against what the same scan finds in series without a change that are as alike from run to run: machines have good
weeks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import signal, stats

from services.console.comparing.slots import Floats

LEAST_RUNS = 5
DRAWS = 9_999
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
    if len(values) < 2 * LEAST_RUNS:
        return
    statistics = scan(values[None, :])[0]
    place = LEAST_RUNS + int(statistics.argmax())
    left, right = values[:place], values[place:]
    alike = _correlation(np.concatenate([left - np.median(left), right - np.median(right)]))
    null = _null(len(values), math.ceil(alike / _RHO_STEP))
    p = (1 + int((null >= statistics.max() - 1e-9).sum())) / (DRAWS + 1)
    if p > level or abs(math.expm1(float(np.median(right) - np.median(left)))) < threshold:
        return
    yield offset + place, p
    yield from _split(left, offset, level, threshold)
    yield from _split(right, offset + place, level, threshold)


def scan(series: Floats) -> Floats:
    """|z| of Mann-Whitney for every place with ``LEAST_RUNS`` on both sides; a series a row."""
    length = series.shape[1]
    ranks = stats.rankdata(series, axis=1)
    before = np.arange(LEAST_RUNS, length - LEAST_RUNS + 1)
    sums = ranks.cumsum(axis=1)[:, before - 1]
    spread = np.sqrt(before * (length - before) * (length + 1) / 12)
    statistics: Floats = np.abs(sums - before * (length + 1) / 2) / spread
    return statistics


def _correlation(residuals: Floats) -> float:
    """Of neighbouring runs, not below 0; what the two medians and the choice of the place took off is added."""
    length, own = len(residuals), float((residuals**2).sum())
    if own == 0:
        return 0.0
    rho = float((residuals[1:] * residuals[:-1]).sum()) / own
    return min(max(rho + 2 * (1 + 3 * rho) / length, 0.0), _MOST_CORRELATED)


@lru_cache(maxsize=256)
def _null(length: int, steps: int) -> Floats:
    """The largest statistic of each of ``DRAWS`` series without a change, neighbours correlated by ``steps`` steps."""
    rho = min(steps * _RHO_STEP, _MOST_CORRELATED)
    noise = np.random.default_rng(length).standard_normal((DRAWS, length + _BURN_IN))
    series = signal.lfilter([1.0], [1.0, -rho], noise, axis=1)[:, _BURN_IN:]
    largest: Floats = scan(series).max(axis=1)
    return largest
