"""Where an instance began anew: what it held before says nothing about it now. Pure.

A life begins where the first sample of a new start was told (it has memory and no rates yet), or where nothing was told
for ``GAP_S``, if less memory is held after than before: a source that was away begins nothing. Where neither is told,
a fall by more than ``FALL`` of all memory counts that is not made up for later, which garbage collection does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shared.store.figures import MemoryPoint

GAP_S = 30.0
AROUND = 12
"""Samples on either side of a moment that tell the level there."""
FALL = 0.3
LOWER_P = 0.01


def last_life(points: Sequence[MemoryPoint]) -> Sequence[MemoryPoint]:
    """The samples of the last life, of samples in order of time; at least the newest."""
    memory = np.array([point.memory_mb for point in points])
    times = np.array([point.at.timestamp() for point in points])
    step_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    gaps = np.diff(times, prepend=times[:1]) > max(GAP_S, 3 * step_s)
    for place in range(len(points) - 1, 0, -1):
        if (points[place].began or gaps[place]) and _lower(memory, place):
            return points[place:]
    place = _deepest_fall(memory)
    return points[place:] if place else points


def _lower(memory: NDArray[np.float64], place: int) -> bool:
    before, after = memory[max(0, place - AROUND) : place], memory[place : place + AROUND]
    if len(before) < 3 or len(after) < 3:
        return bool(after.mean() < before.mean())
    return bool(stats.mannwhitneyu(after, before, alternative="less").pvalue < LOWER_P)


def _deepest_fall(memory: NDArray[np.float64]) -> int:
    """The place after the deepest fall that nothing made up for; 0 where there is none."""
    if len(memory) < 2 * AROUND:
        return 0
    place = int(np.argmin(np.diff(memory))) + 1
    before = float(np.median(memory[max(0, place - AROUND) : place]))
    after = memory[place:]
    fell = before - float(np.median(after[:AROUND])) > FALL * before
    return place if fell and float(after.max()) < before else 0
