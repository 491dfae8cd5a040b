"""How sure a mean over a run is when neighbouring seconds are alike. Pure.

A slot gives the sum of what its requests deviate from their mean. Were slots independent, the variance of the whole
would be the sum of theirs; where they are not, it is larger, by all their covariances (the long-run variance). It is
estimated twice and the larger counts: from blocks of slots, long enough for what the data show (which finds any
dependence that the run is long enough to show), and from the correlation of neighbours alone (which is surer of the
commonest kind).
"""

import math
from dataclasses import dataclass

import numpy as np

from services.console.comparing.slots import Floats

FEWEST_BLOCKS = 8
_MOST_CORRELATED = 0.97


@dataclass(frozen=True, slots=True)
class Spread:
    """``variance`` of a mean; ``freedom``: of Student's t (overlapping blocks know as much as half as many more that do
    not overlap); ``block``: its length in slots."""

    variance: float
    freedom: float
    block: int


def spread_of_mean(sums: Floats, sizes: Floats, floor: float = 0.0) -> Spread:
    """Of the mean per request, where slot ``s`` adds ``sums[s]`` of ``sizes[s]`` requests (a ratio estimate).

    ``floor``: what the variance would be if all requests were independent; it is never taken to be less.
    """
    total = float(sizes.sum())
    deviations = sums - sums.sum() / total * sizes
    block = block_length(deviations)
    variance = long_run_variance(deviations, block) * len(sums) / total**2
    return Spread(max(variance, floor), 1.5 * len(sums) / block - 1, block)


def long_run_variance(deviations: Floats, block: int) -> float:
    """Variance per slot of the sum of slots, from their deviations.

    From overlapping blocks (the moving-block bootstrap's own variance; Kunsch, Annals of Statistics 1989), with the
    bias of a single length taken off by half of it (lugsail; Vats and Flegal, Biometrika 2022); against the variance
    that an autoregression of order one would have. Never less than that of the slots themselves.
    """
    own, rho = _own_and_neighbour(deviations)
    if own == 0:
        return 0.0
    half = max(1, block // 2)
    whole_blocks = _of_blocks(deviations, block)
    without_bias = whole_blocks
    if block > half:
        without_bias = (block * whole_blocks - half * _of_blocks(deviations, half)) / (block - half)
    return max(own, own * (1 + rho) / (1 - rho), whole_blocks, without_bias)


def block_length(deviations: Floats) -> int:
    """Slots in a block: one and a half of what Politis and White choose, at least the cube root of all slots.

    Econometric Reviews 2004, with the correction of 2009, for blocks of one length; against Andrews' plug-in for an
    autoregression (Econometrica 1991). The floor is for correlation too weak to be told from noise in a short run. At
    least ``FEWEST_BLOCKS`` remain.
    """
    slots = len(deviations)
    _, rho = _own_and_neighbour(deviations)
    of_neighbours = float((math.sqrt(6) * rho / (1 - rho**2)) ** (2 / 3) * slots ** (1 / 3))
    wanted: float = max(slots ** (1 / 3), of_neighbours, 1.5 * _politis_white(deviations))
    return int(max(1, min(math.ceil(wanted), slots // FEWEST_BLOCKS)))


def _of_blocks(deviations: Floats, block: int) -> float:
    slots = len(deviations)
    upto = np.concatenate([[0.0], deviations.cumsum()])
    sums = upto[block:] - upto[:-block]
    return float((sums**2).mean() / block * slots / (slots - block))


def _own_and_neighbour(deviations: Floats) -> tuple[float, float]:
    """Variance of a slot, and the correlation of neighbours without its bias (Kendall 1954), not below 0."""
    slots = len(deviations)
    own = float((deviations**2).mean())
    if own == 0:
        return 0.0, 0.0
    rho = float((deviations[1:] * deviations[:-1]).sum()) / slots / own
    return own, min(max(rho + (1 + 3 * rho) / slots, 0.0), _MOST_CORRELATED)


def _politis_white(deviations: Floats) -> float:
    slots = len(deviations)
    run_of_small = max(5, math.ceil(math.sqrt(math.log10(slots))))
    furthest = math.ceil(math.sqrt(slots)) + run_of_small
    spectrum = np.fft.rfft(deviations, 2 * slots)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[: min(slots, 2 * furthest + 2)] / slots
    if covariance[0] <= 0:
        return 1.0
    small = np.abs(covariance[1:] / covariance[0]) < 2 * math.sqrt(math.log10(slots) / slots)
    starts = (lag for lag in range(furthest) if small[lag : lag + run_of_small].all())
    bandwidth = min(2 * max(next(starts, furthest), 1), furthest)
    lags = np.arange(len(covariance))
    weighted = np.clip(2 * (1 - lags / bandwidth), 0, 1) * covariance
    slope = 2 * float((lags * weighted)[1:].sum())
    level = float(weighted[0] + 2 * weighted[1:].sum())
    if level == 0:
        return 1.0
    return float((2 * slope**2 / (4 / 3 * level**2) * slots) ** (1 / 3))
