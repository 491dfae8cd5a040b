"""Which steps of a run kept a benchmark and which broke it, so that advice can tell the one from the other. Pure.

By its value alone, step by step: whether the benchmark is broken at all has been judged before, by a test.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.validator.facts import Facts
from shared.contracts.benchmarks import Benchmark, Source
from shared.contracts.timing import Kind
from shared.store.figures import Step

_NEAREST = {"p50": "response_p50_ms", "p99": "response_p99_ms", "p999": "response_p99_ms"}
"""Of what a step knows; p95 stands for every other statistic."""


@dataclass(frozen=True, slots=True)
class Course:
    """Beginnings (Unix epoch, s) of the steps of ``step_s`` seconds that kept a benchmark, and that broke it."""

    step_s: int
    kept: frozenset[int]
    broken: frozenset[int]

    @property
    def has_both(self) -> bool:
        return bool(self.kept and self.broken)

    def share_broken(self, start_us: int, end_us: int) -> float | None:
        """Of the known steps that a stretch of time touches, the share that broke it; None where none is known."""
        first, last = (at_us // 1_000_000 // self.step_s * self.step_s for at_us in (start_us, end_us))
        touched = range(first, last + 1, self.step_s)
        broken = sum(step in self.broken for step in touched)
        known = broken + sum(step in self.kept for step in touched)
        return broken / known if known else None


def follow(facts: Facts, system: str, benchmark: Benchmark) -> Course:
    """The course of one benchmark of one system from the end of ramp-up to the end of the run."""
    span = facts.span
    kept, broken = set[int](), set[int]()
    for second, value in _values(facts, system, benchmark):
        if span.judged_from.timestamp() - facts.step_s < second < span.ended.timestamp():
            good = value <= benchmark.target if benchmark.better == "lower" else value >= benchmark.target
            (kept if good else broken).add(second)
    return Course(facts.step_s, frozenset(kept), frozenset(broken))


def _values(facts: Facts, system: str, benchmark: Benchmark) -> Iterator[tuple[int, float]]:
    if not benchmark.source.of_requests:
        for row in facts.resources:
            if row["system"] == system and row["metric"] == benchmark.resource:
                yield row["second"], float(row[benchmark.instances])
        return
    kind = Kind.WORKFLOW if benchmark.source is Source.WORKFLOW_TIME else Kind.REQUEST
    for step in facts.timeline:
        if step.system == system and step.kind == kind:
            yield step.second, _value(step, benchmark, facts.step_s)


def _value(step: Step, benchmark: Benchmark, step_s: int) -> float:
    if benchmark.source is Source.ERROR_RATE:
        return step.failed / step.count
    if benchmark.source is Source.THROUGHPUT:
        return step.count / step_s
    return float(getattr(step, _NEAREST.get(benchmark.statistic, "response_p95_ms")))
