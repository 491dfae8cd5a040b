"""The recommendations of a report: for each broken benchmark or target the weightiest advice, with what supports it."""

from collections.abc import Iterable, Iterator
from typing import Any

from services.validator.comparison import Compared, GateResult
from services.validator.evidence import Advice
from services.validator.facts import Facts
from services.validator.run_rules import generator_at_fault, generator_near_limit, memory_growing, throughput_plateau
from shared.contracts.benchmarks import Benchmarks

Json = dict[str, Any]


def list_recommendations(
    benchmarks: Benchmarks, facts: Facts, compared: Iterable[Compared], gates: Iterable[GateResult]
) -> list[Json]:
    """Each advice once, in the order of weight: a generator that spoiled the run, what was broken (the worst score
    first), then what the run shows as a whole."""
    listed = [
        *_about_run(generator_at_fault(facts)),
        *_about_benchmarks(compared),
        *_about_gates(gates),
        *_about_run(throughput_plateau(facts)),
        *(
            _detail([advice], system=system, service=benchmarks.systems[system].service, metric="memory_usage")
            for system, advice in memory_growing(benchmarks, facts)
        ),
        *_about_run(generator_near_limit(facts)),
    ]
    return list({detail["text"]: detail for detail in reversed(listed)}.values())[::-1]


def _about_run(advice: Advice | None) -> Iterator[Json]:
    if advice is not None:
        yield _detail([advice])


def _about_benchmarks(compared: Iterable[Compared]) -> Iterator[Json]:
    for item in sorted((item for item in compared if item.advice), key=lambda item: item.score or 0.0):
        yield _detail(item.advice, system=item.system, service=item.owner.service, metric=item.benchmark.metric)


def _about_gates(gates: Iterable[GateResult]) -> Iterator[Json]:
    for item in gates:
        if item.advice:
            yield _detail(item.advice, scenario=item.scenario, metric=item.gate.metric)


def _detail(
    advice: Iterable[Advice], *, system: str = "", service: str = "", scenario: str = "", metric: str = ""
) -> Json:
    first, *others = advice
    about = {"system": system, "service": service, "scenario": scenario, "metric": metric}
    supported = [{"rule": other.rule, "text": other.text, "evidence": dict(other.figures)} for other in others]
    named = {"rule": first.rule, "text": first.text, "evidence": dict(first.figures)}
    return {**about, **named, "supported_by": supported}
