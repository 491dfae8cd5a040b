"""Whether a change helped: the driving metric over a window after it took effect, against the window before. Pure."""

from services.scaler.situation import Change, Verdict
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import Effectiveness

REQUEST_RATE = "request_rate_total"
"""Requests/s over all instances, in ``before`` and ``after``."""

LOAD_GONE = 0.5
"""Share of the load before below which a better latency proves nothing."""


def window_of(tuning: Effectiveness, done_s: float) -> tuple[float, float]:
    """Begin and end of the measurement after a change that took effect at ``done_s``."""
    return done_s + tuning.settle, done_s + tuning.settle + tuning.window


def judge(change: Change, after: dict[str, float], tuning: Effectiveness) -> tuple[Verdict, str]:
    """Verdict and one sentence.

    A scale-up helped when its metric fell by ``min_change`` or came within its limit. Where the metric did not fall but
    the load rose by as much, or where most of the load went away, nothing can be said. A scale-down is meant to change
    nothing: ``no_effect`` is its good outcome, ``worse`` when a latency rose by ``min_change``.
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
    if change.limit is not None and after_value <= change.limit < before_value:
        return "helped", f"{words}, within {change.limit:g}"
    if after_value <= before_value * (1 - tuning.min_change):
        return "helped", words
    if before_rate and after_rate > before_rate * (1 + tuning.min_change):
        return "unknown", with_load
    if after_value > before_value * (1 + tuning.min_change):
        return "worse", words
    return "no_effect", words


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
