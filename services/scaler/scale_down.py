"""The half of the policy that removes replicas: all conditions, long enough, on complete data, projected. Pure."""

from itertools import takewhile

from services.scaler.candidates import load_metrics, needed_for_load
from services.scaler.decision import Case, Decision, clamp_steps
from services.scaler.history import condition_holds
from services.scaler.situation import Reading
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import DownRule


def scale_down(case: Case) -> Decision:
    """A scale-down when conditions, health and the past allow it; otherwise why not."""
    rule, seen = case.rules.down, case.seen
    if (rule is None and case.rules.sizing is None) or seen.desired <= case.rules.min:
        return case.hold("steady", "nothing asks for more, and fewer are not allowed")
    if held := _demand_unknown(case) or (_not_idle(case, rule) if rule else None):
        return held
    if any(breach.system == case.rules.system for breach in case.facts.breaches):
        return case.hold("breach_elsewhere", "a breach of this system is open, so none is removed")
    idle_s = 0.0 if case.memory.idle_since_s is None else case.now_s - case.memory.idle_since_s
    if rule and idle_s < rule.idle_for:
        return case.hold("steady", "idle, but not yet for long enough")
    if seen.unhealthy or seen.starting or seen.ready < seen.desired:
        return case.hold("not_all_ready", f"{seen.ready} of {seen.desired} replicas are ready, so none is removed")
    return _stabilizing(case) or _warned(case, rule) or _remove(case, idle_s)


def _demand_unknown(case: Case) -> Decision | None:
    """Where the load itself says how many are needed, none goes while that is not known or has just risen."""
    demand = case.facts.demand
    if case.rules.sizing is None:
        return None
    if demand is None or demand.missing:
        return case.hold("metrics_missing", "what is offered is not known from every replica, so none is removed")
    if demand.panic_ago_s is not None:
        return case.hold("panic", f"the load came suddenly {demand.panic_ago_s:.0f} s ago, so none is removed")
    return None


def _not_idle(case: Case, rule: DownRule) -> Decision | None:
    readings = case.facts.readings
    named = dict.fromkeys([*(one.metric for one in rule.all_of), *load_metrics(case.rules)])
    lacking = [metric for metric in named if not readings.get(metric, Reading()).complete]
    if not all(condition_holds(one, readings) for one in rule.all_of if one.metric not in lacking):
        return case.hold("steady", "nothing asks for more, and the load is not low enough for fewer")
    if lacking:
        words = f"{', '.join(lacking)}: not read from every replica, so none is removed"
        return case.hold("metrics_missing", words)
    return None


def _stabilizing(case: Case) -> Decision | None:
    span_s, memory = case.rules.tuning.stabilization.down, case.memory
    watched_s = 0.0 if memory.watched_since_s is None else case.now_s - memory.watched_since_s
    if watched_s < span_s:
        return case.hold("stabilizing", f"not yet watched for the stabilization window of {span_s:g} s")
    ups = [one.at_s for one in memory.changes if one.action is Action.SCALE_UP and not one.dry_run]
    if ups and case.now_s - ups[-1] < span_s:
        return case.hold("stabilizing", f"a scale-up is less than {span_s:g} s ago")
    return None


def _warned(case: Case, rule: DownRule | None) -> Decision | None:
    """Thresholds that call a service idle which then is too small are trusted less each time: twice as long from one
    attempt to the next, as often as the last ones were worse."""
    if rule is None or case.rules.sizing is not None:
        return None
    downs = [one for one in reversed(case.memory.changes) if one.cause == "idle" and not one.dry_run]
    worse = list(takewhile(lambda one: one.verdict == "worse", downs))
    if not worse:
        return None
    wait_s = max(rule.idle_for, case.rules.tuning.stabilization.down) * 2 ** len(worse)
    since_s = case.now_s - worse[0].at_s
    if since_s >= wait_s:
        return None
    words = (
        f"fewer made it worse {len(worse)} times in a row, the last {since_s:.0f} s ago: not again within {wait_s:g} s"
    )
    return case.hold("stabilizing", words)


def _remove(case: Case, idle_s: float) -> Decision:
    seen, rules = case.seen, case.rules
    needed = needed_for_load(rules, case.facts)
    stable = max(needed, case.memory.highest_wanted)
    target, clamps = clamp_steps(
        needed, (("stabilize_down", stable), ("limits", min(max(stable, rules.min), rules.max)))
    )
    if target >= seen.desired:
        return case.hold("projected_overload", f"fewer than {seen.desired} could not carry the load", clamps)
    if rules.down is None and target > seen.desired * (1 - rules.tuning.tolerance):
        return case.hold("steady", f"{target} of {seen.desired} would do, which is within the tolerance", clamps)
    if cooling := case.cooling():
        return cooling
    span_s = idle_s if rules.down else rules.tuning.stabilization.down
    words = f"idle for {span_s:.0f} s: {target} of {seen.desired} replicas carry the load below their limits"
    return Decision(Action.SCALE_DOWN, seen.desired, target, "idle", words, clamps=clamps, cause="idle")
