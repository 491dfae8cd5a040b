"""One benchmark held against one sample: met, missed, critical, insufficient or invalid, and by which test.

Neither a pass nor a breach is ever assumed: what confirms neither is ``insufficient``. Where samples come from and
what happens after a verdict (episodes, scores, reports) belongs to others.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from services.validator.samples import Completions, Failures, Latencies, Readings, Sample
from services.validator.significance import Odds, binomial, mean_and_variance, poisson, sign, student
from shared.contracts.benchmarks import CONFIRM_P, QUANTILES, Benchmark

UNDERIVED = 1e-6
"""Where neither a caller nor the benchmark names a significance."""
HANG_SIGNIFICANCE = 1e-6
"""Five of five beyond the critical limit have 3e-7 at p95; a limit far from where one works needs no derived level."""
MIN_STUCK = 5
"""So many requests beyond the critical limit at once are a hang, however few have been answered."""


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
) -> Judgement:
    """Verdict of a sample. ``min_samples`` and ``significance`` override the benchmark's (recovery, whole runs)."""
    least = benchmark.min_samples if min_samples is None else min_samples
    alpha = significance or benchmark.significance or UNDERIVED
    match sample:
        case Latencies():
            return _judge_latencies(benchmark, sample, least, alpha)
        case Failures():
            return _judge_failures(benchmark, sample, least, alpha)
        case Completions():
            return _judge_completions(benchmark, sample, alpha)
        case Readings():
            return _judge_readings(benchmark, sample, least, alpha)


def judge_hang(benchmark: Benchmark, recent: Latencies) -> Judgement | None:
    """A breach from requests that have waited beyond the critical limit, or None.

    ``recent`` holds the answers of the last seconds only: what was good before a hang does not outweigh it.
    """
    stuck = recent.stuck.above(benchmark.critical * 1e3)
    if stuck < MIN_STUCK:
        return None
    judgement = _judge_latencies(benchmark, recent, 1, HANG_SIGNIFICANCE)
    if judgement.verdict is not Verdict.CRITICAL:
        return None
    return replace(judgement, note=f"{stuck} requests unanswered beyond {benchmark.critical:g} {benchmark.unit}")


def _judge_latencies(benchmark: Benchmark, sample: Latencies, least: int, alpha: float) -> Judgement:
    q = QUANTILES.get(benchmark.statistic)
    if q is None:
        if sample.count < max(2, least):
            value = sample.sum_us / sample.count / 1e3 if sample.count else None
            return _too_few(benchmark, value, sample.count, least, "student")
        mean, variance = sample.mean_and_variance_ms()
        odds = [student(mean, variance, sample.count, limit) for limit in (benchmark.target, benchmark.critical)]
        return _decide(benchmark, mean, sample.count, odds, alpha, "student")
    counted = [sample.with_stuck(limit * 1e3) for limit in (benchmark.target, benchmark.critical)]
    value_us = counted[0].percentile_us(q)
    value = None if value_us is None else value_us / 1e3
    if counted[0].total < least:
        return _too_few(benchmark, value, counted[0].total, least, "binomial")
    odds = [
        binomial(whole.above(limit * 1e3), whole.total, 1 - q)
        for whole, limit in zip(counted, (benchmark.target, benchmark.critical), strict=True)
    ]
    return _decide(benchmark, value, counted[0].total, odds, alpha, "binomial")


def _judge_failures(benchmark: Benchmark, sample: Failures, least: int, alpha: float) -> Judgement:
    value = sample.failed / sample.count if sample.count else None
    if sample.count < least:
        return _too_few(benchmark, value, sample.count, least, "binomial")
    odds = [binomial(sample.failed, sample.count, share) for share in (benchmark.target, benchmark.critical)]
    return _decide(benchmark, value, sample.count, odds, alpha, "binomial")


def _judge_completions(benchmark: Benchmark, sample: Completions, alpha: float) -> Judgement:
    if sample.seconds <= 0:
        return _too_few(benchmark, None, 0, 1, "poisson")
    value = sample.count / sample.seconds
    if value < benchmark.target and sample.offered_per_s < benchmark.target:
        return _not_asked(benchmark, value, sample.count, sample.offered_per_s, "poisson")
    odds = [poisson(sample.count, limit * sample.seconds) for limit in (benchmark.target, benchmark.critical)]
    if value >= benchmark.target:
        return Judgement(Verdict.MET, value, benchmark.target, sample.count, 1 - odds[0].better, "poisson")
    return _decide(benchmark, value, sample.count, odds, alpha, "poisson")


def _judge_readings(benchmark: Benchmark, sample: Readings, least: int, alpha: float) -> Judgement:
    count = len(sample.values)
    if count == 0:
        return _too_few(benchmark, None, 0, least, "student")
    mean, variance = mean_and_variance(sample.values)
    if count < max(2, least):
        return _too_few(benchmark, mean, count, least, "student")
    limits = (benchmark.target, benchmark.critical)
    if benchmark.demand_limited:
        if mean < benchmark.target and (sample.offered is None or sample.offered < benchmark.target):
            return _not_asked(benchmark, mean, count, sample.offered, "student")
        # Higher is better: the same test, mirrored.
        odds = [student(-mean, variance, count, -limit) for limit in limits]
        return _decide(benchmark, mean, count, odds, alpha, "student")
    odds = [student(mean, variance, count, limit) for limit in limits]
    if 2 * 0.5 ** len(sample.each) >= alpha:
        return _decide(benchmark, mean, count, odds, alpha, "student")
    # Enough readings for a test that needs no variance: an overload that still grows has a large one. Either may
    # break the limit, so each has half of the significance.
    signs = [sign(sample.each, limit) if mean > limit else 1.0 for limit in limits]
    either = [replace(one, worse=min(1.0, 2 * min(one.worse, p))) for one, p in zip(odds, signs, strict=True)]
    return _decide(benchmark, mean, count, either, alpha, "sign" if signs[0] < odds[0].worse else "student")


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
