"""A whole run against every benchmark it touches, and against the targets of its own scenarios."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from services.validator.board import concerns
from services.validator.demand import completions
from services.validator.evidence import Advice
from services.validator.facts import Facts, TotalAfter
from services.validator.measuring import kind_of
from services.validator.recommendation import find_advice
from services.validator.run_evidence import Broken, gather_evidence
from services.validator.samples import Completions, Failures, Latencies, Readings, Sample, beyond
from services.validator.score import counts, score_of
from services.validator.verdict import Judgement, Verdict, invalid, judge
from shared.contracts.benchmarks import QUANTILES, Benchmark, Benchmarks, Source, SystemBenchmarks, samples_to_confirm
from shared.contracts.scenario import Gate, Scenario
from shared.contracts.timing import Kind
from shared.histogram import Histogram, value_us
from shared.store.spans import SpanTimes

RUN_SIGNIFICANCE = 0.01
"""One judgement a run, not thousands a day: the usual level instead of the windows'."""
LEAST_READINGS = 5
RESTED = "its schedule did not apply all through the run"
GENERATOR = "the generator was at fault for more than 5 % of the run"
_GATE_SOURCES = {
    "workflow_execution_time": Source.WORKFLOW_TIME,
    "response_time": Source.RESPONSE_TIME,
    "error_rate": Source.ERROR_RATE,
    "throughput": Source.THROUGHPUT,
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One benchmark over a whole run. ``score`` is None where it could not be judged; ``advice``: weightiest first."""

    system: str
    owner: SystemBenchmarks
    benchmark: Benchmark
    judgement: Judgement
    score: float | None
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True, slots=True)
class GateResult:
    """One target of a scenario's own; judged by its value alone, as the one who wrote it said. Too few samples to show
    it broken are no pass."""

    scenario: str
    gate: Gate
    verdict: Verdict
    actual: float | None
    samples: int
    note: str = ""
    advice: tuple[Advice, ...] = ()


def compare(benchmarks: Benchmarks, facts: Facts) -> list[Compared]:
    """Every benchmark of every system the run touches."""
    results = []
    for system, owner in benchmarks.systems.items():
        for written in owner.benchmarks:
            if not concerns(benchmarks, facts.desired, system, written):
                continue
            benchmark = _told_by(facts, system, written)
            judgement = _judge(facts, system, benchmark)
            judged = counts(judgement.verdict) and judgement.value is not None
            results.append(
                Compared(
                    system=system,
                    owner=owner,
                    benchmark=benchmark,
                    judgement=judgement,
                    score=score_of(benchmark, judgement.value or 0.0) if judged else None,
                    advice=_advise(benchmarks, facts, Broken(system, owner, benchmark, judgement)),
                )
            )
    return results


def judge_gates(benchmarks: Benchmarks, facts: Facts) -> Iterator[GateResult]:
    """The targets of the run's scenarios."""
    for load in facts.desired.loads:
        for gate in load.scenario.targets:
            result = _judge_gate(facts, load.scenario, gate)
            yield replace(result, advice=_advise_gate(benchmarks, facts, load.scenario, result))


def _advise(benchmarks: Benchmarks, facts: Facts, broken: Broken) -> tuple[Advice, ...]:
    return tuple(find_advice(gather_evidence(benchmarks, facts, broken))) if broken.judgement.broken else ()


def _advise_gate(benchmarks: Benchmarks, facts: Facts, of: Scenario, result: GateResult) -> tuple[Advice, ...]:
    """As of a benchmark of the system at whose door the gate is measured; of failures, of the one that failed most."""
    failed = Counter({one.system: one.failed for one in facts.series if one.scenario == of.name and one.failed})
    system = failed.most_common(1)[0][0] if result.gate.metric == "error_rate" and failed else of.system
    owner = benchmarks.systems.get(system)
    if owner is None or result.verdict is not Verdict.MISSED:
        return ()
    gate = result.gate
    # Without a critical limit it is no benchmark that could be written down, but the same evidence.
    benchmark = Benchmark.model_construct(
        metric=gate.metric,
        target=gate.limit,
        critical=gate.limit,
        unit=gate.unit,
        better="higher" if gate.metric == "throughput" else "lower",
        source=_GATE_SOURCES[gate.metric],
        statistic=gate.statistic,
        actions=(gate.action,) if gate.action else (),
    )
    judgement = Judgement(result.verdict, result.actual, gate.limit, result.samples, 0.0, "value")
    return _advise(benchmarks, facts, Broken(system, owner, benchmark, judgement))


def _told_by(facts: Facts, system: str, benchmark: Benchmark) -> Benchmark:
    """A benchmark on spans, or on readings of the same where there are none."""
    told = facts.spans.get((system, benchmark.span))
    return benchmark if told is not None and told.times else benchmark.in_readings or benchmark


def _judge(facts: Facts, system: str, benchmark: Benchmark) -> Judgement:
    if not benchmark.schedule.covers_all(facts.span.judged_from, facts.span.ended):
        return invalid(benchmark, RESTED)
    if benchmark.source.of_requests and facts.at_fault(system):
        return invalid(benchmark, GENERATOR)
    least = samples_to_confirm(benchmark.statistic) if benchmark.statistic in QUANTILES else 2
    if benchmark.source is Source.RESOURCE:
        least = LEAST_READINGS
    if benchmark.source is Source.ERROR_RATE:
        least = 1
    return judge(benchmark, _sample(facts, system, benchmark), min_samples=least, significance=RUN_SIGNIFICANCE)


def _sample(facts: Facts, system: str, benchmark: Benchmark) -> Sample:
    if benchmark.source is Source.RESOURCE:
        values = facts.readings(system, benchmark.resource, benchmark.instances)
        return Readings(values, _concurrency(facts, system) if benchmark.demand_limited else None)
    if benchmark.source is Source.SPAN:
        told = facts.spans.get((system, benchmark.span), SpanTimes({}, 0))
        return Latencies.of(Histogram(told.times), told.sum_us)
    if benchmark.source is Source.THROUGHPUT:
        return _completions(facts, system=system, scenarios=benchmark.scenarios, actions=benchmark.actions)
    total = facts.total_after(
        kind_of(benchmark), system=system, scenarios=benchmark.scenarios, actions=benchmark.actions
    )
    if benchmark.source is Source.ERROR_RATE:
        return Failures(total.count, total.failed)
    # What the end of the run cut off had already waited so long, and would have taken longer.
    return Latencies.of(total.response, total.sum_us, total.cancelled)


def _completions(
    facts: Facts, *, system: str = "", scenarios: Iterable[str] = (), actions: Iterable[str] = ()
) -> Completions:
    asked = facts.asked_after(system=system, scenarios=scenarios, actions=actions)
    return completions(asked, facts.desired.loads, facts.span.judged_s)


def _concurrency(facts: Facts, system: str) -> float:
    """Mean requests in flight against a system, by Little's law over what the generator saw."""
    seconds = facts.span.judged_s
    return facts.total_after(Kind.REQUEST, system=system).sum_us / 1e6 / seconds if seconds else 0.0


def _judge_gate(facts: Facts, of: Scenario, gate: Gate) -> GateResult:
    scenario = of.name
    kind = Kind.WORKFLOW if gate.metric == "workflow_execution_time" else Kind.REQUEST
    actions = (gate.action,) if gate.action and kind is Kind.REQUEST else ()
    total = facts.total_after(kind, scenarios=(scenario,), actions=actions)
    if any(facts.at_fault(system) for system in of.systems):
        return GateResult(scenario, gate, Verdict.INVALID, None, total.count, GENERATOR)
    if gate.metric == "throughput":
        done = _completions(facts, scenarios=(scenario,), actions=actions)
        actual = done.count / done.seconds if total.count and done.seconds else None
    else:
        actual = _gate_value(gate, total)
    if actual is None:
        return GateResult(scenario, gate, Verdict.INSUFFICIENT, None, 0, "nothing was measured")
    kept = actual >= gate.limit if gate.metric == "throughput" else actual <= gate.limit
    least = _least(gate)
    if kept and total.count < least:
        note = f"{total.count} samples; fewer than {least} could not show it broken"
        return GateResult(scenario, gate, Verdict.INSUFFICIENT, actual, total.count, note)
    return GateResult(scenario, gate, Verdict.MET if kept else Verdict.MISSED, actual, total.count)


def _least(gate: Gate) -> int:
    """Samples of which one alone could not decide: a share of 2 % takes fifty to be seen, a p95 twenty."""
    if gate.metric == "throughput":
        return 1
    if gate.metric == "error_rate":
        return math.ceil(1 / gate.limit - 1e-9) if gate.limit > 0 else 1
    q = QUANTILES.get(gate.statistic)
    return 2 if q is None else math.ceil(1 / (1 - q) - 1e-9)


def _gate_value(gate: Gate, total: TotalAfter) -> float | None:
    late = beyond(total.cancelled, gate.limit * 1e3) if gate.unit == "ms" else Histogram()
    if total.count + late.total == 0:
        return None
    if gate.metric == "error_rate":
        return total.failed / total.count
    # Those cut off beyond the limit count with what they had waited, which makes the value a lower bound.
    late_us = sum(count * value_us(bucket) for bucket, count in late.counts.items())
    q = QUANTILES.get(gate.statistic)
    if q is None:
        return (total.sum_us + late_us) / (total.count + late.total) / 1e3
    late.merge(total.response)
    value = late.percentile_us(q)
    return None if value is None else value / 1e3
