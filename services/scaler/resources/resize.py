"""Whether an order to give replicas other sizes may begin now, and what takes it back. Pure.

```
order   not allowed here · expired · planned from other sizes · beyond limits     over, nothing is changed
waits   unobserved · paused · stopped · updating · a change under way or just made · not all ready
        · a breach is open · over budget · another service is being resized       until it expires
goes    all sizes of the order in one update of the service
back    it failed, or its effect was worse                                        the sizes before, once
```
A resize is a change like a move of replicas: while it has no result and no measured effect nothing else is changed, and
the other way round.
"""

from dataclasses import dataclass, field

from services.scaler.orders import HeardOrder
from services.scaler.resources.bounds import NAMES, over, refusal, same, told
from services.scaler.situation import Change, Facts, Memory, Observation, Sizes, undecided
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.scaling_rules import Resizing, ServiceRules

TOLD_WITHIN_S = 2.0
"""An engine takes a moment until it tells of the update that it has just been given."""


@dataclass(frozen=True, slots=True)
class Resize:
    """``sizes``: all that a replica is to have, None where nothing is changed. ``over``: this ends the order."""

    code: str
    reason: str
    sizes: Sizes | None = None
    over: bool = False
    reverses: str = ""


@dataclass(frozen=True, slots=True)
class ResizeCase:
    """What is known when sizes are decided. ``sizes``: of one replica, None where the target does not answer.
    ``elsewhere``: why another service comes first, empty where none does. ``before``: the measurements."""

    facts: Facts
    memory: Memory
    sizes: Sizes | None
    heard: HeardOrder | None = None
    elsewhere: str = ""
    before: dict[str, float] = field(default_factory=dict)


def decide_resize(rules: ServiceRules, case: ResizeCase) -> Resize | None:
    """What is taken back, or becomes of the order that is next; None where there is neither."""
    back = take_back(case.memory, case.sizes)
    if back is not None or case.heard is None:
        return back
    order = case.heard.order
    ended = _ended(rules, case.facts, order, case.sizes)
    if ended is not None:
        return ended
    held = _held(rules, case, order)
    if held is not None:
        return held
    items = ", ".join(order.items)
    words = f"{order.by} asked for {items} of plan {order.plan}: {told(order.sizes or Sizes())} per replica"
    return Resize("ordered", words, over(case.sizes or Sizes(), order.sizes or Sizes()), over=True)


def _ended(rules: ServiceRules, facts: Facts, order: ScalingOrder, sizes: Sizes | None) -> Resize | None:
    """The order that is never carried out."""
    resizing, wanted = rules.resizing, order.sizes or Sizes()
    if resizing is None or not resizing.enabled:
        return Resize("not_allowed", f"services.{facts.service}.resizing does not allow it", over=True)
    if order.expires_at is None or order.expires_at.timestamp() <= facts.now_s:
        return Resize("expired", "it could not begin in the time it was given", over=True)
    if sizes is None:
        return None
    if same(sizes, wanted):
        return Resize("already", "the replicas have these sizes", over=True)
    if order.from_sizes is not None and not same(sizes, order.from_sizes):
        words = f"it was planned from {told(order.from_sizes)}; there are {told(sizes)}"
        return Resize("changed_since", words, over=True)
    if words := no_way_back(sizes, wanted):
        return Resize("no_way_back", words, over=True)
    if words := refusal(wanted, sizes, resizing):
        return Resize("beyond_limits", words, over=True)
    return None


def _held(rules: ServiceRules, case: ResizeCase, order: ScalingOrder) -> Resize | None:
    """Why the order must wait."""
    facts, memory, sizes, elsewhere = case.facts, case.memory, case.sizes, case.elsewhere
    seen = facts.observation
    if seen is None or sizes is None:
        return Resize("unobserved", f"the target cannot be observed: {facts.unobserved or 'it told no sizes'}")
    if memory.order is not None and memory.order.replicas is None:
        return Resize("paused", f"the service is paused by {memory.order.by}: {memory.order.reason}")
    if seen.desired == 0:
        return Resize("stopped", "the service is at 0 replicas")
    if seen.updating:
        return Resize("updating", "the service is being updated")
    pending = undecided(memory.changes)
    if pending is not None:
        return Resize("awaiting_effect", f"{pending.decision} has no result or no measured effect yet")
    moved = [change.at_s for change in memory.changes if not change.dry_run]
    if moved and facts.now_s - moved[-1] < rules.tuning.cooldown:
        return Resize("cooldown", f"the last change is less than {rules.tuning.cooldown:g} s ago")
    if not _all_ready(seen):
        return Resize("not_all_ready", f"{seen.ready} of {seen.desired} replicas are ready")
    if breach := next((one for one in facts.breaches if one.system == rules.system), None):
        return Resize("breach_open", f"a breach of {breach.metric} is open, so nothing could be told of the effect")
    if words := _over_budget(facts, order.sizes or Sizes()):
        return Resize("budget", words)
    if elsewhere:
        return Resize("one_at_a_time", elsewhere)
    return None


def _over_budget(facts: Facts, wanted: Sizes) -> str:
    """Which bound of the budget over all services these sizes would exceed, in words; empty where none."""
    if facts.shares is None:
        return ""
    given = {"cpu_cores": wanted.cpu_limit, "memory": wanted.memory_limit}
    for name, bound in facts.shares.bounds.items():
        size = given.get(name)
        held = next((one for one in facts.shares.holdings if one.service == facts.service), None)
        if size is None or held is None or size <= (getattr(held, name) or 0.0):
            continue
        others = [one for one in facts.shares.holdings if one is not held]
        total = held.replicas * size + sum(one.replicas * (getattr(one, name) or 0.0) for one in others)
        if total > bound:
            return f"{total:g} of {name} would be held by all services, the budget is {bound:g}"
    return ""


def no_way_back(now: Sizes, wanted: Sizes) -> str:
    """A first limit cannot be taken back by an order that knows none; empty where all can."""
    first = [name for name in NAMES if getattr(wanted, name) is not None and getattr(now, name) is None]
    return (
        f"{', '.join(first)}: there is none so far, so it could not be taken back; set a first one by hand"
        if first
        else ""
    )


def to_be_taken_back(memory: Memory) -> Change | None:
    """The latest change where that is a resize which failed or was worse. What takes back is not taken back."""
    change = next((one for one in reversed(memory.changes) if not one.dry_run), None)
    if change is None or change.to_sizes is None or change.from_sizes is None or change.reverses:
        return None
    return change if change.ok is False or change.verdict == "worse" else None


def take_back(memory: Memory, sizes: Sizes | None) -> Resize | None:
    """What undoes the latest change, None where nothing is to do. Sizes that are not told are asked for all the same:
    what is there already does not change."""
    change = to_be_taken_back(memory)
    if change is None:
        return None
    before = change.from_sizes or Sizes()
    if sizes is not None and same(sizes, before):
        return None
    what = "failed" if change.ok is False else "made it worse"
    return Resize("rollback", f"{change.decision} {what}: back to {told(before)}", before, True, change.decision)


def shrinks(change: Change) -> bool:
    """Whether a resize takes anything away."""
    before, after = change.from_sizes or Sizes(), change.to_sizes or Sizes()
    return any(
        (value := getattr(after, name)) is not None and value < (getattr(before, name) or 0.0)
        for name in ("cpu_limit", "memory_limit")
    )


def _all_ready(seen: Observation) -> bool:
    return seen.ready >= seen.desired and not seen.unhealthy and not seen.starting


def finished(
    change: Change, seen: Observation | None, sizes: Sizes | None, now_s: float, resizing: Resizing
) -> str | None:
    """The error of a resize that has come to its end, empty where it took effect; None while it is under way."""
    wanted = change.to_sizes or Sizes()
    age_s = now_s - change.at_s
    if seen is not None and sizes is not None and age_s > TOLD_WITHIN_S:
        if same(sizes, wanted) and not seen.updating and _all_ready(seen):
            return ""
        if seen.restarting and same(sizes, wanted):
            return f"{seen.restarting} replicas keep ending with these sizes"
    if age_s > resizing.ready_within:
        words = (
            "the target cannot be observed" if seen is None else f"{seen.ready} of {seen.desired} replicas are ready"
        )
        return f"{words} after {resizing.ready_within:g} s"
    return None


def unheard(change: Change, seen: Observation | None, sizes: Sizes | None) -> bool:
    """Whether a target that answers does not have the sizes of a change under way: it is to be asked again."""
    return seen is not None and sizes is not None and not seen.updating and not same(sizes, change.to_sizes or Sizes())
