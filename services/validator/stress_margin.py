"""How far a step was from a limit, and how sure that is, from one-second sums: pure statistics.

Requests that follow each other in a queue are alike, so their number overstates what is known. The variance of a sum is
therefore estimated from the seconds themselves, with their autocovariances as far as these stay positive (Geyer,
"Practical Markov chain Monte Carlo", Statistical Science 1992: the initial positive sequence).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW = 5.0
"""Fewer that are beyond a limit, each on its own, say little of how alike they are."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Margin:
    """``margin`` below 0: kept. ``effective``: independent samples; ``lasting_s``: how long a second stays alike."""

    margin: float
    error: float
    effective: float
    lasting_s: float


def share_margin(counts: Floats, beyond: Floats, allowed: float, likeness: float = 1.0) -> Margin:
    """Log-odds of the share beyond a limit minus those of the share allowed; one value of each input a second.

    Half a sample is added to either side (Haldane), so that none beyond is no certainty. How alike the samples are
    shows only in those beyond; while these are few, ``likeness`` stands in for it (as ``likeness_of`` tells it).
    """
    total, above = float(counts.sum()), float(beyond.sum())
    share = above / total
    variance, lasting_s = sum_variance(beyond - share * counts)
    binomial = total * share * (1 - share)
    seen = max(1.0, variance / binomial) if binomial > 0 else 1.0
    trust = above / seen / (above / seen + FEW)
    effective = total / (trust * seen + (1 - trust) * max(1.0, likeness))
    yes, no = share * effective + 0.5, (1 - share) * effective + 0.5
    margin = math.log(yes / no) - math.log(allowed / (1 - allowed))
    return Margin(margin, math.sqrt(1 / yes + 1 / no), effective, lasting_s)


def likeness_of(counts: Floats, sums: Floats, squares: float) -> float:
    """Variance of the mean of all times as a multiple of what independent ones would have; ``squares``: their sum of
    squares.
    """
    total, whole = float(counts.sum()), float(sums.sum())
    single = squares - whole**2 / total
    variance, _ = sum_variance(sums - whole / total * counts)
    return max(1.0, variance / single) if single > 0 else 1.0


def mean_margin(counts: Floats, sums: Floats, limit: float) -> Margin:
    """Logarithm of a mean over its limit, by the variance of the ratio of sums over seconds (delta method)."""
    total, whole = float(counts.sum()), float(sums.sum())
    mean = whole / total
    residuals = sums - mean * counts
    variance, lasting_s = sum_variance(residuals)
    apart = float((residuals**2).sum())
    effective = total if variance <= 0 else total * min(1.0, apart / variance)
    error = max(math.sqrt(variance) / whole, 1e-3)
    return Margin(math.log(max(mean, limit * 1e-3) / limit), error, effective, lasting_s)


def sum_variance(residuals: Floats) -> tuple[float, float]:
    """Variance of the sum of a series about zero, and for how many of its steps a value stays alike (1: not at all)."""
    length = len(residuals)
    own = float((residuals**2).sum())
    if length < 4 or own <= 0:
        return own, 1.0
    lags = [own] + [float((residuals[:-lag] * residuals[lag:]).sum()) for lag in range(1, length // 2)]
    whole = -own
    for even in range(0, len(lags) - 1, 2):
        pair = lags[even] + lags[even + 1]
        if pair <= 0:
            break
        whole += 2 * pair
    # Centred on their own mean, n seconds that stay alike for m of them seem to vary too little by about m/n.
    lasting = max(1.0, whole / own)
    return max(own, whole) / max(0.5, 1 - lasting / length), lasting


def drifting(series: Sequence[float], lasting_s: float) -> float:
    """Standard scores by which the second half of a series lies above its first (below: negative)."""
    values = np.asarray(series, dtype=float)
    half = len(values) // 2
    if half < 3:
        return 0.0
    first, second = values[:half], values[-half:]
    variance = (float(first.var(ddof=1)) + float(second.var(ddof=1))) / half * max(1.0, lasting_s)
    gap = float(second.mean() - first.mean())
    if variance <= 0:
        return 0.0
    return gap / math.sqrt(variance)
