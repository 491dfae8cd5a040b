"""The section of a report that tells of a search for the breaking point, and the verdict that follows from it. Pure."""

from collections.abc import Iterable
from typing import Any

from services.validator.facts import Facts
from services.validator.stress_limits import left_out
from services.validator.stress_search import conclude
from services.validator.verdict import Verdict
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.breach import Breach
from shared.contracts.run import Phase, RunDesired, RunState
from shared.contracts.stress import StressAnswer, StressSearch

Json = dict[str, Any]
SPANS_ALONE = "spans are too few for the seconds of a step, and it names no resource whose readings tell the same"


def answer_of(desired: RunDesired, state: RunState) -> StressAnswer | None:
    """The answer of a run's search, or what is known of it where the run ended before; None without a search."""
    if desired.search is None:
        return None
    if desired.search.answer is not None:
        return desired.search.answer
    return conclude(desired.search, f"the run ended first ({state.reason or state.phase.value})")


def stress_section(benchmarks: Benchmarks, facts: Facts) -> Json | None:
    """The search with its steps and its answer, the benchmarks that no step was judged by, and which services were
    scaled while it went on; None without one."""
    search, answer = facts.desired.search, answer_of(facts.desired, facts.state)
    if search is None or answer is None:
        return None
    scaled = sorted({record["service"] for record in facts.scaling if _moved(record)})
    told = search.model_copy(update={"answer": answer}).model_dump(mode="json")
    unused = [
        {"system": system, "metric": metric, "reason": SPANS_ALONE}
        for system, metric in left_out(benchmarks, facts.desired)
    ]
    return {**told, "left_out": unused, "scaled": scaled, "tags": dict(facts.desired.tags)}


def judge_search(search: StressSearch, answer: StressAnswer, phase: Phase, missing: int) -> Verdict:
    """Finding the point is what was asked for, and met; with a load required, holding it is.

    A level that was confirmed holds what is required, whether or not the point itself was found.
    """
    if phase is Phase.FAILED or missing:
        return Verdict.INVALID
    if search.require is not None:
        held = max(answer.highest_met or 0.0, answer.low or 0.0 if answer.found else 0.0)
        if held >= search.require:
            return Verdict.MET
        if answer.found and answer.high is not None and answer.high < search.require:
            return Verdict.MISSED
        return Verdict.INSUFFICIENT
    if answer.found:
        return Verdict.MET
    return Verdict.INVALID if search.steps and search.steps[-1].verdict == "invalid" else Verdict.INSUFFICIENT


def with_breach(search: StressSearch, breaches: Iterable[Breach]) -> StressSearch:
    """The search whose answer names the breach that told of what broke first, where there was one."""
    answer = search.answer
    if answer is None or answer.broke is None:
        return search
    margin = answer.broke.margin
    told = [one for one in breaches if (one.system, one.metric) == (margin.system, margin.metric)]
    if not told:
        return search
    first = min(told, key=lambda breach: breach.opened_at)
    broke = answer.broke.model_copy(update={"breach": first.breach, "slowest_hop": first.slowest_hop})
    return search.model_copy(update={"answer": answer.model_copy(update={"broke": broke})})


def _moved(record: Any) -> bool:
    return record["kind"] == "decision" and record.get("action") in ("scale_up", "scale_down")
