"""Drawing service times from a seeded distribution. Pure: the same seed gives the same times."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from .spec import ServiceTime


def draw_s(time: ServiceTime, rng: random.Random) -> float:
    """One service time in seconds; the mean of many is `mean_ms`.

    A lognormal of mean m and log-deviation s has the log-mean ln m - s^2/2.
    """
    mean_s = time.mean_ms / 1000
    if time.distribution == "fixed" or mean_s == 0:
        return mean_s
    if time.distribution == "exponential":
        return rng.expovariate(1 / mean_s)
    return rng.lognormvariate(math.log(mean_s) - time.sigma**2 / 2, time.sigma)


class ServiceTimes:
    """The service times of one replica: one random stream per kind of work, so kinds do not disturb each other."""

    def __init__(self, times: Mapping[str, ServiceTime], seed: int, ordinal: int) -> None:
        self._times = dict(times)
        self._streams = {kind: random.Random(f"{seed}/{ordinal}/{kind}") for kind in times}

    def draw_s(self, kind: str) -> float:
        """The next service time of `kind`, in seconds."""
        return draw_s(self._times[kind], self._streams[kind])
