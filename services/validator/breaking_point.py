"""Where a limit is reached, from margins measured with noise at a few levels: a posterior on a grid, pure.

Near the breaking point a margin is a line of the level, hardly bent, so every step tells of the point and of the line's
slope. This is probabilistic bisection (Horstein 1963; Waeber,
Frazier and Henderson, SIAM J. Control Optim. 2013) that uses how far a step was from the limit and not only on which
side, and it shares its tolerance: one step in thirty may say anything at all.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FALSE_STEP = 1 / 30
"""How often a step says nothing of the system: what disturbed it was not seen."""
FALSE_BOUND = 1 / 50
BEND = 2.5
"""Margins bend upwards with the logarithm of the load, like exp(2.5 x): what M/M/c queues of 1 to 16 servers have in
common from half their breaking point to a fifth beyond it, within ``ASTRAY``."""
ASTRAY, ASTRAY_PER_DISTANCE, DISTURBED = 0.1, 0.8, 0.03
"""How wrong the line is (standard deviation): a share of what it says, growing with the distance; and in any case."""
UNDERRATED, UNDERRATED_BY = 0.25, 2.0
"""So often a step's error is told too small, and by so much: long queues are rare, and a step may see none."""
FURTHEST = 4.0
"""Margins beyond this say on which side they are, no more."""
SLOPES = np.geomspace(0.5, 400.0, 24)
TYPICAL_SLOPE, SLOPE_SPREAD = 8.0, 1.2
"""Slopes are log-normal beforehand; of the same queues they are 1 to 60."""
BOUND = 2.0
"""What the margin of a step that was cut short had surely passed."""
POINTS = 400
TAIL = 0.025

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One margin at one level. ``bound``: the true one lies at least so far up (the step was cut short)."""

    level: float
    margin: float
    error: float
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """Median and 95 % interval of the breaking point, and the median slope of the margin about it."""

    level: float
    low: float
    high: float
    slope: float

    @property
    def precision(self) -> float:
        """Half the width of the interval as a share of the level."""
        return math.log(self.high / self.low) / 2


@lru_cache(maxsize=64)
def locate(sightings: tuple[Sighting, ...], lowest: float, highest: float) -> Point:
    """The breaking point between two levels, from at least one sighting.

    Remembered, since it is asked for at every look at a step and changes only with a new one.
    """
    points = np.linspace(math.log(lowest), math.log(highest), POINTS)
    beforehand = -((np.log(SLOPES / TYPICAL_SLOPE) / SLOPE_SPREAD) ** 2) / 2
    weight = np.zeros((POINTS, len(SLOPES))) + beforehand
    for one in sightings:
        weight += _log_likelihood(one, points)
    chances = np.exp(weight - weight.max())
    chances /= chances.sum()
    along = np.cumsum(chances.sum(axis=1))
    low, level, high = (math.exp(float(np.interp(q, along, points))) for q in (TAIL, 0.5, 1 - TAIL))
    across = np.cumsum(chances.sum(axis=0))
    return Point(level, low, high, float(SLOPES[int(np.searchsorted(across, 0.5))]))


def _log_likelihood(one: Sighting, points: Floats) -> Floats:
    """Of every point (rows) and slope (columns).

    The true margin is normal about the line, cut off at 0: above the point it is positive, below it negative. What was
    measured is normal about the true margin, and their convolution has a closed form.
    """
    apart = (math.log(one.level) - points)[:, None]
    line = np.clip(SLOPES * np.expm1(BEND * apart) / BEND, -FURTHEST, FURTHEST)
    astray = ((ASTRAY + ASTRAY_PER_DISTANCE * np.abs(apart)) * line) ** 2 + DISTURBED**2
    if one.bound:
        reached = ndtr((line - BOUND) / np.sqrt(astray + 1))
        passed: Floats = np.log(np.where(apart > 0, (1 - FALSE_BOUND) * reached, 0.0) + FALSE_BOUND)
        return passed
    seen = min(max(one.margin, -FURTHEST), FURTHEST)
    side = np.sign(apart)
    likely = np.full(line.shape, FALSE_STEP / (2 * FURTHEST))
    for error, share in ((one.error, 1 - UNDERRATED), (UNDERRATED_BY * one.error, UNDERRATED)):
        whole = astray + error**2
        centre = (line * error**2 + seen * astray) / whole
        kept = ndtr(side * centre / np.sqrt(astray * error**2 / whole)) / ndtr(side * line / np.sqrt(astray))
        density = np.exp(-((seen - line) ** 2) / whole / 2) / np.sqrt(2 * math.pi * whole)
        likely += (1 - FALSE_STEP) * share * kept * density
    told: Floats = np.log(likely)
    return told
