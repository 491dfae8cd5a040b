"""The model: replicas with a start-up time and so many servers each, one line in the order of arrival. Pure.

Discrete events: a request starts when it has arrived and a server is free, and ends a service time later. A replica
takes requests from its start-up time on after it was ordered. One that is removed takes nothing more at once and ends
what it has.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests: when each arrives (seconds from 0, ascending) and how long a server works on it (seconds)."""

    arrivals: Floats
    services: Floats
    duration_s: int


@dataclass(frozen=True, slots=True)
class Second:
    """What a scrape at the end of one second tells: counters as growth within it, gauges as of its end.

    ``busy``: mean number of servers at work within it. ``in_flight``: at a server; ``waiting``: in line. ``p95_s`` and
    ``line_s``: p95 of the responses and mean time in line of the requests answered; None when none was.
    """

    at_s: int
    desired: int
    ready: int
    served: int
    in_flight: int
    waiting: int
    busy: float
    utilization: float
    p95_s: float | None
    line_s: float | None


class Replicas:
    """The state of the service; times only move forward."""

    def __init__(self, load: Load, concurrency: int, start_up_s: float, start: int) -> None:
        self._arrivals: list[float] = load.arrivals.tolist()
        self._services: list[float] = load.services.tolist()
        self._concurrency, self._start_up_s = concurrency, start_up_s
        self._ready = start
        self._coming: list[float] = []
        self._busy: list[float] = []
        self._next = 0
        self._arrived = 0
        self._begun_s = 0.0
        self._work_s = 0.0
        self._finished: defaultdict[int, list[int]] = defaultdict(list)
        self.responses = np.full(len(self._arrivals), np.inf)

    @property
    def desired(self) -> int:
        return self._ready + len(self._coming)

    @property
    def ready(self) -> int:
        return self._ready

    def order(self, now_s: float, replicas: int) -> None:
        """Want so many from now on; those still starting are given up first, the latest of them before the others."""
        while self.desired < replicas:
            self._coming.append(now_s + self._start_up_s)
        while self.desired > replicas and self._coming:
            self._coming.pop()
        self._ready -= max(0, self.desired - replicas)

    def advance(self, now_s: float, until_s: float) -> None:
        """Let the time from ``now_s`` to ``until_s`` pass."""
        while self._coming and self._coming[0] <= until_s:
            ready_s = max(now_s, self._coming[0])
            self._serve(now_s, ready_s)
            while self._coming and self._coming[0] <= ready_s:
                self._coming.pop(0)
                self._ready += 1
            now_s = ready_s
        self._serve(now_s, until_s)

    def second(self, at_s: int) -> Second:
        """The scrape at the end of the second that ends at ``at_s``."""
        busy, line = self._busy, self._arrivals
        while busy and busy[0] <= at_s:
            heapq.heappop(busy)
        while self._arrived < len(line) and line[self._arrived] < at_s:
            self._arrived += 1
        work_s = self._begun_s - (sum(busy) - at_s * len(busy))
        done_s, self._work_s = work_s - self._work_s, work_s
        ended = self._finished.pop(at_s - 1, [])
        times = self.responses[ended]
        servers = self._ready * self._concurrency
        return Second(
            at_s=at_s,
            desired=self.desired,
            ready=self._ready,
            served=len(ended),
            in_flight=len(busy),
            waiting=self._arrived - self._next,
            busy=done_s,
            utilization=min(done_s / servers, 1.0) if servers else 0.0,
            p95_s=float(np.sort(times)[-(-95 * len(ended) // 100) - 1]) if ended else None,
            line_s=max(0.0, float(times.mean()) - sum(self._services[one] for one in ended) / len(ended))
            if ended
            else None,
        )

    def _serve(self, begin_s: float, end_s: float) -> None:
        """Start every request that can start before ``end_s``, the number of servers being the same all the while."""
        arrivals, services, busy, finished = self._arrivals, self._services, self._busy, self._finished
        responses, servers, one, count = self.responses, self._ready * self._concurrency, self._next, len(arrivals)
        while one < count:
            arrived_s = arrivals[one]
            start_s = max(begin_s, arrived_s)
            while busy and busy[0] <= start_s:
                heapq.heappop(busy)
            while len(busy) >= servers and busy and busy[0] < end_s:
                start_s = heapq.heappop(busy)
            if len(busy) >= servers or start_s >= end_s:
                break
            service_s = services[one]
            done_s = start_s + service_s
            heapq.heappush(busy, done_s)
            finished[int(done_s)].append(one)
            responses[one] = done_s - arrived_s
            self._begun_s += service_s
            one += 1
        self._next = one
