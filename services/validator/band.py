"""What past days say of today: a robust band, exact where days differ as a normal variable does. Pure.

Days differ more than requests do, so days are the sample. A value is compared with the median of the past days, those
of the same weekday where there are enough of them; the scale is the biweight midvariance of all days about the medians
of their weekdays (Mosteller and Tukey, Data Analysis and Regression, 1977), which a few bad days hardly move. With
which probability a further day lies so many such scales beyond such a median has no closed form; it is the mean of the
normal tail over simulated pasts of the same shape, exact up to their number however small it is. Their days are normal
and, as real ones, like the day before (AR(1)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaln, gammaln, ndtr

LEAST_WEEKS = 5
"""So many days of a weekday tell what is usual on it."""
SIMULATED = 20_000
ALIKE = 0.5
"""Correlation that neighbouring days are taken to have: days that have none are held by a band a little too wide."""
TUNING = 9.0
"""Deviations beyond so many median deviations count nothing."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Past:
    """One number per past day, the weekday of each (0 to 6), and the weekday they are compared with."""

    values: tuple[float, ...]
    weekdays: tuple[int, ...]
    weekday: int

    @property
    def groups(self) -> tuple[tuple[float, ...], ...]:
        """Days that are alike, those like today first: by weekday, or all of them while weeks are few."""
        by_weekday: dict[int, list[float]] = {self.weekday: []}
        for value, weekday in zip(self.values, self.weekdays, strict=True):
            by_weekday.setdefault(weekday, []).append(value)
        if len(by_weekday[self.weekday]) < LEAST_WEEKS:
            return (self.values,)
        return tuple(tuple(group) for group in by_weekday.values() if len(group) >= LEAST_WEEKS)


@dataclass(frozen=True, slots=True)
class Band:
    """``usual``: what is usual for a day like today; ``scale``: by how much days differ; ``days``: of how many."""

    usual: float
    scale: float
    sizes: tuple[int, ...]

    @property
    def days(self) -> int:
        return sum(self.sizes)

    @classmethod
    def of(cls, past: Past, floor: float) -> "Band":
        """Band of at least two days. ``floor``: what days differ by at least, e.g. since requests are few."""
        groups = past.groups
        usual, scale = _usual_and_scale([np.array([group]) for group in groups], floor)
        return cls(float(usual[0]), max(float(scale[0]), floor), tuple(len(group) for group in groups))

    def above(self, value: float) -> float:
        """Probability that one more day lies at ``value`` or above."""
        return float(_beyond((value - self.usual) / self.scale, self.sizes))

    def below(self, value: float) -> float:
        return float(_beyond((self.usual - value) / self.scale, self.sizes))

    def factor(self, alpha: float) -> float:
        """How many scales above the usual one more day lies with probability ``alpha`` (at most one half)."""
        return _factor(alpha, self.sizes)

    def upper(self, alpha: float) -> float:
        return self.usual + self.factor(alpha) * self.scale

    def lower(self, alpha: float) -> float:
        return self.usual - self.factor(alpha) * self.scale


@dataclass(frozen=True, slots=True)
class FailureBand:
    """How many requests of one more day fail; ``tail``: the probability of so many or more, by number."""

    tail: Values

    @classmethod
    def of(cls, count: int, past: Sequence[tuple[int, int]]) -> "FailureBand":
        """Of a day of ``count`` requests; ``past``: (failed, count) of each past day.

        The exact beta-binomial: a day's own rate varies about the mean of all by the overdispersion of the past days
        (method of moments: Kleinman, JASA 68, 1973), and the mean is known as well as that many days tell it (with
        Jeffreys' half a failure).
        """
        spread = _overdispersion(past)
        total, bad = sum(n for _, n in past), sum(k for k, _ in past)
        mean = (bad + 0.5) / (total + 1)
        known = sum(n / (1 + (n - 1) * spread) for _, n in past if n)
        strength = 1 / (spread + (1 - spread) / (known + 2)) - 1
        a, b, failed = mean * strength, (1 - mean) * strength, np.arange(count + 1.0)
        ways = gammaln(count + 1) - gammaln(failed + 1) - gammaln(count - failed + 1)
        each = np.exp(ways + betaln(failed + a, count - failed + b) - betaln(a, b))
        return cls(np.minimum(1.0, np.cumsum(each[::-1])[::-1]))

    def above(self, failed: int) -> float:
        """Probability of so many failures or more."""
        return float(self.tail[failed])

    def limit(self, alpha: float) -> int:
        """The fewest failures less probable than ``alpha``, one more than there are requests where none is."""
        return int(np.count_nonzero(self.tail >= alpha))


def _overdispersion(past: Sequence[tuple[int, int]]) -> float:
    """Correlation of failures within a day, 0 where the days differ no more than chance has it."""
    counts = np.array([n for _, n in past if n > 0], float)
    rates = np.array([k / n for k, n in past if n > 0])
    if len(counts) < 2:
        return 0.0
    mean = float((rates * counts).sum() / counts.sum())
    if not 0 < mean < 1:
        return 0.0
    weights = counts / counts.sum()
    scatter = float((weights * (rates - mean) ** 2).sum())
    chance = float((weights * (1 - weights) / counts).sum()) * mean * (1 - mean)
    own = float((weights * (1 - weights) * (1 - 1 / counts)).sum()) * mean * (1 - mean)
    return min(0.999, max(0.0, (scatter - chance) / own)) if own > 0 else 0.0


def _usual_and_scale(groups: Sequence[Values], floor: float = 1e-12) -> tuple[Values, Values]:
    """Median of the first group and the scale of all; each group is simulations × days."""
    medians = [np.median(group, axis=1, keepdims=True) for group in groups]
    apart = np.concatenate([group - median for group, median in zip(groups, medians, strict=True)], axis=1)
    return medians[0][:, 0], _biweight(apart, floor)


def _biweight(apart: Values, floor: float) -> Values:
    """Square root of the biweight midvariance of each row about 0; ``floor``: of its median deviation, for ties."""
    spread = np.maximum(np.median(np.abs(apart), axis=1, keepdims=True), floor)
    far = np.minimum(1.0, (apart / (TUNING * spread)) ** 2)
    above = (apart**2 * (1 - far) ** 4).sum(axis=1)
    below = ((1 - far) * (1 - 5 * far)).sum(axis=1)
    scale: Values = np.sqrt(apart.shape[1] * above) / np.maximum(np.abs(below), 1e-12)
    return scale


@lru_cache(maxsize=32)
def _pasts(sizes: tuple[int, ...]) -> tuple[Values, Values, Values]:
    """Medians and scales of simulated pasts with groups of these sizes, and what their last day is."""
    whole = len(sizes) == 1
    days = sizes[0] if whole else 7 * max(sizes)
    rng = np.random.default_rng(20_260_301)
    drawn = rng.standard_normal((SIMULATED, days))
    for ago in range(1, days):
        drawn[:, ago] = ALIKE * drawn[:, ago - 1] + math.sqrt(1 - ALIKE**2) * drawn[:, ago]
    # Newest first: a week ago was the weekday of the new day, which is that of the first group.
    groups = [drawn] if whole else [drawn[:, (number - 1) % 7 :: 7][:, :size] for number, size in enumerate(sizes)]
    usual, scale = _usual_and_scale(groups)
    # Copies: a view would keep all that was drawn for as long as it is remembered.
    return usual.copy(), scale, drawn[:, 0].copy()


def _beyond(far: float, sizes: tuple[int, ...]) -> float:
    """Mean probability that one more day lies ``far`` scales beyond the median of its past."""
    first, *others = sizes
    usual, scale, last = _pasts((first, *sorted(others)))
    away = (usual + far * scale - ALIKE * last) / math.sqrt(1 - ALIKE**2)
    return max(float(ndtr(-away).mean()), 1e-300)


@lru_cache(maxsize=256)
def _factor(alpha: float, sizes: tuple[int, ...]) -> float:
    return float(brentq(lambda far: math.log(_beyond(far, sizes) / alpha), -1.0, 1e6, xtol=1e-4))
