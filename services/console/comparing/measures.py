"""What is held against what of one action in two runs, and what the figures say. Pure.

Five measures: the centre and the 95th and 99th percentile of the response time, the error rate, the throughput. A test
says whether there is a difference at all, an interval how large it may be.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import special, stats

from services.console.comparing.dependence import spread_of_mean
from services.console.comparing.slots import LOG_BASE, Floats, Slots, align, locate, to_ms
from services.console.comparing.two_runs import (
    Difference,
    difference_of_counts,
    difference_of_scores,
    quantile_of_t,
    resample,
)

CONFIDENCE = 0.95
LEAST_SLOTS = 20
LEAST_REQUESTS = 50
LEAST_BEYOND = 10
DRAWS = 500
EXACT_UP_TO = 2_000
"""So many failures in all are also tested exactly; of more, the normal distribution says the same."""


class Name(StrEnum):
    CENTRE = "centre"
    P95 = "p95"
    P99 = "p99"
    ERRORS = "errors"
    THROUGHPUT = "throughput"


TAILS = {Name.P95: 0.95, Name.P99: 0.99}


@dataclass(frozen=True, slots=True)
class Measure:
    """``base`` and ``candidate`` in ``unit``. ``change`` is relative to base (of an error rate: the difference of the
    two), and so are ``low`` and ``high``, the ends of its 95 % interval.

    ``p``: how probable so large a difference is between like runs, before other measures are reckoned with. Both are
    None where it was not tested; ``note`` says why.
    """

    name: Name
    unit: str
    base: float | None = None
    candidate: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    note: str = ""


def measure_all(base: Slots, candidate: Slots, *, seed: int = 0) -> list[Measure]:
    """Every measure of one action. ``seed``: of the bootstrap's draws; the same runs give the same figures."""
    short = _too_short(base, candidate)
    if short:
        units = {Name.ERRORS: "ratio", Name.THROUGHPUT: "requests/s"}
        return [Measure(name, units.get(name, "ms"), note=short) for name in Name]
    x, y, first = align(base, candidate)
    generator = np.random.default_rng(seed)
    tails = [_tail(name, q, x, y, first, generator) for name, q in TAILS.items()]
    return [_centre(x, y, first), *tails, _errors(base, candidate), _throughput(base, candidate)]


def _too_short(base: Slots, candidate: Slots) -> str:
    for which, slots in (("base", base), ("candidate", candidate)):
        if slots.total < LEAST_REQUESTS:
            return f"{which} has {slots.total} requests after ramp-up, {LEAST_REQUESTS} are needed"
        if len(slots.counts) < LEAST_SLOTS:
            steps = f"{len(slots.counts)} steps of {slots.step_s:g} s"
            return f"{which} has {steps} after ramp-up, {LEAST_SLOTS} are needed"
    return ""


def _centre(x: Floats, y: Floats, first: int) -> Measure:
    """Mann-Whitney, and the shift of Hodges and Lehmann: the median of all ratios of a request of one run to one of the
    other.

    The statistic is P(X < Y) + P(X = Y) / 2 over the buckets, its variance that of Brunner and Munzel (Biometrical
    Journal 2000) without their independence. The interval holds the shifts that the same test would not reject, so both
    say the same.
    """
    of_x, of_y = x.sum(axis=0), y.sum(axis=0)
    below_y = (of_y.cumsum() - of_y / 2) / of_y.sum()
    below_x = (of_x.cumsum() - of_x / 2) / of_x.sum()
    # The mean of below_x over Y is the statistic, that of below_y over X one less it.
    difference = difference_of_scores(x, y, below_y, below_x)
    theta = (1 + difference.value) / 2
    halved = Difference(theta - 0.5, difference.base, difference.candidate)
    margin = halved.margin(CONFIDENCE)
    middle, low, high = (_shift(of_x, of_y, at) for at in (0.5, 0.5 - margin, 0.5 + margin))
    medians = [to_ms(float(locate(of, 0.5)[0]), first) for of in (of_x, of_y)]
    return Measure(Name.CENTRE, "ms", medians[0], medians[1], middle, low, high, halved.p)


def _shift(of_x: Floats, of_y: Floats, q: float) -> float:
    """The ``q`` quantile of the ratios of all pairs, less 1: differences of logarithms are differences of buckets."""
    pairs = np.correlate(of_y, of_x, "full")
    # The difference of two buckets lies evenly around that of their numbers; the first is that of the furthest apart.
    place = float(locate(pairs, min(max(q, 0.0), 1.0))[0]) - 0.5 - (len(of_x) - 1)
    return math.expm1(place * LOG_BASE)


def _tail(name: Name, q: float, x: Floats, y: Floats, first: int, generator: np.random.Generator) -> Measure:
    """Whether as many requests of both lie beyond their common percentile; the interval from a block bootstrap."""
    of_x, of_y = x.sum(axis=0), y.sum(axis=0)
    places = [float(locate(of, q)[0]) for of in (of_x, of_y)]
    known = Measure(name, "ms", to_ms(places[0], first), to_ms(places[1], first))
    least = math.ceil(LEAST_BEYOND / (1 - q) - 1e-9)
    fewer = min(of_x.sum(), of_y.sum())
    if fewer < least:
        return replace(known, note=f"{fewer:.0f} requests, {least:,} are needed")
    common = float(locate(of_x / of_x.sum() + of_y / of_y.sum(), q)[0])
    beyond = _beyond(len(of_x), common)
    difference = difference_of_scores(x, y, beyond, share=1 - q)
    deviation = math.hypot(*(_deviation(counts, q, generator) for counts in (x, y)))
    margin, apart = quantile_of_t(difference.freedom, CONFIDENCE) * deviation, places[1] - places[0]
    change, low, high = (math.expm1((apart + side * margin) * LOG_BASE) for side in (0, -1, 1))
    return replace(known, change=change, low=low, high=high, p=difference.p)


def _deviation(counts: Floats, q: float, generator: np.random.Generator) -> float:
    """Standard deviation of where a run's percentile lies, in buckets, by a bootstrap of blocks of slots.

    Widened by as much as such blocks are too short for the share that lies beyond the percentile.
    """
    beyond = _beyond(counts.shape[1], float(locate(counts.sum(axis=0), q)[0]))
    sizes = counts.sum(axis=1)
    spread = spread_of_mean(counts @ beyond, sizes, q * (1 - q) / float(sizes.sum()))
    draws = resample(counts, spread.block, DRAWS, generator)
    draws = draws[draws.sum(axis=1) > 0]
    located, shares = float(locate(draws, q).std()), float(((draws @ beyond) / draws.sum(axis=1)).var())
    return located * math.sqrt(max(1.0, spread.variance / shares)) if shares > 0 else located


def _beyond(buckets: int, place: float) -> Floats:
    """Which part of each bucket lies beyond a place."""
    return np.clip(np.arange(buckets) + 1 - place, 0.0, 1.0)


def _errors(base: Slots, candidate: Slots) -> Measure:
    """Score test with the clustering of failures in time, and Fisher's exact test where failures are few: both must
    agree.

    The interval is Newcombe's (Statistics in Medicine 1998, method 10) for as many requests as the clustered ones are
    worth.
    """
    failed, totals = [int(s.failed.sum()) for s in (base, candidate)], [s.total for s in (base, candidate)]
    rates = [count / total for count, total in zip(failed, totals, strict=True)]
    pooled = sum(failed) / sum(totals)
    errors = [slots.failed.astype(float) for slots in (base, candidate)]
    sizes = [slots.per_slot.astype(float) for slots in (base, candidate)]
    difference = difference_of_counts(errors[0], errors[1], sizes[0], sizes[1], share=pooled)
    p = difference.p
    if sum(failed) <= EXACT_UP_TO:
        p = max(p, _fisher(failed[0], totals[0], failed[1], totals[1]))
    # How many requests are worth one, where failures come in bursts; those of one run tell it of both.
    worth = 1.0
    if 0 < pooled < 1:
        spreads = zip((difference.base, difference.candidate), totals, strict=True)
        worth = max(spread.variance * total for spread, total in spreads) / (pooled * (1 - pooled))
    low, high = newcombe(rates[0], totals[0] / worth, rates[1], totals[1] / worth)
    return Measure(Name.ERRORS, "ratio", rates[0], rates[1], rates[1] - rates[0], low, high, p)


def _fisher(failed_x: int, total_x: int, failed_y: int, total_y: int) -> float:
    """Two-sided by twice the smaller tail of the hypergeometric distribution."""
    law = stats.hypergeom(total_x + total_y, failed_x + failed_y, total_y)
    return min(1.0, 2 * min(float(law.cdf(failed_y)), float(law.sf(failed_y - 1))))


def newcombe(rate_x: float, size_x: float, rate_y: float, size_y: float) -> tuple[float, float]:
    """Interval of ``rate_y - rate_x`` from Wilson's score interval of each."""
    z = float(special.ndtri(0.5 + CONFIDENCE / 2))
    ends = []
    for rate, size in ((rate_x, size_x), (rate_y, size_y)):
        middle, half = rate + z**2 / (2 * size), z * math.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2))
        ends.append(((middle - half) / (1 + z**2 / size), (middle + half) / (1 + z**2 / size)))
    (low_x, high_x), (low_y, high_y) = ends
    apart = rate_y - rate_x
    return apart - math.hypot(rate_y - low_y, high_x - rate_x), apart + math.hypot(high_y - rate_y, rate_x - low_x)


def _throughput(base: Slots, candidate: Slots) -> Measure:
    """Requests a second that ended without failure, while the load went on."""
    good, lasted = [], []
    for slots in (base, candidate):
        whole = slice(*slots.loaded)
        good.append((slots.per_slot - slots.failed)[whole].astype(float))
        lasted.append(np.full(len(good[-1]), slots.step_s))
    unmeasured, fewest = Measure(Name.THROUGHPUT, "requests/s"), min(map(len, good))
    if fewest < LEAST_SLOTS:
        return replace(unmeasured, note=f"{fewest} whole steps, {LEAST_SLOTS} are needed")
    difference = difference_of_counts(good[0], good[1], lasted[0], lasted[1])
    rate = float(good[0].sum() / lasted[0].sum())
    known = replace(unmeasured, base=rate, candidate=rate + difference.value)
    if rate == 0:
        return replace(known, note="base had none without failure")
    change, margin = difference.value / rate, difference.margin(CONFIDENCE) / rate
    return replace(known, change=change, low=change - margin, high=change + margin, p=difference.p)
