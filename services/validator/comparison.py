"""A whole run against every benchmark it touches, and against the targets of its own scenarios."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from services.validator.board import concerns
from services.validator.facts import Facts, TotalAfter
from services.validator.hops import SlowestHop, find_slowest
from services.validator.measuring import kind_of
from services.validator.recommendation import Evidence, recommend
from services.validator.samples import Completions, Failures, Latencies, Readings, Sample
from services.validator.score import counts, score_of
from services.validator.verdict import Judgement, Verdict, invalid, judge
from shared.contracts.benchmarks import QUANTILES, Benchmark, Benchmarks, Source, SystemBenchmarks, samples_to_confirm
from shared.contracts.scenario import Gate, Scenario
from shared.contracts.timing import Kind

RUN_SIGNIFICANCE = 0.01
"""One judgement a run, not thousands a day: the usual level instead of the windows'."""
LEAST_READINGS = 5
GENERATOR = "the generator was at fault for more than 5 % of the run"


@dataclass(frozen=True, slots=True)
class Compared:
    """One benchmark over a whole run. ``score`` is None where it could not be judged."""

    system: str
    owner: SystemBenchmarks
    benchmark: Benchmark
    judgement: Judgement
    score: float | None
    recommendation: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """One target of a scenario's own; judged by its value alone, as the one who wrote it said."""

    scenario: str
    gate: Gate
    verdict: Verdict
    actual: float | None
    samples: int
    note: str = ""


def compare(benchmarks: Benchmarks, facts: Facts) -> list[Compared]:
    """Every benchmark of every system the run touches."""
    results = []
    for system, owner in benchmarks.systems.items():
        for benchmark in owner.benchmarks:
            if not concerns(benchmarks, facts.desired, system, benchmark):
                continue
            judgement = _judge(facts, system, benchmark)
            judged = counts(judgement.verdict) and judgement.value is not None
            results.append(
                Compared(
                    system=system,
                    owner=owner,
                    benchmark=benchmark,
                    judgement=judgement,
                    score=score_of(benchmark, judgement.value or 0.0) if judged else None,
                    recommendation=_recommend(facts, system, owner, benchmark, judgement) if judgement.broken else "",
                )
            )
    return results


def judge_gates(facts: Facts) -> Iterator[GateResult]:
    """The targets of the run's scenarios."""
    for load in facts.desired.loads:
        for gate in load.scenario.targets:
            yield _judge_gate(facts, load.scenario, gate)


def _judge(facts: Facts, system: str, benchmark: Benchmark) -> Judgement:
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
    total = facts.total_after(
        kind_of(benchmark), system=system, scenarios=benchmark.scenarios, actions=benchmark.actions
    )
    if benchmark.source is Source.ERROR_RATE:
        return Failures(total.count, total.failed)
    if benchmark.source is Source.THROUGHPUT:
        seconds = facts.span.judged_s
        return Completions(total.count, seconds, max(_offered(facts, system), total.count / seconds if seconds else 0))
    return Latencies(total.response, total.sum_us)


def _offered(facts: Facts, system: str) -> float:
    """Requests a second that the open loads asked of a system; a closed load never asks for more than is answered."""
    return sum(
        load.rate * sum(step.system == system for step in load.scenario.steps)
        for load in facts.desired.loads
        if load.rate is not None
    )


def _concurrency(facts: Facts, system: str) -> float:
    """Mean requests in flight against a system, by Little's law over what the generator saw."""
    seconds = facts.span.judged_s
    return facts.total_after(Kind.REQUEST, system=system).sum_us / 1e6 / seconds if seconds else 0.0


def _recommend(facts: Facts, system: str, owner: SystemBenchmarks, benchmark: Benchmark, judgement: Judgement) -> str:
    resources = {}
    for metric in ("cpu_usage", "queue_length"):
        values = facts.readings(system, metric, "mean")
        if values:
            resources[metric] = sum(values) / len(values)
    errors: Counter[int] = Counter()
    slow: dict[str, float] = {}
    for series in facts.series:
        if series.system != system or series.kind is not Kind.REQUEST:
            continue
        if not benchmark.chooses(series.scenario, series.action):
            continue
        errors.update(series.errors)
        slow[series.action] = max(slow.get(series.action, 0.0), series.response.percentiles.get("p95", 0.0))
    timed = benchmark.source is Source.RESPONSE_TIME and bool(slow)
    slowest = max(slow, key=lambda action: slow[action], default="")
    return recommend(
        Evidence(
            display=owner.name,
            service=owner.service,
            benchmark=benchmark,
            value=judgement.value or 0.0,
            limit=judgement.limit,
            resources=resources,
            errors=dict(errors),
            slowest_action=slowest if timed else "",
            slowest_ms=slow[slowest] if timed else 0.0,
            hop=_slowest_hop(facts, system) if benchmark.source is Source.WORKFLOW_TIME else None,
        )
    )


def _slowest_hop(facts: Facts, system: str) -> SlowestHop | None:
    """Over the drawn calls of all scenarios whose workflows are measured at a system's door."""
    scenarios = {load.scenario.name for load in facts.desired.loads if load.scenario.system == system}
    return find_slowest(call for hops in facts.hops if hops.scenario in scenarios for call in hops.drawn)


def _judge_gate(facts: Facts, of: Scenario, gate: Gate) -> GateResult:
    scenario = of.name
    kind = Kind.WORKFLOW if gate.metric == "workflow_execution_time" else Kind.REQUEST
    actions = (gate.action,) if gate.action and kind is Kind.REQUEST else ()
    total = facts.total_after(kind, scenarios=(scenario,), actions=actions)
    if any(facts.at_fault(system) for system in of.systems):
        return GateResult(scenario, gate, Verdict.INVALID, None, total.count, GENERATOR)
    actual = _gate_value(facts, gate, total)
    if actual is None:
        return GateResult(scenario, gate, Verdict.INSUFFICIENT, None, 0, "nothing was measured")
    kept = actual >= gate.limit if gate.metric == "throughput" else actual <= gate.limit
    return GateResult(scenario, gate, Verdict.MET if kept else Verdict.MISSED, actual, total.count)


def _gate_value(facts: Facts, gate: Gate, total: TotalAfter) -> float | None:
    if total.count == 0:
        return None
    if gate.metric == "error_rate":
        return total.failed / total.count
    if gate.metric == "throughput":
        return total.count / facts.span.judged_s if facts.span.judged_s else None
    q = QUANTILES.get(gate.statistic)
    value_us = total.sum_us / total.count if q is None else total.response.percentile_us(q)
    return None if value_us is None else value_us / 1e3
