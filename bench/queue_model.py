"""A queue of c servers, Poisson arrivals and exponential service (M/M/c): exact answers, and a simulation of it."""

import heapq
import math
from collections import defaultdict

import numpy as np
from scipy.optimize import brentq

from shared.histogram import bucket_of


def waiting_share(rate: float, servers: int, service_rate: float) -> float:
    """Erlang's C: the share of arrivals that find every server busy; ``rate`` below the capacity."""
    load = rate / service_rate
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = load * blocked / (busy + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))


def share_beyond(time_s: float, rate: float, servers: int, service_rate: float) -> float:
    """P(response time > t): the service alone, and behind it an exponential wait for the share C of arrivals."""
    wait = waiting_share(rate, servers, service_rate)
    theta = servers * service_rate - rate
    served = math.exp(-service_rate * time_s)
    if abs(theta - service_rate) < 1e-9 * service_rate:
        return served * (1 + wait * service_rate * time_s)
    late = math.exp(-theta * time_s)
    return (1 - wait) * served + wait * (theta * served - service_rate * late) / (theta - service_rate)


def mean_s(rate: float, servers: int, service_rate: float) -> float:
    return 1 / service_rate + waiting_share(rate, servers, service_rate) / (servers * service_rate - rate)


def breaking_rate(limit_s: float, servers: int, service_rate: float, q: float | None) -> float:
    """The rate at which the quantile ``q`` of the response time (None: its mean) reaches a limit."""
    capacity = servers * service_rate

    def excess(rate: float) -> float:
        if q is None:
            return mean_s(rate, servers, service_rate) - limit_s
        return share_beyond(limit_s, rate, servers, service_rate) - (1 - q)

    return float(brentq(excess, capacity * 1e-6, capacity * (1 - 1e-9)))


class Simulated:
    """First come, first served. ``run`` goes on to a moment at a rate; what ended is by second in ``ended``."""

    def __init__(self, servers: int, service_rate: float, seed: int, spacing: str = "poisson") -> None:
        self._free = [0.0] * servers
        self._service_rate, self._random, self._spacing = service_rate, np.random.default_rng(seed), spacing
        self.now_s, self._counted_s, self._within = 0.0, 0, 0
        self.ended: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.sums_ms: dict[int, float] = defaultdict(float)
        self.arrived: dict[int, int] = defaultdict(int)

    def run(self, rate: float, until_s: float) -> None:
        length = until_s - self.now_s
        if self._spacing == "poisson":
            arrivals = self.now_s + np.sort(self._random.random(self._random.poisson(rate * length))) * length
        else:
            arrivals = self.now_s + np.arange(0.5, rate * length) / rate
        services = self._random.exponential(1 / self._service_rate, len(arrivals))
        free, ended, sums, arrived = self._free, self.ended, self.sums_ms, self.arrived
        for at, service in zip(arrivals.tolist(), services.tolist(), strict=True):
            done = max(at, free[0]) + service
            heapq.heapreplace(free, done)
            second = int(done)
            ended[second][bucket_of((done - at) * 1e6)] += 1
            sums[second] += (done - at) * 1e3
            arrived[int(at)] += 1
        self.now_s = until_s

    @property
    def in_system(self) -> int:
        """Arrived and not ended by now, a whole second."""
        while self._counted_s < int(self.now_s):
            self._within += self.arrived.get(self._counted_s, 0)
            self._within -= sum(self.ended.get(self._counted_s, {}).values())
            self._counted_s += 1
        return self._within

    def stand_still(self, seconds: float) -> None:
        """No server begins anything for so long."""
        self._free = [max(free, self.now_s) + seconds for free in self._free]
        heapq.heapify(self._free)
