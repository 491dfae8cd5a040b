"""Whether the memory of one instance grows without end: a trend of what is left when it is at its lowest. Pure.

The time of a life is cut into equal blocks; the least of each is what garbage collection cannot free. Of those minima
less what the load explains, Mann-Kendall tests whether they rise (Mann 1945, Kendall 1975; its variance widened for
autocorrelation as by Hamed and Rao 1998) and Theil-Sen tells by how much (Sen 1968). A leak is told when both say so
now and ``AGAIN_S`` before, and the growth goes on in the later half: a cache that fills slows down, a leak does not.
The trend reports; how long until the limit is reached only sets the severity.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from services.scaler.resources.lives import last_life
from services.scaler.resources.load_share import without_load
from shared.store.figures import MemoryPoint

Floats = NDArray[np.float64]
LEAST_BLOCKS, MOST_BLOCKS, POINTS_PER_BLOCK = 12, 30, 8
LEAST_POINTS = 60
LEAST_S = 20 * 60.0
"""Of a life, at the earlier of the two looks."""
AGAIN_S = 300.0
P_MOST = 0.01
LATE_SHARE, LATE_CONFIDENCE = 0.5, 0.8
"""Growth ends when that of the later half, at the upper end of its interval, is below this share of the whole's."""
SOON_H = 24.0
MOST_DEPENDENCE = 0.8


class Verdict(StrEnum):
    LEAK = "leak"
    NONE = "none"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Leak:
    """What is known of one instance since ``since``, the begin of its life or of what was looked at.

    ``growth_mb_per_min`` with its 95 % interval, and ``p_value``, are of the minima less the share of the load; None
    where they could not be made. ``severity``: critical when the limit is less than a day away, warning otherwise and
    where no limit is known; None unless it leaks.
    """

    service: str
    system: str
    instance: str
    verdict: Verdict
    reason: str
    since: datetime
    until: datetime
    points: int
    memory_mb: float
    limit_mb: float | None = None
    growth_mb_per_min: float | None = None
    growth_low: float | None = None
    growth_high: float | None = None
    p_value: float | None = None
    hours_to_limit: float | None = None
    severity: Literal["warning", "critical"] | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """MB per minute with its 95 % interval, the chance of such a rise without any, and the growth of the later half,
    at the upper end of its 80 % interval."""

    slope: float
    low: float
    high: float
    p_value: float
    late_high: float

    @property
    def complaint(self) -> str:
        """Why it is no leak; empty when it is one."""
        if not (self.p_value < P_MOST and self.low > 0):
            return f"no trend beyond chance (p {self.p_value:.2g})"
        if self.late_high < LATE_SHARE * self.slope:
            return f"growth ends: {self.slope:.3g} MB/min, at most {self.late_high:.3g} in the later half"
        return ""


def find_leaks(points: Iterable[MemoryPoint]) -> list[Leak]:
    """One finding for each instance, by service and instance; ``points`` in any order."""
    ordered = sorted(points, key=lambda point: (point.service, point.instance, point.at))
    return [judge(list(its)) for _, its in groupby(ordered, key=lambda point: (point.service, point.instance))]


def judge(points: Sequence[MemoryPoint]) -> Leak:
    """The finding for one instance; ``points`` in order of time, at least one."""
    life = last_life(points)
    first, last = life[0], life[-1]
    earlier = [point for point in life if (last.at - point.at).total_seconds() >= AGAIN_S]

    def finding(verdict: Verdict, reason: str, trend: Trend | None = None) -> Leak:
        limit = _limit(life)
        hours = None
        if verdict is Verdict.LEAK and trend is not None and limit is not None:
            hours = max(0.0, (limit - last.memory_mb) / trend.slope / 60)
        return Leak(
            service=last.service,
            system=last.system,
            instance=last.instance,
            verdict=verdict,
            reason=reason,
            since=first.at,
            until=last.at,
            points=len(life),
            memory_mb=last.memory_mb,
            limit_mb=limit,
            growth_mb_per_min=None if trend is None else trend.slope,
            growth_low=None if trend is None else trend.low,
            growth_high=None if trend is None else trend.high,
            p_value=None if trend is None else trend.p_value,
            hours_to_limit=hours,
            severity=None if verdict is not Verdict.LEAK else _severity(hours),
        )

    if len(earlier) < LEAST_POINTS or (earlier[-1].at - first.at).total_seconds() < LEAST_S:
        minutes = (last.at - first.at).total_seconds() / 60
        need = f"{(LEAST_S + AGAIN_S) / 60:.0f} min and {LEAST_POINTS} samples"
        return finding(Verdict.INSUFFICIENT, f"{minutes:.0f} min of one life with {len(life)} samples; needs {need}")
    now, before = find_trend(life), find_trend(earlier)
    if now.complaint:
        return finding(Verdict.NONE, now.complaint, now)
    if before.complaint:
        return finding(Verdict.NONE, f"not yet so {AGAIN_S / 60:.0f} min before: {before.complaint}", now)
    words = f"grows by {now.slope:.3g} MB/min ({now.low:.3g} to {now.high:.3g}) beyond what load explains"
    return finding(Verdict.LEAK, words, now)


def find_trend(life: Sequence[MemoryPoint]) -> Trend:
    """How the lowest memory of one life goes, less what its load explains."""
    times = np.array([point.at.timestamp() for point in life])
    minutes = (times - times[0]) / 60
    memory = np.array([point.memory_mb for point in life])
    blocks = int(np.clip(len(life) // POINTS_PER_BLOCK, LEAST_BLOCKS, MOST_BLOCKS))
    block_of = np.minimum((minutes / minutes[-1] * blocks).astype(int), blocks - 1)
    told = np.unique(block_of)
    at = (told + 0.5) * minutes[-1] / blocks
    least = np.array([memory[block_of == block].min() for block in told])
    load = np.array([np.nan if point.load is None else point.load for point in life])
    least = without_load(at, least, minutes, load, block_of, told)
    return _trend(at, least)


def _trend(at: Floats, least: Floats) -> Trend:
    slope, _, low, high = stats.theilslopes(least, at, alpha=0.95)
    half = len(at) // 2
    late_high = stats.theilslopes(least[half:], at[half:], alpha=LATE_CONFIDENCE)[3]
    tau = stats.kendalltau(at, least, alternative="greater").pvalue
    chance = 1.0 if math.isnan(tau) else float(tau)
    deviate = stats.norm.isf(max(chance, 1e-300)) / math.sqrt(_inflation(least - slope * at))
    return Trend(float(slope), float(low), float(high), float(stats.norm.sf(deviate)), float(late_high))


def _inflation(rest: Floats) -> float:
    """By how much autocorrelation widens the variance of Mann-Kendall; 1 where there is none beyond chance."""
    rest = rest - rest.mean()
    power, count = float(rest @ rest), len(rest)
    if power <= 0:
        return 1.0
    first = float(rest[1:] @ rest[:-1]) / power
    first = min(MOST_DEPENDENCE, first + (1 + 3 * first) / count)  # its bias in so few blocks
    if first < stats.norm.isf(0.05) / math.sqrt(count):
        return 1.0
    return (1 + first) / (1 - first)


def _limit(life: Sequence[MemoryPoint]) -> float | None:
    limits = [point.memory_mb / point.memory_ratio for point in life if point.memory_ratio]
    return float(np.median(limits)) if limits else None


def _severity(hours: float | None) -> Literal["warning", "critical"]:
    return "critical" if hours is not None and hours < SOON_H else "warning"
