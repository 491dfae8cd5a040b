"""The knee of a load curve: the level at which throughput buys the least waiting.

Kleinrock's power, throughput divided by response time, rises while load is free and falls once it only queues
(Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer communications", ICC 1979).
Unlike the bend of a drawn curve its maximum does not depend on how far the axes happen to reach.
"""

import math
from collections.abc import Sequence

import numpy as np


def find_knee(steps: Sequence[tuple[float, float, float | None]]) -> float | None:
    """Level of the greatest power from (level, requests/s, mean response time in ms).

    Between the best step and its two neighbours a parabola in logarithms finds the top. None with fewer than three
    levels, or where the power still rises at the highest or falls from the lowest on.
    """
    powers: dict[float, list[float]] = {}
    for level, rate, time_ms in steps:
        if rate > 0 and time_ms:
            powers.setdefault(round(math.log(level), 6), []).append(math.log(rate / time_ms))
    levels = sorted(powers)
    heights = [float(np.mean(powers[level])) for level in levels]
    if len(levels) < 3:
        return None
    best = int(np.argmax(heights))
    if best in (0, len(levels) - 1):
        return None
    around = slice(best - 1, best + 2)
    a, b, _ = np.polyfit(levels[around], heights[around], 2)
    top = -b / (2 * a) if a < 0 else levels[best]
    return round(math.exp(min(max(top, levels[best - 1]), levels[best + 1])), 3)
