"""Exact tests of one sample against one limit. Every function returns a pair of one-sided probabilities.

``worse``: how probable an observation this bad or worse is where the limit is just kept; small means broken.
``better``: how probable one this good or better is where the limit is just kept; small means kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtr, bdtrc, pdtr, pdtrc, stdtr


@dataclass(frozen=True, slots=True)
class Odds:
    worse: float
    better: float


def binomial(above: int, total: int, share: float) -> Odds:
    """``above`` of ``total`` lie beyond a limit that at most ``share`` of them may: P(Bin(n, 1−q) ≥ k) and ≤ k."""
    if total == 0:
        return Odds(1.0, 1.0)
    worse = 1.0 if above == 0 else float(bdtrc(above - 1, total, share))
    return Odds(worse, float(bdtr(above, total, share)))


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


def sign(readings: Sequence[float], limit: float) -> float:
    """The sign test: how probable so many readings above a limit are, were each as likely to lie below it."""
    return binomial(sum(reading > limit for reading in readings), len(readings), 0.5).worse


def mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample variance (n − 1) of at least one value; the variance of a single one is 0."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
