"""One benchmark held against one sample: met, missed, critical, insufficient or invalid, and by which test.

Neither a pass nor a breach is ever assumed: what confirms neither is ``insufficient``. Where samples come from and
what happens after a verdict (episodes, scores, reports) belongs to others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Literal

from services.validator.samples import Completions, Counted, Failures, Latencies, Readings, Sample
from services.validator.significance import Odds, binomial, poisson, scatter_of, scattered, student
from shared.contracts.benchmarks import CONFIRM_P, QUANTILES, Benchmark

UNDERIVED = 1e-4
"""Where neither a caller nor the benchmark names a significance."""
HANG_SIGNIFICANCE = 1e-6
"""Five of five beyond the critical limit have 3e-7 at p95; a limit far from where one works needs no derived level."""
MIN_STUCK = 5
"""So many requests beyond the critical limit at once are a hang, however few have been answered."""
OVER = "beyond the limit in the long window, no longer in the newest seconds"


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    CRITICAL = "critical"
    INSUFFICIENT = "insufficient"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its evidence. ``limit``: the one that was broken, else the target; ``confidence`` 0 to 1.

    ``value`` is in the benchmark's unit, None where nothing was measured.
    """

    verdict: Verdict
    value: float | None
    limit: float
    samples: int
    confidence: float
    test: str
    note: str = ""

    @property
    def broken(self) -> bool:
        return self.verdict in (Verdict.MISSED, Verdict.CRITICAL)

    @property
    def level(self) -> Literal["target", "critical"]:
        return "critical" if self.verdict is Verdict.CRITICAL else "target"


def invalid(benchmark: Benchmark, note: str) -> Judgement:
    """A window that says nothing of the target because of the generator."""
    return Judgement(Verdict.INVALID, None, benchmark.target, 0, 0.0, "none", note)


def judge(
    benchmark: Benchmark,
    sample: Sample,
    *,
    min_samples: int | None = None,
    significance: float | None = None,
    lasting: bool = False,
    valued: bool = True,
) -> Judgement:
    """Verdict of a sample. ``min_samples`` and ``significance`` override the benchmark's (recovery, whole runs).

    ``lasting``: one bad second, or one reading, breaks nothing; what is left without the worst must be beyond the
    limit too. Unless ``valued``, the percentile of what breaks nothing is left out: it costs more than all the rest.
    """
    least = benchmark.min_samples if min_samples is None else min_samples
    alpha = significance or benchmark.significance or UNDERIVED
    match sample:
        case Latencies():
            judgement = _judge_latencies(benchmark, sample, least, alpha, lasting=lasting)
            return _with_value(benchmark, judgement, sample) if valued or judgement.broken else judgement
        case Failures():
            return _judge_failures(benchmark, sample, least, alpha, lasting=lasting)
        case Completions():
            return _judge_completions(benchmark, sample, alpha)
        case Readings():
            return _judge_readings(benchmark, sample, least, alpha, lasting=lasting)


def judge_both(
    benchmark: Benchmark,
    long: Sample,
    shorts: Sequence[Sample],
    *,
    short_least: int,
    significance: float,
    valued: bool = True,
) -> tuple[Judgement, int]:
    """Verdict of a long window and of short ones that end with it; and whose it is, 0 for the long one's.

    Any of them breaks a limit at the significance: the shorter, the sooner it sees a large excess; the long one sees
    a small excess. What the long one says must still last in the first short one, or it is over and breaks nothing.
    A few readings of a resource are too few to break anything: their means are not yet normal.
    """
    said = judge(benchmark, long, significance=significance, lasting=True, valued=valued)
    if not shorts:
        return said, 0
    if isinstance(shorts[0], Readings):
        return (_still(benchmark, said, _mean(shorts[0].values)) if said.broken else said), 0
    brief = partial(judge, benchmark, min_samples=short_least, significance=significance, lasting=True)
    newer = [brief(short, valued=valued or said.broken) for short in shorts]
    said = _still(benchmark, said, newer[0].value)
    for number, one in enumerate(newer, 1):
        if one.broken and (not said.broken or one.verdict is Verdict.CRITICAL is not said.verdict):
            return one, number
    return said, 0


def _still(benchmark: Benchmark, said: Judgement, newest: float | None) -> Judgement:
    """What is left of a verdict where the newest seconds have this value."""
    if said.verdict is Verdict.CRITICAL and not _beyond(benchmark, newest, benchmark.critical):
        said = replace(said, verdict=Verdict.MISSED, limit=benchmark.target)
    if said.broken and not _beyond(benchmark, newest, benchmark.target):
        return replace(said, verdict=Verdict.INSUFFICIENT, limit=benchmark.target, note=OVER)
    return said


def judge_hang(benchmark: Benchmark, recent: Latencies) -> Judgement | None:
    """A breach from requests that have waited beyond the critical limit, or None.

    ``recent`` holds the answers of the last seconds only: what was good before a hang does not outweigh it.
    """
    stuck = recent.stuck.above(benchmark.critical * 1e3)
    if stuck < MIN_STUCK:
        return None
    judgement = judge(benchmark, recent, min_samples=1, significance=HANG_SIGNIFICANCE, valued=False)
    if judgement.verdict is not Verdict.CRITICAL:
        return None
    return replace(judgement, note=f"{stuck} requests unanswered beyond {benchmark.critical:g} {benchmark.unit}")


def _with_value(benchmark: Benchmark, judgement: Judgement, sample: Latencies) -> Judgement:
    """The judgement with its percentile, where that is what it is of."""
    q = QUANTILES.get(benchmark.statistic)
    return judgement if q is None else replace(judgement, value=sample.percentile_ms(q, benchmark.target * 1e3))


def _judge_latencies(benchmark: Benchmark, sample: Latencies, least: int, alpha: float, *, lasting: bool) -> Judgement:
    q = QUANTILES.get(benchmark.statistic)
    if q is None:
        if sample.count < max(2, least):
            value = sample.sum_us / sample.count / 1e3 if sample.count else None
            return _too_few(benchmark, value, sample.count, least, "student")
        mean, variance = sample.mean_and_variance_ms()
        odds = [student(mean, variance, sample.count, limit) for limit in benchmark.limits]
        return _decide(benchmark, mean, sample.count, odds, alpha, "student")
    counted = [sample.counted(limit * 1e3) for limit in benchmark.limits]
    if counted[0].count < least:
        return _too_few(benchmark, None, counted[0].count, least, "binomial")
    odds = [_binomial(one, 1 - q, lasting=lasting) for one in counted]
    return _decide(benchmark, None, counted[0].count, odds, alpha, "binomial")


def _judge_failures(benchmark: Benchmark, sample: Failures, least: int, alpha: float, *, lasting: bool) -> Judgement:
    value = sample.failed / sample.count if sample.count else None
    if sample.count < least:
        return _too_few(benchmark, value, sample.count, least, "binomial")
    odds = [_binomial(sample.counted, share, lasting=lasting) for share in (benchmark.target, benchmark.critical)]
    return _decide(benchmark, value, sample.count, odds, alpha, "binomial")


def _binomial(counted: Counted, share: float, *, lasting: bool) -> Odds:
    odds = binomial(counted.above, counted.count, share)
    return replace(odds, worse=1.0) if lasting and not counted.lasts(share) else odds


def _judge_completions(benchmark: Benchmark, sample: Completions, alpha: float) -> Judgement:
    if sample.seconds <= 0:
        return _too_few(benchmark, None, 0, 1, "poisson")
    value = sample.count / sample.seconds
    if value < benchmark.target and sample.offered_per_s < benchmark.target:
        return _not_asked(benchmark, value, sample.count, sample.offered_per_s, "poisson")
    odds = [poisson(sample.count, limit * sample.seconds) for limit in benchmark.limits]
    if value >= benchmark.target:
        return Judgement(Verdict.MET, value, benchmark.target, sample.count, 1 - odds[0].better, "poisson")
    return _decide(benchmark, value, sample.count, odds, alpha, "poisson")


def _judge_readings(benchmark: Benchmark, sample: Readings, least: int, alpha: float, *, lasting: bool) -> Judgement:
    count = len(sample.values)
    if count == 0:
        return _too_few(benchmark, None, 0, least, "student")
    mean = math.fsum(sample.values) / count
    if count < max(2, least):
        return _too_few(benchmark, mean, count, least, "student")
    if (
        benchmark.demand_limited
        and mean < benchmark.target
        and (sample.offered is None or sample.offered < benchmark.target)
    ):
        return _not_asked(benchmark, mean, count, sample.offered, "student")
    odds = _readings_odds(benchmark, sample, mean, live=lasting)
    return _decide(benchmark, mean, count, odds, alpha, "student")


def _readings_odds(benchmark: Benchmark, sample: Readings, mean: float, *, live: bool) -> list[Odds]:
    """Student's t with what neighbours have in common, against target and critical.

    ``live``: of a few readings, at a high significance. Then a mean beyond its target is judged by logarithms, which
    tame the long tail that readings have above: theirs lies beyond that of a limit only where the plain mean does
    too. And without the worst reading the rest must lie beyond the limit as well.
    """
    side = -1.0 if benchmark.better == "higher" else 1.0
    logs = live and side > 0 and mean > benchmark.target > 0
    least = benchmark.target / 100

    def scaled(values: Sequence[float]) -> list[float]:
        return [math.log(max(value, least)) if logs else side * value for value in values]

    values, scatter = scaled(sample.values), scatter_of(scaled(sample.history or sample.values))
    every = []
    for limit in scaled(benchmark.limits):
        odds = scattered(math.fsum(values) / len(values), len(values), limit, scatter)
        over = math.fsum(values) - len(values) * limit
        single = live and over <= max(values) - limit
        every.append(Odds(1.0 if single else odds.worse, 1.0 if logs else odds.better))
    return every


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _beyond(benchmark: Benchmark, value: float | None, limit: float) -> bool:
    if value is None:
        return False
    return value < limit if benchmark.better == "higher" else value > limit


def _decide(
    benchmark: Benchmark, value: float | None, samples: int, odds: list[Odds], alpha: float, test: str
) -> Judgement:
    at_target, at_critical = odds
    if at_critical.worse < alpha:
        return Judgement(Verdict.CRITICAL, value, benchmark.critical, samples, 1 - at_critical.worse, test)
    if at_target.worse < alpha:
        return Judgement(Verdict.MISSED, value, benchmark.target, samples, 1 - at_target.worse, test)
    if at_target.better <= CONFIRM_P:
        return Judgement(Verdict.MET, value, benchmark.target, samples, 1 - at_target.better, test)
    confidence = 1 - min(at_target.worse, at_target.better)
    note = "too close to the target for so few samples: neither kept nor broken with confidence"
    return Judgement(Verdict.INSUFFICIENT, value, benchmark.target, samples, confidence, test, note)


def _too_few(benchmark: Benchmark, value: float | None, samples: int, least: int, test: str) -> Judgement:
    note = "nothing was measured" if samples == 0 else f"{samples} samples, {least} needed"
    return Judgement(Verdict.INSUFFICIENT, value, benchmark.target, samples, 0.0, test, note)


def _not_asked(benchmark: Benchmark, value: float, samples: int, offered: float | None, test: str) -> Judgement:
    asked = "an unknown load" if offered is None else f"{offered:.1f} {benchmark.unit}"
    note = f"judged only while the load offered reaches {benchmark.target:g} {benchmark.unit}; offered: {asked}"
    return Judgement(Verdict.INSUFFICIENT, value, benchmark.target, samples, 0.0, test, note)
