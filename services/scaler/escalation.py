"""When a loop that does not help ends and people are told, and when it may begin again. Pure.

```
scale-up ─▶ no_effect │ worse ─▶ again ─▶ no_effect │ worse ─▶ escalation: nothing more for this cause
                    └── on_…: escalate ──────────────────────▲        └─▶ resumed: episode over │ an operator's word
```
Both ends are records of the chain, so what is stopped survives a restart.
"""

from dataclasses import dataclass

from services.scaler.candidates import Ask
from services.scaler.situation import Change, Escalation, Facts, Memory, proved_needed
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ServiceRules
from shared.contracts.scaling_tuning import Effectiveness

INEFFECTIVE = frozenset({"no_effect", "worse"})


@dataclass(frozen=True, slots=True)
class Turn:
    """A loop that ends (``over`` empty) or begins again, and why."""

    escalation: Escalation
    reason: str
    runs: tuple[str, ...] = ()
    over: bool = False


def due(rules: ServiceRules, facts: Facts, memory: Memory, asks: tuple[Ask, ...]) -> tuple[Turn, ...]:
    """What is to be recorded now, before anything is decided. ``asks``: all candidates of this moment."""
    stopped = active(memory.escalations)
    ended = [turn for one in stopped if (turn := _ended(rules, facts, memory, asks, one))]
    raised: dict[str, Turn] = {}
    for ask in asks:
        if not ask.drives or ask.cause in raised or any(one.cause == ask.cause for one in stopped):
            continue
        streak = ineffective_streak(memory, ask)
        if is_enough(streak, rules.tuning.effectiveness):
            raised[ask.cause] = _raised(facts, ask, streak)
    return (*ended, *raised.values())


def active(escalations: tuple[Escalation, ...]) -> tuple[Escalation, ...]:
    """Those that are not over."""
    return tuple(one for one in escalations if one.over_s is None)


def stopped_for(rules: ServiceRules, memory: Memory, ask: Ask) -> bool:
    """Whether nothing more is tried for this candidate: its cause is escalated for the same episode, or about to be."""
    escalated = any(one.cause == ask.cause and _same_episode(one.breaches, ask) for one in active(memory.escalations))
    return escalated or is_enough(ineffective_streak(memory, ask), rules.tuning.effectiveness)


def is_enough(streak: tuple[Change, ...], tuning: Effectiveness) -> bool:
    """Whether so many in a row, the latest first, end the loop."""
    remedy = {"no_effect": tuning.on_no_effect, "worse": tuning.on_worse}
    escalated = bool(streak) and remedy.get(streak[0].verdict or "") == "escalate"
    return escalated or len(streak) >= tuning.hold_after


def ineffective_streak(memory: Memory, ask: Ask) -> tuple[Change, ...]:
    """The latest scale-ups for this cause that did not help, up to one that did; unknown ones are passed over.

    Only those of the same episode count: made for the same breach or, for a rule, since it began to hold, or undone
    since, as the cause may have rested meanwhile; and none from before the loop was resumed.
    """
    over_s = max((one.over_s or 0.0 for one in memory.escalations if one.cause == ask.cause), default=0.0)
    loud_s = memory.loud_since_s.get(ask.cause, 0.0) if ask.breach is None else 0.0
    needed, undone = proved_needed(memory.changes), {one.reverses for one in memory.changes}
    streak: list[Change] = []
    for change in reversed(memory.changes):
        if change.action is not Action.SCALE_UP or change.cause != ask.cause or change.reverses:
            continue
        if change.verdict == "helped" or change.decision in needed or change.at_s < over_s:
            break
        if not _same_episode(change.breaches, ask) or (change.at_s < loud_s and change.decision not in undone):
            break
        if change.verdict in INEFFECTIVE:
            streak.append(change)
    return tuple(streak)


def _same_episode(breaches: tuple[str, ...], ask: Ask) -> bool:
    return ask.breach is None or ask.breach.breach in breaches


def _raised(facts: Facts, ask: Ask, streak: tuple[Change, ...]) -> Turn:
    latest = streak[0]
    breaches = (ask.breach.breach,) if ask.breach else ()
    tried = ", ".join(f"{one.current} → {one.target} {one.verdict}" for one in reversed(streak))
    words = f"{ask.cause} is {ask.candidate.value:g}, above {ask.candidate.limit:g}, and scaling does not help: {tried}"
    escalation = Escalation(cause=ask.cause, decision=latest.decision, at_s=facts.now_s, breaches=breaches)
    return Turn(escalation, words, (ask.breach.run,) if ask.breach else ())


def _ended(rules: ServiceRules, facts: Facts, memory: Memory, asks: tuple[Ask, ...], one: Escalation) -> Turn | None:
    over = one.model_copy(update={"over_s": facts.now_s})
    if memory.resumed_s is not None and memory.resumed_s > one.at_s:
        return Turn(over, "an operator lets the loop go on", over=True)
    if one.decision in proved_needed(memory.changes):
        return Turn(over, f"undoing {one.decision} made it worse: what it had added is needed", over=True)
    if facts.observation is None or memory.watched_since_s is None:
        return None
    if one.breaches:
        known = {breach.breach for breach in facts.breaches}
        gone = not known.intersection(one.breaches)
    else:
        gone = one.cause not in memory.loud_since_s and not any(
            ask.cause == one.cause and ask.candidate.holds for ask in asks
        )
    # Right after a start nothing has been heard yet, and a cause may pause for a moment.
    if gone and facts.now_s - memory.watched_since_s >= rules.tuning.effectiveness.window:
        return Turn(over, f"the episode of {one.cause} is over", over=True)
    return None
