"""A simulated canary: hours of a system whose latency has a course over the day, a week, and days that differ.

The logarithm of the median of an action is base + course of the day + weekday + day effect (AR(1) over days, common to
all actions, Gaussian or Student's t) + an effect of the single hour. Requests are lognormal about it; what an hour
holds is drawn from the buckets, so that a day of any rate costs the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from services.validator.drift import Key, Window
from shared.contracts.timing import Kind
from shared.histogram import BASE
from shared.store.figures import SpanTotals

FIRST = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
BUCKETS = np.arange(0, 1_000)
EDGES_LOG_US = BUCKETS * np.log(BASE)
TAIL_SHARE = 0.08


@dataclass(frozen=True)
class Change:
    """What changes from a day on: ``whole`` multiplies every time, ``tail`` those of the slowest 8 in a hundred."""

    from_day: int
    whole: float = 1.0
    tail: float = 1.0
    errors: float = 0.0


@dataclass
class World:
    """``rate``: requests/s of each action. Effects are standard deviations of the logarithm of a time."""

    seed: int
    actions: tuple[str, ...] = ("login", "search", "order")
    rate: float = 1.0
    median_ms: float = 80.0
    sigma: float = 0.5
    season: float = 0.25
    weekend: float = -0.1
    day_effect: float = 0.03
    ar: float = 0.5
    heavy: float | None = None
    hour_effect: float = 0.01
    error_rate: float = 0.001
    error_spread: float = 0.0
    change: Change = field(default_factory=lambda: Change(10_000))

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._days: list[float] = []

    def hours(self, day: int) -> list[dict[Key, SpanTotals]]:
        """What every action did in each hour of a day; days are asked for in order."""
        while len(self._days) <= day:
            self._days.append(self._next_day())
        weekday = self.weekday(day)
        return [
            {
                ("shop", "visit", action, Kind.REQUEST): self._hour(day, weekday, hour, action, number)
                for number, action in enumerate(self.actions)
            }
            for hour in range(24)
        ]

    @staticmethod
    def weekday(day: int) -> int:
        return (FIRST + timedelta(days=day)).weekday()

    def _next_day(self) -> float:
        drawn = self._rng.standard_normal() if self.heavy is None else self._rng.standard_t(self.heavy)
        if self.heavy is not None:
            drawn /= np.sqrt(self.heavy / (self.heavy - 2))
        before = self._days[-1] if self._days else drawn * self.day_effect
        return float(self.ar * before + np.sqrt(1 - self.ar**2) * self.day_effect * drawn)

    def _hour(self, day: int, weekday: int, hour: int, action: str, number: int) -> SpanTotals:
        now = self.change if day >= self.change.from_day else Change(0)
        course = self.season * np.sin(2 * np.pi * (hour - 9) / 24) + (self.weekend if weekday >= 5 else 0.0)
        own = self.hour_effect * self._rng.standard_normal()
        median_us = self.median_ms * 1e3 * (1 + number) * np.exp(course + self._days[day] + own) * now.whole
        count = int(self._rng.poisson(self.rate * 3_600))
        drawn = self._rng.multinomial(count, shares(np.log(median_us), self.sigma, now.tail))
        held = np.flatnonzero(drawn)
        rate = self.error_rate + now.errors
        if self.error_spread:
            strength = 1 / self.error_spread
            rate = self._rng.beta(rate * strength, (1 - rate) * strength)
        return SpanTotals(
            run="canary-1",
            system="shop",
            scenario="visit",
            action=action,
            kind=Kind.REQUEST,
            start=FIRST + timedelta(days=day, hours=hour),
            stored=count,
            cancelled=0,
            count=count,
            failed=int(self._rng.binomial(count, min(1.0, rate))),
            sum_us=int((drawn * BASE ** (BUCKETS + 0.5)).sum()),
            max_us=int(BASE ** (held[-1] + 1)) if len(held) else 0,
            response=dict(zip(held.tolist(), drawn[held].tolist(), strict=True)),
        )


def shares(log_median: float, sigma: float, tail: float) -> NDArray[np.float64]:
    """Probability of each bucket. ``tail``: the slowest ``TAIL_SHARE`` take so many times longer."""
    edges = EDGES_LOG_US.copy()
    cut = log_median + 1.405 * sigma  # 92 in a hundred lie below
    stretched = np.where(edges > cut + np.log(tail), edges - np.log(tail), np.minimum(edges, cut))
    below = ndtr((stretched - log_median) / sigma)
    probabilities = np.diff(np.append(below, 1.0))
    probabilities[0] += below[0]
    whole: NDArray[np.float64] = probabilities / probabilities.sum()
    return whole


def as_window(weekday: int, totals: dict[Key, SpanTotals], seconds: float = 3_600.0) -> Window:
    return Window(weekday, seconds, totals)


def whole_day(hours: list[dict[Key, SpanTotals]]) -> dict[Key, SpanTotals]:
    """The hours of a day as one window."""
    day: dict[Key, SpanTotals] = {}
    for key in hours[0]:
        rows = [hour[key] for hour in hours]
        response: dict[int, int] = {}
        for row in rows:
            for bucket, count in row.response.items():
                response[bucket] = response.get(bucket, 0) + count
        summed: Callable[[str], int] = lambda name, rows=rows: sum(getattr(row, name) for row in rows)  # type: ignore[misc] # noqa: E731
        first = rows[0]
        day[key] = SpanTotals(
            *(first.run, first.system, first.scenario, first.action, first.kind, first.start),
            stored=summed("stored"),
            cancelled=0,
            count=summed("count"),
            failed=summed("failed"),
            sum_us=summed("sum_us"),
            max_us=max(row.max_us for row in rows),
            response=response,
        )
    return day
