"""The decision: facts and memory in, one decision out, with everything that was weighed. Pure.

```
orders  paused · set to a count                                                   an operator's word comes first
gates   unobserved · stopped · updating · crash loop · unhealthy                  nothing moves
wait    for result and effect of the last change                                  only the load itself, and a breach of
                                                                                  another cause once settled, move up
limits  below min · above max                                                     back within, first
undo    the last change did not help, and the rules undo such                     never below what the load needs
up      any candidate that drives → maximum → stabilize → rate → clamp            never while ineffective
errors  more of them while nothing is busy                                        told, nothing moves
down    all conditions, long enough → projected → stabilize → clamp               never on missing data
guard   room on the nodes · budget over all services                              bounds whatever adds replicas
```
The order and its reasons stand in docs/decisions/0007-scaling.md and 0023-gates-guard-and-effect.md.
"""

import hashlib
from dataclasses import replace

from services.scaler.advice import errors_without_load, recommendation
from services.scaler.candidates import last_done_s, weigh
from services.scaler.decision import Case, Decision
from services.scaler.effect import expected_after
from services.scaler.gates import gate
from services.scaler.guard import guarded
from services.scaler.ordered import by_order
from services.scaler.rollback import roll_back
from services.scaler.scale_down import scale_down
from services.scaler.scale_up import scale_up
from services.scaler.situation import LATEST_S, Facts, Memory, undecided
from services.scaler.sizing import CAUSE as SIZING
from shared.contracts.scaling import Action, Clamp
from shared.contracts.scaling_rules import ServiceRules

VERSION = "4"


def policy_version(rules: ServiceRules) -> str:
    """Version of this code's way to decide, and a digest of the user's rules."""
    return f"{VERSION}:{hashlib.sha256(rules.model_dump_json().encode()).hexdigest()[:12]}"


def decide(rules: ServiceRules, facts: Facts, memory: Memory) -> Decision:
    """The decision for one service at ``facts.now_s``. Every situation has an answer; the same one each time."""
    if facts.observation is None:
        words = f"the target cannot be observed: {facts.unobserved or 'no answer yet'}"
        blind = Decision(Action.NO_ACTION, 0, 0, "unobserved", words, 0.0)
        return replace(blind, recommendation=recommendation(blind))
    asks = weigh(rules, facts, last_done_s(memory.changes))
    case = Case(rules, facts, memory, facts.observation, asks)
    decision = by_order(case) or guarded(case, gate(case) or _sized_anew(case) or _awaiting(case) or _weighed(case))
    breaches = [ask.breach for ask in asks if ask.breach]
    return replace(
        decision,
        expected=expected_after(case, decision),
        recommendation=recommendation(decision),
        candidates=tuple(ask.candidate for ask in asks),
        breaches=tuple(breach.breach for breach in breaches),
        runs=tuple(dict.fromkeys(breach.run for breach in breaches)),
    )


def _weighed(case: Case) -> Decision:
    return (
        _back_within_limits(case) or roll_back(case) or scale_up(case) or errors_without_load(case) or scale_down(case)
    )


def _sized_anew(case: Case) -> Decision | None:
    """More than was ordered last, without waiting for that: sizing reads the load, not how replicas answer to it."""
    pending = undecided(case.memory.changes)
    if pending is None or pending.to_sizes is not None:
        return None
    decision = scale_up(replace(case, asks=tuple(ask for ask in case.asks if ask.cause == SIZING)))
    return decision if decision is not None and decision.action is Action.SCALE_UP else None


def _awaiting(case: Case) -> Decision | None:
    """One change at a time, so that its effect can be told: only a breach of another cause does not wait.

    It must speak of the time after the change had settled; readings of ours that reach further back do not count.
    """
    pending = undecided(case.memory.changes)
    if pending is None:
        return None
    if pending.ok is None or pending.done_s is None:
        words = f"{pending.decision} has no result yet: {case.seen.ready} of {pending.target} replicas are ready"
        return case.hold("awaiting_ready", words)
    if pending.to_sizes is not None:
        return case.hold("awaiting_effect", f"the effect of {pending.decision}, a resize, is being measured")
    settled_s = pending.done_s + case.rules.tuning.effectiveness.settle
    urgent = [ask for ask in case.asks if ask.breach and ask.cause != pending.cause and ask.breach.judged_s > settled_s]
    if urgent and case.now_s >= settled_s + LATEST_S:
        decision = scale_up(replace(case, asks=tuple(urgent)))
        if decision is not None and decision.action is Action.SCALE_UP:
            return decision
    return case.hold("awaiting_effect", f"the effect of {pending.decision} is being measured")


def _back_within_limits(case: Case) -> Decision | None:
    """A count outside the limits, set by someone else, is brought back before anything is weighed."""
    desired, rules = case.seen.desired, case.rules
    target = min(max(desired, rules.min), rules.max)
    if target == desired:
        return None
    if cooling := case.cooling():
        return cooling
    clamps = (Clamp(name="limits", before=desired, after=target),)
    if target > desired:
        words = f"{desired} replicas are below the minimum of {rules.min}"
        return Decision(Action.SCALE_UP, desired, target, "below_min", words, clamps=clamps, cause="limits")
    words = f"{desired} replicas are above the maximum of {rules.max}"
    return Decision(Action.SCALE_DOWN, desired, target, "above_max", words, clamps=clamps, cause="limits")
