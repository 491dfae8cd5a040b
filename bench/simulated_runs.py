"""Runs as they would stand in the store, made of chance: response times of one action, seeded."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import signal, special

from services.console.comparing.slots import Slots
from shared.histogram import buckets_of

MEDIAN_US = 20_000.0
TAIL_FROM = 0.9
_BURN_IN = 200


@dataclass(frozen=True, slots=True)
class Simulated:
    """Poisson arrivals at ``rate`` for ``duration_s``, lognormal response times.

    Logarithms are Gaussian with deviation ``sigma``. ``alike``: correlation (AR(1)) of neighbouring requests.
    ``drifting``: share of the variance that all requests of a second have in common, itself AR(1) by seconds with
    ``drift_alike``. ``factor``: on all response times; ``tail_factor``: on the slowest tenth alone. ``errors``: share
    of requests that fail, each by itself.
    """

    rate: float
    duration_s: int
    sigma: float
    alike: float = 0.0
    drifting: float = 0.0
    drift_alike: float = 0.6
    factor: float = 1.0
    tail_factor: float = 1.0
    errors: float = 0.005

    def slower(self, factor: float) -> "Simulated":
        return replace(self, factor=factor)

    def draw(self, generator: np.random.Generator) -> Slots:
        count = max(2, int(generator.poisson(self.rate * self.duration_s)))
        sent = np.sort(generator.uniform(0, self.duration_s, count))
        deviations = _autoregression(count, self.alike, generator)
        if self.drifting:
            seconds = _autoregression(self.duration_s, self.drift_alike, generator)[sent.astype(int)]
            deviations = np.sqrt(1 - self.drifting) * deviations + np.sqrt(self.drifting) * seconds
        times_us = MEDIAN_US * self.factor * np.exp(self.sigma * deviations)
        slow = deviations > special.ndtri(TAIL_FROM)
        times_us[slow] *= self.tail_factor
        done = np.minimum((sent + times_us / 1e6).astype(np.int64), self.duration_s - 1)
        failed = (generator.random(count) < self.errors).astype(np.int64)
        buckets = buckets_of(times_us).astype(np.int64)
        return Slots.of(done, buckets, np.ones(count, np.int64), failed, slots=self.duration_s)


def _autoregression(count: int, alike: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """A stationary AR(1) of variance 1."""
    noise = generator.standard_normal(count + _BURN_IN)
    series: NDArray[np.float64] = signal.lfilter([np.sqrt(1 - alike**2)], [1.0, -alike], noise)[_BURN_IN:]
    return series
