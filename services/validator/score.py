"""Scores from 0 to 100: how far between its critical limit (0) and its target (100) a benchmark's value lies."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.validator.verdict import Verdict
from shared.contracts.benchmarks import Benchmark


@dataclass(frozen=True, slots=True)
class Scored:
    """A weighted mean over what could be judged. ``score`` is None, never 100, where nothing could."""

    score: float | None
    judged: int
    total: int

    @property
    def coverage(self) -> float:
        return self.judged / self.total if self.total else 0.0


def score_of(benchmark: Benchmark, value: float) -> float:
    """100 · clamp((critical − value) / (critical − target)), for either direction of better."""
    share = (benchmark.critical - value) / (benchmark.critical - benchmark.target)
    return 100.0 * min(1.0, max(0.0, share))


def counts(verdict: Verdict) -> bool:
    """Insufficient and invalid measurements leave the denominator."""
    return verdict in (Verdict.MET, Verdict.MISSED, Verdict.CRITICAL)


def combine(parts: Iterable[tuple[float, float | None]]) -> Scored:
    """Weighted mean of (weight, score) where a score of None was not judged."""
    listed = list(parts)
    judged = [(weight, score) for weight, score in listed if score is not None]
    if not judged:
        return Scored(None, 0, len(listed))
    whole = sum(weight for weight, _ in judged)
    return Scored(sum(weight * score for weight, score in judged) / whole, len(judged), len(listed))
