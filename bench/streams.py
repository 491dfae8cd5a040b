"""Simulated load, seeded: requests with lognormal times as the frames of a worker, readings as an AR(1) of lognormals.

Everything is made a stretch at a time in whole columns, so that a day is affordable. Times are seconds of simulated
time from 0; the frames are what a collector would publish.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from shared.contracts.timing import Kind
from shared.contracts.window import ActionNow, Cell, FrameWindows
from shared.histogram import MAX_BUCKET, buckets_of

Floats = NDArray[np.float64]
Change = Callable[[Floats], Floats]
"""By when requests were sent: the factor of their times; infinite for those that never return."""

FRAME_S = 0.2
EPOCH_S = 1_800_000_000
"""Where simulated time begins on the wall."""
_WIDTH = MAX_BUCKET + 1


def median_for(value: float, quantile: float | None, sigma: float) -> float:
    """Median of the lognormal that has this quantile (None: this mean)."""
    return value / math.exp(sigma * sigma / 2 if quantile is None else sigma * float(ndtri(quantile)))


@dataclass(slots=True)
class Line:
    """Poisson arrivals of one action, ``rate`` a second, of which a share fails."""

    action: str
    rate: float
    median_ms: float
    sigma: float
    failing: float = 0.0
    kind: Kind = Kind.REQUEST
    change: Change | None = None
    pending: tuple[Floats, Floats] = field(default_factory=lambda: (np.empty(0), np.empty(0)))
    sent: int = 0

    def made(self, rng: np.random.Generator, begin_s: float, end_s: float) -> tuple[Floats, Floats]:
        """When requests were sent and returned: those still out before, and those sent in this stretch."""
        sent = rng.uniform(begin_s, end_s, rng.poisson(self.rate * (end_s - begin_s)))
        times = self.median_ms / 1e3 * rng.lognormal(0, self.sigma, len(sent))
        if self.change is not None:
            times *= self.change(sent)
        return np.concatenate([self.pending[0], sent]), np.concatenate([self.pending[1], sent + times])


@dataclass(slots=True)
class Worker:
    """One worker's frames against one system, ``FRAME_S`` apart."""

    run: str
    system: str
    lines: list[Line]
    rng: np.random.Generator
    scenario: str = "steady"
    seq: int = 0

    def frames(self, begin_s: float, end_s: float) -> Iterator[tuple[float, FrameWindows]]:
        """Frames with the moment each is cut, of a stretch of whole seconds."""
        number = round((end_s - begin_s) / FRAME_S)
        columns = [self._columns(line, begin_s, end_s, number) for line in self.lines]
        for at in range(number):
            self.seq += 1
            cut_s = begin_s + (at + 1) * FRAME_S
            cut_us = round((EPOCH_S + cut_s) * 1e6)
            yield (
                cut_s,
                FrameWindows.model_construct(
                    run=self.run,
                    environment="bench",
                    worker="w1",
                    epoch=1,
                    system=self.system,
                    seq=self.seq,
                    watermark_us=cut_us,
                    emitted_us=cut_us,
                    actions=tuple(actions[at] for actions, _ in columns),
                    cells=tuple(cell for _, cells in columns if (cell := cells[at]) is not None),
                ),
            )

    def _columns(
        self, line: Line, begin_s: float, end_s: float, number: int
    ) -> tuple[list[ActionNow], list[Cell | None]]:
        sent, done = line.made(self.rng, begin_s, end_s)
        cuts: Floats = begin_s + FRAME_S * np.arange(1, number + 1, dtype=np.float64)
        new = np.searchsorted(np.sort(sent[len(line.pending[0]) :]), cuts)
        ages = self._in_flight(sent, done, cuts)
        out = done >= end_s
        line.pending = sent[out], done[out]
        frame, times = ((done[~out] - begin_s) / FRAME_S).astype(np.int64), (done - sent)[~out] * 1e6
        frame = np.clip(frame, 0, number - 1)
        failed = np.bincount(frame[self.rng.random(len(frame)) < line.failing], minlength=number).tolist()
        sums = np.bincount(frame, times, number).astype(np.int64).tolist()
        names: dict[str, Any] = {"scenario": self.scenario, "action": line.action, "kind": line.kind}
        cells: list[Cell | None] = [
            Cell.model_construct(
                **names,
                second=EPOCH_S + math.floor(begin_s + at * FRAME_S + 1e-6),
                count=sum(response.values()),
                failed=failed[at],
                errors={8: failed[at]} if failed[at] else {},
                response=response,
                response_sum_us=sums[at],
            )
            if response
            else None
            for at, response in enumerate(_histograms(frame, times, number))
        ]
        actions = [
            ActionNow.model_construct(**names, sent=line.sent + int(new[at]), in_flight=sum(one.values()), ages=one)
            for at, one in enumerate(ages)
        ]
        line.sent += int(new[-1])
        return actions, cells

    def _in_flight(self, sent: Floats, done: Floats, cuts: Floats) -> list[dict[int, int]]:
        """Of each cut the histogram of ages (µs) of what is out."""
        first = np.searchsorted(cuts, sent)
        spans = np.maximum(np.searchsorted(cuts, done) - first, 0)
        which = np.repeat(np.arange(len(sent)), spans)
        within = np.arange(len(which)) - np.repeat(np.cumsum(spans) - spans, spans)
        frame = first[which] + within
        return _histograms(frame, (cuts[frame] - sent[which]) * 1e6, len(cuts))


def _histograms(frame: NDArray[np.int64], times_us: Floats, number: int) -> list[dict[int, int]]:
    """A histogram for each frame, of times given with the number of their frame."""
    keys, counts = np.unique(frame * _WIDTH + buckets_of(times_us), return_counts=True)
    ends = np.searchsorted(keys, np.arange(number + 1) * _WIDTH)
    buckets, told = (keys % _WIDTH).tolist(), counts.tolist()
    return [dict(zip(buckets[begin:end], told[begin:end], strict=True)) for begin, end in pairwise(ends)]


def readings(
    rng: np.random.Generator, count: int, mean: float, sigma: float, correlation: float, state: float
) -> tuple[Floats, float]:
    """Lognormal readings of a mean whose logarithms are an AR(1) about it; and the state to go on from."""
    steps = rng.standard_normal(count) * math.sqrt(1 - correlation**2)
    latent = np.empty(count)
    for at in range(count):
        state = latent[at] = correlation * state + steps[at]
    return mean * np.exp(sigma * latent - sigma * sigma / 2), float(state)
