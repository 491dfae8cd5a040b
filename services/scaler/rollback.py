"""Undoing a change that did not help, where the rules say so: never below what the load needs, never twice. Pure."""

from services.scaler.candidates import needed_for_load, requests_wait
from services.scaler.decision import Case, Decision, clamp_steps
from services.scaler.effect import MEASURED_WITHIN_S, window_of
from services.scaler.situation import Change, proved_needed
from shared.contracts.scaling import Action

NOT_OURS = frozenset({"limits", "order"})
"""Causes of changes that somebody else wanted: they stay."""


def roll_back(case: Case) -> Decision | None:
    """The decision that undoes the latest change, or None. A change that was undone, or undoes one, stays, and so does
    what could not be undone within the stabilization window: then idleness decides."""
    change = _latest(case)
    if change is None or not calls_for_rollback(case, change) or case.seen.desired != change.target:
        return None
    if case.now_s > _judged_s(case, change) + max(case.rules.tuning.stabilization.down, case.rules.tuning.cooldown):
        return None
    if change.action is Action.SCALE_UP:
        return _remove_again(case, change)
    target = min(change.current, case.rules.max)
    if cooling := case.cooling():
        return cooling
    words = f"{change.decision} made it worse: back from {change.target} to {target} replicas"
    return Decision(
        Action.SCALE_UP, case.seen.desired, target, "rollback", words, cause="rollback", reverses=change.decision
    )


def calls_for_rollback(case: Case, change: Change) -> bool:
    """Whether its verdict is one that the rules undo. That a scale-down changed nothing is what it was meant to; one
    that made it worse is undone unless what was done is to stay."""
    tuning = case.rules.tuning.effectiveness
    if change.reverses or not change.ok or change.action is Action.NO_ACTION or change.cause in NOT_OURS:
        return False
    if change.action is Action.SCALE_DOWN:
        return change.verdict == "worse" and tuning.on_worse != "hold"
    remedy = {"no_effect": tuning.on_no_effect, "worse": tuning.on_worse}
    return remedy.get(change.verdict or "") == "rollback"


def rolled_back_lately(case: Case, cause: str) -> Change | None:
    """The latest scale-up for a cause, where it was undone within the stabilization window down: once more at once
    would only swing. Not where that made it worse: then it had been needed after all."""
    undone = _undone_lately(case) - proved_needed(case.memory.changes)
    return next((one for one in reversed(case.memory.changes) if one.decision in undone and one.cause == cause), None)


def _undone_lately(case: Case) -> frozenset[str]:
    since_s = case.now_s - case.rules.tuning.stabilization.down
    changes = case.memory.changes
    made = [one for one in changes if not one.dry_run and one.ok is not False]
    return frozenset(one.reverses for one in made if one.reverses and one.at_s > since_s)


def _proved_count(case: Case, change: Change) -> int:
    """The count that was needed shortly before a change: undoing another one for its cause had made it worse."""
    since_s = change.at_s - case.rules.tuning.stabilization.down
    same = {one.decision for one in case.memory.changes if one.cause == change.cause}
    proofs = [one for one in case.memory.changes if one.reverses in same and one.verdict == "worse"]
    return max((one.current for one in proofs if one.at_s > since_s), default=0)


def _judged_s(case: Case, change: Change) -> float:
    """When its effect was known at the latest."""
    tuning = case.rules.tuning.effectiveness
    return window_of(tuning, change.done_s or change.at_s)[1] + tuning.window + MEASURED_WITHIN_S


def _latest(case: Case) -> Change | None:
    """The last one that was carried out, or is about to be."""
    moved = [one for one in case.memory.changes if not one.dry_run and one.ok is not False]
    return moved[-1] if moved else None


def _remove_again(case: Case, change: Change) -> Decision | None:
    """Back to the count before, as far as the load of now lets it. Other causes that ask keep what they ask for."""
    seen, rules = case.seen, case.rules
    if seen.unhealthy or seen.starting or seen.ready < seen.desired or requests_wait(case.facts.readings):
        return None
    others = max((ask.candidate.replicas for ask in case.asks if ask.drives and ask.cause != change.cause), default=0)
    needed = max(needed_for_load(rules, case.facts), others, _proved_count(case, change))
    target, clamps = clamp_steps(change.current, (("load", max(change.current, needed, rules.min)),))
    if target >= seen.desired:
        return None
    if cooling := case.cooling():
        return cooling
    words = f"{change.decision} was {change.verdict}: back from {seen.desired} to {target} replicas"
    return Decision(
        Action.SCALE_DOWN,
        seen.desired,
        target,
        "rollback",
        words,
        clamps=clamps,
        cause="rollback",
        reverses=change.decision,
    )
