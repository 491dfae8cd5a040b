"""What came of a change: whether it took effect, and whether it helped, by the driving metric over a window after it
against the window before. Pure."""

from services.scaler.situation import Change, Observation, Verdict
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import RULE_METRICS, Effectiveness, ServiceRules, Shape

REQUEST_RATE = "request_rate_total"
"""Requests/s over all instances, in ``before`` and ``after``."""

LOAD_GONE = 0.5
"""Share of the load before below which a better latency proves nothing."""


HEARD_WITHIN_S = 2.0
"""A target that does not want the count so long after it was told was never told, or told otherwise since."""

MEASURED_WITHIN_S = 1.0
"""Samples and windows of a second arrive within this."""


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


def window_of(tuning: Effectiveness, done_s: float) -> tuple[float, float]:
    """Begin and end of the measurement after a change that took effect at ``done_s``."""
    return done_s + tuning.settle, done_s + tuning.settle + tuning.window


def latency_limits(rules: ServiceRules) -> dict[str, float]:
    """The limit of every latency that the rules to scale up name."""
    return {rule.metric: rule.above for rule in rules.up if RULE_METRICS[rule.metric].shape is Shape.LATENCY}


def judge(
    change: Change, after: dict[str, float], tuning: Effectiveness, latency_limits: dict[str, float]
) -> tuple[Verdict, str]:
    """Verdict and one sentence. ``latency_limits``: what the service's rules allow each latency.

    A scale-up helped when its metric fell by ``min_change`` or came within its limit. Where the metric did not fall but
    the load rose by as much, or where most of the load went away, nothing can be said. A latency past its own limit
    that rose by ``min_change`` outweighs any other metric: requests per replica always fall when replicas are added.
    A scale-down is meant to change nothing: ``no_effect`` is its good outcome, ``worse`` when a latency rose by
    ``min_change``.
    """
    if change.action is Action.SCALE_DOWN:
        return _judge_down(change, after, tuning)
    before_value, after_value = change.before.get(change.cause), after.get(change.cause)
    if before_value is None or after_value is None:
        return "unknown", f"{change.cause or 'the cause'} was not measured on both sides"
    words = f"{change.cause} went from {before_value:g} to {after_value:g}"
    before_rate, after_rate = change.before.get(REQUEST_RATE, 0.0), after.get(REQUEST_RATE, 0.0)
    with_load = f"{words} while requests/s went from {before_rate:g} to {after_rate:g}"
    if after_rate < before_rate * LOAD_GONE:
        return "unknown", with_load
    slower = [
        name
        for name, limit in latency_limits.items()
        if after.get(name, 0.0) > max(limit, change.before.get(name, limit) * (1 + tuning.min_change))
    ]
    fell = after_value <= before_value * (1 - tuning.min_change)
    within = change.limit is not None and after_value <= change.limit < before_value
    if (fell or within) and not slower:
        return "helped", words
    if before_rate and after_rate > before_rate * (1 + tuning.min_change):
        return "unknown", with_load
    if slower:
        return "worse", f"{words}, but {slower[0]} to {after[slower[0]]:g}"
    return ("worse" if after_value > before_value * (1 + tuning.min_change) else "no_effect"), words


def _judge_down(change: Change, after: dict[str, float], tuning: Effectiveness) -> tuple[Verdict, str]:
    times = [
        name for name in after if name in change.before and (name.startswith("p95_ms") or name == "routing_latency")
    ]
    if not times:
        return "unknown", "no latency was measured on both sides"
    for name in times:
        if after[name] > change.before[name] * (1 + tuning.min_change):
            return "worse", f"{name} went from {change.before[name]:g} to {after[name]:g}"
    return "no_effect", "no latency rose, as intended"
