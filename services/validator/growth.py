"""Whether a reading grows for good: block minima, the Mann-Kendall test and the slope of Theil and Sen. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
from scipy.special import ndtr

BLOCKS = 12
LEAST_P = 0.01


@dataclass(frozen=True, slots=True)
class Growth:
    """``per_hour``: growth in the reading's unit; ``p``: how probable so steady a rise is where nothing grows."""

    first: float
    last: float
    per_hour: float
    p: float


def find_growth(readings: Sequence[tuple[float, float]]) -> Growth | None:
    """Growth of (seconds, value) in order of time, or None. The least of each block: what is given back is no leak."""
    if len(readings) < 2 * BLOCKS:
        return None
    edges = [round(number * len(readings) / BLOCKS) for number in range(BLOCKS + 1)]
    lows = [min(readings[start:end], key=lambda reading: reading[1]) for start, end in pairwise(edges)]
    p = rising_p([value for _, value in lows])
    slope = median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(lows)
        for later in lows[number + 1 :]
        if later[0] > earlier[0]
    )
    return Growth(lows[0][1], lows[-1][1], 3_600 * slope, p) if p < LEAST_P and slope > 0 else None


def rising_p(values: Sequence[float]) -> float:
    """One-sided Mann-Kendall test of a rise (Kendall 1975), normal approximation with correction for ties."""
    count = len(values)
    signs = np.sign(np.subtract.outer(values, values))
    score = float(np.tril(signs).sum())
    ties = np.unique(np.asarray(values), return_counts=True)[1]
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return 1.0 if variance <= 0 or score <= 0 else float(ndtr(-(score - 1) / math.sqrt(variance)))
