"""What a search for the breaking point has to keep: the benchmarks a run touches, and its scenarios' own targets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from services.validator.board import concerns
from shared.contracts.benchmarks import QUANTILES, Benchmark, Benchmarks, Source
from shared.contracts.run import RunDesired
from shared.contracts.scenario import Gate, Scenario
from shared.contracts.timing import Kind


@dataclass(frozen=True, slots=True)
class Limit:
    """One metric with its limits. ``systems``: whose windows hold it; empty ``scenarios`` or ``actions``: all."""

    system: str
    metric: str
    source: Source
    statistic: str
    unit: str
    target: float
    critical: float
    systems: tuple[str, ...]
    actions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    resource: str = ""
    instances: str = "mean"
    higher_better: bool = False

    @property
    def kind(self) -> Kind:
        return Kind.WORKFLOW if self.source is Source.WORKFLOW_TIME else Kind.REQUEST

    @property
    def allowed(self) -> float | None:
        """Share that may lie beyond the limit of a percentile; None for what is no share."""
        q = QUANTILES.get(self.statistic)
        return None if q is None else 1 - q


_SOURCES = {
    "workflow_execution_time": Source.WORKFLOW_TIME,
    "response_time": Source.RESPONSE_TIME,
    "error_rate": Source.ERROR_RATE,
    "throughput": Source.THROUGHPUT,
}


def limits_of(benchmarks: Benchmarks, desired: RunDesired) -> tuple[Limit, ...]:
    return (*_of_benchmarks(benchmarks, desired), *_of_scenarios(desired))


def left_out(benchmarks: Benchmarks, desired: RunDesired) -> tuple[tuple[str, str], ...]:
    """System and metric of what the run concerns and a step cannot be judged by: spans are a sample, too small for its
    seconds. Where readings tell the same, these are judged."""
    told = _concerned(benchmarks, desired)
    return tuple((system, one.metric) for system, one in told if one.source is Source.SPAN)


def _of_benchmarks(benchmarks: Benchmarks, desired: RunDesired) -> Iterator[Limit]:
    for system, benchmark in _concerned(benchmarks, desired):
        if benchmark.source is not Source.SPAN:
            yield _of_benchmark(system, benchmark)


def _concerned(benchmarks: Benchmarks, desired: RunDesired) -> Iterator[tuple[str, Benchmark]]:
    for system, owner in benchmarks.systems.items():
        for benchmark in owner.benchmarks:
            if concerns(benchmarks, desired, system, benchmark):
                yield system, benchmark.in_readings or benchmark


def _of_benchmark(system: str, benchmark: Benchmark) -> Limit:
    return Limit(
        system,
        benchmark.metric,
        benchmark.source,
        benchmark.statistic,
        benchmark.unit,
        benchmark.target,
        benchmark.critical,
        (system,),
        benchmark.actions,
        benchmark.scenarios,
        resource=benchmark.resource,
        instances=benchmark.instances,
        higher_better=benchmark.better == "higher",
    )


def _of_scenarios(desired: RunDesired) -> Iterator[Limit]:
    for scenario in (load.scenario for load in desired.loads):
        for gate in scenario.targets:
            if gate.confirmable:
                yield _of_gate(scenario, gate)


def _of_gate(scenario: Scenario, gate: Gate) -> Limit:
    """A scenario's own target has no second limit: beyond it is missed, never critical."""
    source = _SOURCES[gate.metric]
    higher = source is Source.THROUGHPUT
    workflow = source is Source.WORKFLOW_TIME
    return Limit(
        scenario.system,
        f"{scenario.name} {gate.metric}",
        source,
        "rate" if source in (Source.THROUGHPUT, Source.ERROR_RATE) else gate.statistic,
        gate.unit,
        gate.limit,
        -math.inf if higher else math.inf,
        (scenario.system,) if workflow else tuple(sorted(scenario.systems)),
        (gate.action,) if gate.action and not workflow else (),
        (scenario.name,),
        higher_better=higher,
    )
