"""Exact tests of one sample against one limit. Every function returns a pair of one-sided probabilities.

``worse``: how probable an observation this bad or worse is where the limit is just kept; small means broken.
``better``: how probable one this good or better is where the limit is just kept; small means kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, pdtr, pdtrc, stdtr

MOST_CORRELATION = 0.98
LEAST_PART = 3
SPLITS = 2
STEP_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Odds:
    worse: float
    better: float


def binomial(above: int, total: int, share: float) -> Odds:
    """``above`` of ``total`` lie beyond a limit that at most ``share`` of them may: P(Bin(n, 1−q) ≥ k) and ≤ k.

    Only the tail on whose side the observation lies is worked out; the other tells nothing, and is 1.
    """
    if above > share * total:
        return Odds(float(bdtrc(above - 1, total, share)), 1.0)
    return Odds(1.0, float(bdtr(above, total, share)) if total else 1.0)


def poisson(count: int, expected: float) -> Odds:
    """``count`` events where at least ``expected`` should be: fewer is worse."""
    better = 1.0 if count == 0 else float(pdtrc(count - 1, expected))
    return Odds(float(pdtr(count, expected)), better)


def student(mean: float, variance: float, count: int, limit: float) -> Odds:
    """Student's t of a mean against a limit it should stay below; ``variance`` is the sample's (n − 1)."""
    if count < 2:
        return Odds(1.0, 1.0)
    if variance <= 0:
        return Odds(0.0, 1.0) if mean > limit else Odds(1.0, 0.0 if mean < limit else 1.0)
    t = (mean - limit) / math.sqrt(variance / count)
    return Odds(float(stdtr(count - 1, -t)), float(stdtr(count - 1, t)))


@dataclass(frozen=True, slots=True)
class Scatter:
    """How readings scatter about their level: variance of one, and how far each hangs on the one before.

    ``inflation``: so many readings say as much as one independent of the others; ``degrees``: of freedom of the
    variance.
    """

    variance: float
    inflation: float
    degrees: float

    def effective(self, count: int) -> float:
        """Readings without correlation that ``count`` of these are worth."""
        return count / min(self.inflation, float(count))


def scatter_of(readings: Sequence[float] | NDArray[np.float64]) -> Scatter:
    """What readings taken one after the other tell of their noise, as an autoregression of first order.

    Split where that explains most (a step of level is no noise), then the correlation of neighbours about the levels,
    corrected for its bias (Marriott and Pope, 1954) and taken two standard errors higher: with few readings it is
    hardly known, and too low a one makes false breaches. Variance and degrees of freedom follow Bayley and
    Hammersley (1946).
    """
    values = np.asarray(readings, np.float64)
    count = len(values)
    if count < 2:
        return Scatter(0.0, 1.0, 1.0)
    parts = _split(values)
    residuals = [part - part.mean() for part in parts]
    squares = float(sum(residual @ residual for residual in residuals))
    if squares <= 1e-18 * float(values @ values):
        return Scatter(0.0, 1.0, float(count))
    together = float(sum(residual[1:] @ residual[:-1] for residual in residuals))
    raw = together / squares
    known = max(-1.0, min(1.0, raw + (1 + 3 * max(raw, 0.0)) * len(parts) / count))
    correlation = min(MOST_CORRELATION, max(0.0, known + 2 * math.sqrt(max(1 - known * known, 0.1) / count)))
    inflation = (1 + correlation) / (1 - correlation)
    independent = count * (1 - correlation**2) / (1 + correlation**2)
    variance = squares / max(count - len(parts) * inflation, count / 3)
    return Scatter(variance, inflation, max(1.0, independent - len(parts)))


def scattered(mean: float, count: int, limit: float, scatter: Scatter) -> Odds:
    """``student`` of the mean of ``count`` readings against a limit, where neighbours are alike."""
    if scatter.variance <= 0:
        return Odds(0.0, 1.0) if mean > limit else Odds(1.0, 0.0 if mean < limit else 1.0)
    t = (mean - limit) / math.sqrt(scatter.variance / scatter.effective(count))
    return Odds(float(stdtr(scatter.degrees, -t)), float(stdtr(scatter.degrees, t)))


def _split(values: NDArray[np.float64], deeper: int = SPLITS) -> list[NDArray[np.float64]]:
    """The two parts about whose means the values scatter least, and theirs where a step explains most."""
    count = len(values)
    if count < 4 * LEAST_PART or not deeper:
        return [values]
    sizes = np.arange(LEAST_PART, count - LEAST_PART + 1)
    sums = np.cumsum(values)
    left, total = sums[sizes - 1], sums[-1]
    between = (left / sizes - (total - left) / (count - sizes)) ** 2 * sizes * (count - sizes) / count
    best = int(between.argmax())
    if deeper < SPLITS and between[best] < STEP_SHARE * (values @ values - total * total / count):
        return [values]
    at = int(sizes[best])
    return [*_split(values[:at], deeper - 1), *_split(values[at:], deeper - 1)]
