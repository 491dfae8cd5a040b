"""What is expected of a change and what came of it: whether it took effect, and whether it helped, by the driving
metric over a window after it against the window before. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from services.scaler.decision import Case, Decision
from services.scaler.situation import Change, Observation, Verdict
from services.scaler.sizing import CAUSE as SIZING
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import BREACH_METRICS, RULE_METRICS, ServiceRules, Shape
from shared.contracts.scaling_tuning import Effectiveness

REQUEST_RATE = "request_rate_total"
"""Requests/s over all instances, in ``before`` and ``after``."""

ERROR_RATE = "error_rate"
"""Share of failed requests of the service's system, in ``before`` and ``after``."""

HALF = 0.5
"""Share of the expected fall of a load from which it has come."""

LOAD_GONE = 0.5
"""Share of the load before below which a better latency proves nothing."""


HEARD_WITHIN_S = 2.0
"""A target that does not want the count so long after it was told was never told, or told otherwise since."""

MEASURED_WITHIN_S = 1.0
"""Samples and windows of a second arrive within this."""

BEFORE_S = 5.0
"""Longest span before a decision that counts as "before": a load that has just come would be averaged away."""

LAST_PART = 1 / 3
"""Share of the measurement after a change that is its end: a backlog from before is worked off by then, or shrinks."""


def finished(change: Change, seen: Observation | None, now_s: float, tuning: Effectiveness) -> tuple[bool, str] | None:
    """Whether a change without result has one now: (ok, error), or None while it is under way."""
    age_s = now_s - change.at_s
    if seen is not None and seen.desired == change.target:
        enough = seen.ready >= change.target if change.action is Action.SCALE_UP else seen.ready <= change.target
        if enough and not seen.updating:
            return True, ""
    elif seen is not None and age_s > HEARD_WITHIN_S:
        return False, f"the target wants {seen.desired} replicas, not {change.target}: it was never told, or overruled"
    if age_s > tuning.ready_within:
        words = (
            "the target cannot be observed" if seen is None else f"{seen.ready} of {change.target} replicas are ready"
        )
        return False, f"{words} after {tuning.ready_within:g} s"
    return None


def measurable(change: Change, now_s: float, tuning: Effectiveness) -> tuple[float, float] | None:
    """The span to measure a successful change over once it lies in the past; None before."""
    if change.done_s is None:
        return None
    begin_s, end_s = window_of(tuning, change.done_s)
    return (begin_s, end_s) if now_s >= end_s + MEASURED_WITHIN_S else None


def span_before(now_s: float, tuning: Effectiveness) -> tuple[float, float]:
    """Begin and end of the measurement before a change that is decided now."""
    return now_s - min(BEFORE_S, tuning.window), now_s


def window_of(tuning: Effectiveness, done_s: float) -> tuple[float, float]:
    """Begin and end of the measurement after a change that took effect at ``done_s``."""
    return done_s + tuning.settle, done_s + tuning.settle + tuning.window


def latency_limits(rules: ServiceRules) -> dict[str, float]:
    """The limit of every latency that the rules to scale up name."""
    return {rule.metric: rule.above for rule in rules.up if RULE_METRICS[rule.metric].shape is Shape.LATENCY}


def expected_after(case: Case, decision: Decision) -> dict[str, float]:
    """What a change is reckoned to make of its metrics at the load of now: load is shared by more or fewer replicas,
    u · n / n′; a latency or a queue comes within its limit."""
    if decision.target == decision.current:
        return {}
    if decision.reverses:
        return _held_to(case, decision)
    share = case.seen.ready / decision.target
    if decision.action is Action.SCALE_DOWN:
        loads = {
            rule.metric: case.facts.readings[rule.metric].value
            for rule in case.rules.up
            if RULE_METRICS[rule.metric].shape is Shape.LOAD and rule.metric in case.facts.readings
        }
        return {name: round(value * share, 6) for name, value in loads.items() if value is not None}
    asked = (one for one in case.asks if one.drives and (one.cause, one.limit) == (decision.cause, decision.limit))
    ask = next(asked, None)
    if ask is None or ask.candidate.value is None:
        return {}
    if ask.cause == SIZING:  # of all replicas together
        return {SIZING: round(ask.candidate.value / decision.target, 6)}
    return {ask.cause: round(ask.candidate.value * share, 6) if ask.shape is Shape.LOAD else ask.limit}


def _held_to(case: Case, decision: Decision) -> dict[str, float]:
    """What must still hold once a scale-up for a latency is undone: its limit."""
    undone = next((one for one in case.memory.changes if one.decision == decision.reverses), None)
    if decision.action is not Action.SCALE_DOWN or undone is None or undone.limit is None:
        return {}
    return {undone.cause: undone.limit} if _is_latency(undone.cause) else {}


def _is_latency(metric: str) -> bool:
    shape = RULE_METRICS[metric].shape if metric in RULE_METRICS else BREACH_METRICS.get(metric)
    return shape is Shape.LATENCY


class Effect(NamedTuple):
    """Verdict, one sentence, and what was measured over the whole span and, where that was looked at, its end.
    ``falling``: what is worse is on its way down."""

    verdict: Verdict
    reason: str
    after: dict[str, float]
    at_end: dict[str, float]
    falling: bool = False


def effect_of(
    change: Change,
    measured: Callable[[float, float], dict[str, float]],
    now_s: float,
    tuning: Effectiveness,
    latency_limits: dict[str, float],
) -> Effect | None:
    """What came of a successful change, as soon as it can be told; None before. ``measured``: metrics between two
    moments. Where something is worse and still falling, the span that follows tells."""
    if change.done_s is None:
        return None
    begin_s, end_s = window_of(tuning, change.done_s)
    found = None
    for later_s in (0.0, tuning.window):
        if now_s < end_s + later_s + MEASURED_WITHIN_S:
            return None
        after = measured(begin_s + later_s, end_s + later_s)
        at_end = measured(end_s + later_s - tuning.window * LAST_PART, end_s + later_s)
        found = judge(change, after, at_end, tuning, latency_limits)
        if not found.falling:
            break
    return found


def judge(
    change: Change,
    after: dict[str, float],
    at_end: dict[str, float],
    tuning: Effectiveness,
    latency_limits: dict[str, float],
) -> Effect:
    """The verdict by one span. ``after``, ``at_end``: measured over all of it, and over its last third; what is missing
    there is as it was over all. ``latency_limits``: what the service's rules allow each latency.

    A scale-up helped when its metric came within its limit, or fell by half of what was expected of it (a load), or by
    ``min_change`` (a latency or a queue, which at saturation is no measure of what still lacks). Where it did not and
    the load rose by ``min_change``, or where most of the load went away, or where less was expected than can be told
    apart, nothing can be said. A latency past its own limit that rose by ``min_change``, or a share of failed requests
    that grew by ``max_errors``, outweighs any other metric: requests per replica always fall when replicas are added,
    and one that fails at once is quick.
    A scale-down is meant to change nothing: ``no_effect`` is its good outcome, ``worse`` when a latency rose by
    ``min_change`` past its limit, where it has one, or errors did.

    The end counts where it is better: requests that piled up before the change are answered after it, late, and say
    nothing of it. Of a latency that is still falling at the end nobody knows yet.
    """
    verdict, words = _judge(change, after, tuning, latency_limits)
    if verdict not in ("worse", "no_effect"):
        return Effect(verdict, words, after, {})
    at_end = after | at_end
    later, words_then = _judge(change, at_end, tuning, latency_limits)
    if later == "helped" or (verdict == "worse" and later == "no_effect"):
        return Effect(later, f"{words_then}, at the end", after, at_end)
    if verdict == "worse" and _falls(change, after, at_end, tuning, latency_limits):
        return Effect("unknown", f"{words_then}, and was still falling", after, at_end, falling=True)
    return Effect(verdict, words, after, at_end)


def _falls(
    change: Change, after: dict[str, float], at_end: dict[str, float], tuning: Effectiveness, limits: dict[str, float]
) -> bool:
    """Whether whatever is worse at the end is on its way down, while requests keep coming and do not fail."""
    gone = at_end.get(REQUEST_RATE, 0.0) < change.before.get(REQUEST_RATE, 0.0) * LOAD_GONE
    if change.action is Action.SCALE_DOWN or gone or _errors_rose(change, at_end, tuning):
        return False
    worse = set(_slower(change, at_end, tuning, limits))
    if at_end[change.cause] > change.before[change.cause] * (1 + tuning.min_change):
        worse.add(change.cause)
    return all(at_end[name] < after.get(name, 0.0) * (1 - tuning.min_change) for name in worse)


def _judge(
    change: Change, after: dict[str, float], tuning: Effectiveness, latency_limits: dict[str, float]
) -> tuple[Verdict, str]:
    """By one span."""
    if change.action is Action.SCALE_DOWN:
        return _judge_down(change, after, tuning, latency_limits)
    before_value, after_value = change.before.get(change.cause), after.get(change.cause)
    if before_value is None or after_value is None:
        return "unknown", f"{change.cause or 'the cause'} was not measured on both sides"
    expected = change.expected.get(change.cause)
    words = f"{change.cause} went from {before_value:g} to {after_value:g}"
    words += "" if expected is None else f", {expected:g} was expected"
    before_rate, after_rate = change.before.get(REQUEST_RATE, 0.0), after.get(REQUEST_RATE, 0.0)
    with_load = f"{words} while requests/s went from {before_rate:g} to {after_rate:g}"
    if after_rate < before_rate * LOAD_GONE:
        return "unknown", with_load
    slower = [f"{name} to {after[name]:g}" for name in _slower(change, after, tuning, latency_limits)]
    harm = _errors_rose(change, after, tuning) or next(iter(slower), "")
    load = min(1.0, after_rate / before_rate) if before_rate else 1.0
    fall = _least_fall(change, before_value, tuning)
    fell = fall is not None and after_value <= before_value * load * (1 - fall)
    within = change.limit is not None and after_value <= change.limit < before_value
    if (fell or within) and not harm:
        return "helped", words
    if before_rate and after_rate > before_rate * (1 + tuning.min_change):
        return "unknown", with_load
    if harm:
        return "worse", f"{words}, but {harm}"
    if after_value > before_value * (1 + tuning.min_change):
        return "worse", words
    return ("unknown", f"{words}: too little to tell") if fall is None else ("no_effect", words)


def _least_fall(change: Change, before: float, tuning: Effectiveness) -> float | None:
    """The relative fall from which the metric is said to have fallen; None where too little was expected to tell."""
    expected = change.expected.get(change.cause)
    if expected is None or expected == change.limit or not before:
        return tuning.min_change
    promised = 1 - expected / before
    return HALF * promised if promised >= tuning.min_change else None


def _slower(change: Change, after: dict[str, float], tuning: Effectiveness, limits: dict[str, float]) -> list[str]:
    """The latencies past their limits that rose."""
    least = {
        name: max(limit, change.before.get(name, limit) * (1 + tuning.min_change)) for name, limit in limits.items()
    }
    return [name for name in limits if after.get(name, 0.0) > least[name]]


def _errors_rose(change: Change, after: dict[str, float], tuning: Effectiveness) -> str:
    before_rate, after_rate = change.before.get(ERROR_RATE), after.get(ERROR_RATE)
    if before_rate is None or after_rate is None or after_rate - before_rate <= tuning.max_errors:
        return ""
    return f"{ERROR_RATE} from {before_rate:.1%} to {after_rate:.1%}"


def _judge_down(
    change: Change, after: dict[str, float], tuning: Effectiveness, limits: dict[str, float]
) -> tuple[Verdict, str]:
    """Fewer replicas may be a little slower: where a latency has a limit, only what is past it counts. What undoes a
    scale-up for a latency is held to the limit of that."""
    if errors := _errors_rose(change, after, tuning):
        return "worse", errors
    limits = limits | {name: limit for name, limit in change.expected.items() if _is_latency(name)}
    both = [name for name in after if name in change.before]
    times = [name for name in both if name in limits] or [name for name in both if name.startswith("p95_ms")]
    if not times:
        return "unknown", "no latency was measured on both sides"
    for name in times:
        if after[name] > max(change.before[name] * (1 + tuning.min_change), limits.get(name, 0.0)):
            return "worse", f"{name} went from {change.before[name]:g} to {after[name]:g}"
    return "no_effect", "no latency rose past its limit, as intended"
