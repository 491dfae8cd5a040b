"""The report of a run as plain JSON, from facts and benchmarks alone: the same facts always give the same report.

The shape is DESIGN's "Surfaces that stay put"; fields are added, never renamed. Rendering belongs to its readers.
"""

from collections.abc import Iterable
from typing import Any

from services.validator.comparison import Compared, GateResult, compare, judge_gates
from services.validator.facts import Facts
from services.validator.report_advice import list_recommendations
from services.validator.report_parts import generator_health, list_results, list_scaling, list_workflows, run_section
from services.validator.report_tests import list_distributions, list_tests
from services.validator.report_timeline import timeline
from services.validator.report_traces import list_hop_sections, list_slowest
from services.validator.score import Scored, combine
from services.validator.stress_report import answer_of, judge_search, stress_section
from services.validator.verdict import Verdict
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.run import Phase

Json = dict[str, Any]
EXIT_MET, EXIT_MISSED, EXIT_UNMEASURED, EXIT_NOT_CARRIED = 0, 1, 3, 4


def build_report(benchmarks: Benchmarks, facts: Facts) -> Json:
    """Everything a reader needs to know of one run."""
    compared, gates = compare(benchmarks, facts), list(judge_gates(benchmarks, facts))
    scores = score_systems(benchmarks, compared)
    overall = combine((benchmarks.systems[system].weight, scored.score) for system, scored in scores.items())
    results = list_results(facts)
    recommendations = list_recommendations(benchmarks, facts, compared, gates)
    missing = sum(row["missing"] for row in results)
    verdict, exit_code = _decide_search(facts, missing) or decide(facts.state.phase, compared, gates, missing)
    # A search breaks benchmarks on purpose: that is its answer, and no issue.
    issues = ([], []) if facts.desired.search else (compared, gates)
    return {
        "run": run_section(facts),
        "verdict": verdict,
        "exit_code": exit_code,
        "stopped": facts.state.phase is Phase.STOPPED,
        "overall_score": _round(overall.score),
        "coverage": _round(sum(s.judged for s in scores.values()) / max(1, len(compared)), 3),
        "system_scores": {system: _scored(scored) for system, scored in scores.items()},
        "critical_issues": list_critical_issues(facts, *issues, results),
        "stress": stress_section(benchmarks, facts),
        "recommendations": [advice["text"] for advice in recommendations],
        "recommendation_details": recommendations,
        "benchmark_comparison": [_comparison(item) for item in compared],
        "gates": [_gate(item) for item in gates],
        "tests": list_tests(facts, gates),
        "workflows": list_workflows(facts),
        "results": results,
        "distributions": list_distributions(facts),
        "hops": list_hop_sections(benchmarks, facts, compared),
        "slowest_traces": list_slowest(facts.hops),
        "generator_health": generator_health(facts),
        "breaches": [breach.model_dump(mode="json") for breach in facts.breaches],
        "scaling": list_scaling(facts),
        "timeline": timeline(benchmarks, facts),
    }


def decide(
    phase: Phase, compared: Iterable[Compared], gates: Iterable[GateResult], missing: int = 0
) -> tuple[str, int]:
    """Verdict of a run and the exit code that follows; a benchmark missed outweighs one that could not be measured.

    ``missing``: requests that were sent and are not in the store; with any, what is there confirms nothing.
    """
    compared, gates = list(compared), list(gates)
    if phase is Phase.FAILED:
        return Verdict.INVALID.value, EXIT_NOT_CARRIED
    if any(item.judgement.broken for item in compared) or any(gate.verdict is Verdict.MISSED for gate in gates):
        return Verdict.MISSED.value, EXIT_MISSED
    required = [item.judgement.verdict for item in compared if item.benchmark.required]
    required += [gate.verdict for gate in gates]
    if missing or Verdict.INVALID in required:
        return Verdict.INVALID.value, EXIT_UNMEASURED
    met = any(item.judgement.verdict is Verdict.MET for item in compared) or Verdict.MET in required
    if Verdict.INSUFFICIENT in required or not met:
        return Verdict.INSUFFICIENT.value, EXIT_UNMEASURED
    return Verdict.MET.value, EXIT_MET


def _decide_search(facts: Facts, missing: int) -> tuple[str, int] | None:
    """As ``decide``, for a run that was to find its breaking point: beyond it benchmarks are broken on purpose."""
    search, answer = facts.desired.search, answer_of(facts.desired, facts.state)
    if search is None or answer is None:
        return None
    verdict = judge_search(search, answer, facts.state.phase, missing)
    codes = {Verdict.MET: EXIT_MET, Verdict.MISSED: EXIT_MISSED}
    code = EXIT_NOT_CARRIED if facts.state.phase is Phase.FAILED else codes.get(verdict, EXIT_UNMEASURED)
    return verdict.value, code


def score_systems(benchmarks: Benchmarks, compared: Iterable[Compared]) -> dict[str, Scored]:
    """Score of every system the run touches."""
    parts: dict[str, list[tuple[float, float | None]]] = {}
    for item in compared:
        parts.setdefault(item.system, []).append((item.benchmark.weight, item.score))
    return {system: combine(parts[system]) for system in benchmarks.systems if system in parts}


def list_critical_issues(
    facts: Facts, compared: Iterable[Compared], gates: Iterable[GateResult], results: Iterable[Json]
) -> list[str]:
    """What cannot wait, each in one sentence."""
    issues = []
    if facts.state.phase is Phase.FAILED:
        issues.append(f"The run could not be carried through: {facts.state.reason or 'no reason was given'}")
    for item in compared:
        b, judgement = item.benchmark, item.judgement
        if judgement.verdict is Verdict.CRITICAL:
            issues.append(
                f"{item.owner.name} {b.metric} {b.statistic} is {judgement.value:.4g} {b.unit}, "
                f"critical beyond {b.critical:g}"
            )
    for gate in gates:
        if gate.verdict is Verdict.MISSED:
            g = gate.gate
            issues.append(
                f"{gate.scenario} {g.metric} {g.statistic} is {gate.actual:.4g} {g.unit}, its target is {g.limit:g}"
            )
    missing = sum(row["missing"] for row in results)
    if missing:
        issues.append(f"{missing} requests were sent and are not in the store")
    issues.extend(
        f"Worker {lost.worker} was lost with at most {lost.held_requests} requests unrecorded"
        for lost in facts.state.lost
    )
    gone = facts.state.gone
    if gone.lost:
        issues.append(f"{gone.lost} more workers were lost with at most {gone.held_requests} requests unrecorded")
    issues.extend(
        f"The generator was at fault: what it measured of {system} says nothing of it"
        for system in facts.observed.health
        if facts.at_fault(system)
    )
    return issues


def _comparison(item: Compared) -> Json:
    b, judgement = item.benchmark, item.judgement
    deviation = None
    if judgement.value is not None and b.target:
        deviation = (judgement.value - b.target) / b.target
    return {
        "system": item.system,
        "service": item.owner.service,
        "metric": b.metric,
        "statistic": b.statistic,
        "unit": b.unit,
        "better": b.better,
        "target": b.target,
        "critical": b.critical,
        "actual": _round(judgement.value, 6),
        "deviation": _round(deviation, 4),
        "verdict": judgement.verdict.value,
        "passed": judgement.verdict is Verdict.MET,
        "required": b.required,
        "samples": judgement.samples,
        "confidence": _round(judgement.confidence, 6),
        "test": judgement.test,
        "score": _round(item.score),
        "recommendation": item.advice[0].text if item.advice else "",
        "note": judgement.note,
    }


def _gate(item: GateResult) -> Json:
    gate = item.gate
    deviation = None if item.actual is None or not gate.limit else (item.actual - gate.limit) / gate.limit
    return {
        "scenario": item.scenario,
        "action": gate.action or "",
        "metric": gate.metric,
        "statistic": gate.statistic,
        "unit": gate.unit,
        "target": gate.limit,
        "actual": _round(item.actual, 6),
        "deviation": _round(deviation, 4),
        "verdict": item.verdict.value,
        "passed": item.verdict is Verdict.MET,
        "samples": item.samples,
        "recommendation": item.advice[0].text if item.advice else "",
        "note": item.note,
    }


def _scored(scored: Scored) -> Json:
    return {
        "score": _round(scored.score),
        "coverage": round(scored.coverage, 3),
        "judged": scored.judged,
        "total": scored.total,
    }


def _round(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
