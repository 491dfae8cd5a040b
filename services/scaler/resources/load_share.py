"""What of an instance's memory its load explains. Pure.

Least squares of the blocks' minima on time and on the load, which memory may follow at once or with a delay (the
exponential means of ``DELAYS_MIN``; the one that explains most counts). Where the load itself has a trend, the two
cannot be told apart by much: the load is then given the most credit that the data allow.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

Floats = NDArray[np.float64]
DELAYS_MIN = (0.0, 1.0, 3.0)
CREDIT = 2.0
"""Standard errors added to the share of a load that has a trend, and beyond which that of any other counts."""
TREND_P, TREND_LEAST = 0.05, 0.1
"""A load has a trend when it is beyond chance and goes over this share of its mean."""
ALIKE = 0.7
"""Correlation of a rising load with time from which on the two cannot be told apart: the load gets all of the rise."""


def without_load(
    at: Floats, least: Floats, minutes: Floats, load: Floats, block_of: NDArray[np.int64], told: NDArray[np.int64]
) -> Floats:
    """``least`` (MB by block) less the share of the load; as it is where no load was told throughout.

    ``at``: the blocks' middles. ``minutes``, ``load``, ``block_of``: of each sample. ``told``: blocks with samples.
    """
    known = np.isfinite(load)
    if known.sum() < len(load) / 2 or not np.array_equal(np.unique(block_of[known]), told):
        return least
    filled = np.interp(minutes, minutes[known], load[known])
    followed = [_delayed(minutes, filled, delay) for delay in DELAYS_MIN]
    loads = [np.array([one[block_of == block].mean() for block in told]) for one in followed]
    drifts = _drifts(at, loads[0])
    fits = [_fit(at, least, one) for one in loads if float(one.std()) > 1e-9 * max(1.0, float(abs(one).max()))]
    if not fits:
        return least
    _, share, error, one = min(fits, key=lambda fit: fit[0])
    if drifts:
        share += drifts * CREDIT * error
        if drifts > 0 and abs(float(np.corrcoef(at, one)[0, 1])) > ALIKE:
            share = max(share, float(np.mean((least - least.mean()) * one)))
    elif share < CREDIT * error:
        return least
    return np.asarray(least - max(share, 0.0) * one)


def _drifts(at: Floats, load: Floats) -> int:
    """1 for a load that rises, -1 for one that falls, 0 for one that does neither."""
    chance = stats.kendalltau(at, load).pvalue
    slope = float(stats.theilslopes(load, at)[0])
    goes = abs(slope) * float(at[-1] - at[0]) >= TREND_LEAST * float(abs(load.mean()))
    return int(np.sign(slope)) if chance < TREND_P and goes else 0


def _delayed(minutes: Floats, load: Floats, delay_min: float) -> Floats:
    if not delay_min:
        return load
    weight = 1 - np.exp(-float(np.median(np.diff(minutes))) / delay_min)
    told, _ = signal.lfilter([weight], [1, weight - 1], load, zi=[load[0] * (1 - weight)])
    return np.asarray(told)


def _fit(at: Floats, least: Floats, load: Floats) -> tuple[float, float, float, Floats]:
    """Sum of squares left over; MB by standard deviation of the load, its standard error; the load in those."""
    unit = (load - load.mean()) / load.std()
    time = (at - at.mean()) / at.std()
    columns = np.column_stack([np.ones_like(at), time, unit])
    found = np.linalg.lstsq(columns, least, rcond=None)[0]
    rest = least - columns @ found
    left = float(rest @ rest)
    alone = max(1 - float(np.mean(time * unit)) ** 2, 1e-9)
    error = float(np.sqrt(left / max(len(at) - 3, 1) / len(at) / alone))
    return left, float(found[2]), error, unit
