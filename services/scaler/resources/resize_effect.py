"""Whether a resize did harm: the time after it against the time before. Pure.

Smaller replicas are meant to change nothing, so ``no_effect`` is their good outcome; larger ones are to be throttled
less or answer sooner.
"""

from services.scaler.effect import ERROR_RATE, LOAD_GONE, REQUEST_RATE, latency_limits
from services.scaler.resources.resize import shrinks
from services.scaler.situation import Change, Facts, Verdict
from shared.contracts.scaling_rules import Resizing, ServiceRules
from shared.contracts.scaling_tuning import Effectiveness

LEAST_RISE_MS = 1.0
"""Less than this is within what a p95 varies by anyway, however small the p95."""
MORE_THROTTLING = 0.05


def watch(rules: ServiceRules, resizing: Resizing) -> Effectiveness:
    """The times of a resize in the form of those of a move of replicas."""
    return rules.tuning.effectiveness.model_copy(update={"settle": resizing.settle, "window": resizing.window})


def judge_early(change: Change, rules: ServiceRules, facts: Facts, settle_s: float) -> tuple[Verdict, str] | None:
    """What need not wait for the window to end: replicas that fall over, or a breach that opened since."""
    seen = facts.observation
    if change.done_s is None or facts.now_s < change.done_s + settle_s:
        return None
    if seen is not None and (seen.restarting or seen.unhealthy):
        return "worse", f"{seen.restarting + seen.unhealthy} of {seen.desired} replicas are unhealthy since"
    opened = [
        one
        for one in facts.breaches
        if one.system == rules.system and one.breach not in change.breaches and one.judged_s > change.done_s
    ]
    if not opened:
        return None
    words = f"a breach of {opened[0].metric} has opened since ({opened[0].value:g}, limit {opened[0].limit:g})"
    return ("worse" if shrinks(change) else "unknown"), words


def judge_resize(change: Change, after: dict[str, float], rules: ServiceRules) -> tuple[Verdict, str]:
    """Verdict and one sentence from the measurements on both sides, by the latencies of the service's own system."""
    before, least = change.before, rules.tuning.effectiveness.min_change
    rate_before, rate_after = before.get(REQUEST_RATE, 0.0), after.get(REQUEST_RATE, 0.0)
    load = f"requests/s went from {rate_before:g} to {rate_after:g}"
    limits: dict[str, float | None] = {f"p95_ms.{rules.system}": None, **latency_limits(rules)}
    times = [name for name in limits if name in before and name in after]
    slower = [name for name in times if _rose(name, before, after) > _noise(before[name], limits[name], least)]
    if _rose(ERROR_RATE, before, after) > rules.tuning.effectiveness.max_errors:
        return "worse", _went(ERROR_RATE, before, after)
    if slower and rate_after > rate_before * (1 + least):
        return "unknown", f"{_went(slower[0], before, after)} while {load}"
    if slower:
        return "worse", _went(slower[0], before, after)
    if _rose("cpu_throttled", before, after) > MORE_THROTTLING:
        return "worse", _went("cpu_throttled", before, after)
    if not times:
        return "unknown", "no latency was measured on both sides"
    if rate_after < rate_before * LOAD_GONE:
        return "unknown", f"too little load is left to tell: {load}"
    if _rose("cpu_throttled", before, after) < -MORE_THROTTLING:
        return "helped", _went("cpu_throttled", before, after)
    faster = [name for name in times if -_rose(name, before, after) > _noise(before[name], limits[name], least)]
    if faster and rate_after >= rate_before * (1 - least):
        return "helped", _went(faster[0], before, after)
    return "no_effect", "neither latency nor errors nor throttling rose"


def _noise(before: float, limit: float | None, least: float) -> float:
    """The rise of a latency that says nothing yet: a share of what it was, and of the limit it has."""
    return max(before * least, LEAST_RISE_MS if limit is None else limit * least)


def _rose(name: str, before: dict[str, float], after: dict[str, float]) -> float:
    return after[name] - before[name] if name in before and name in after else 0.0


def _went(name: str, before: dict[str, float], after: dict[str, float]) -> str:
    return f"{name} went from {before[name]:g} to {after[name]:g}"
