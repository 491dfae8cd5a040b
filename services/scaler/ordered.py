"""The gate of operators: while their word is in force, nothing else is weighed. Pure."""

from datetime import UTC, datetime

from services.scaler.decision import Case, Decision, clamp_steps
from services.scaler.situation import Order
from shared.contracts.scaling import Action

CAUSE = "order"


def by_order(case: Case) -> Decision | None:
    """What the order in force leads to; None where there is none, or where a count must wait.

    It moves at once: it waits for no cool-down, window or effect, but not while the service is stopped or updated. What
    the target did not take is asked for once more, and from then on once per cool-down.
    """
    order, seen = case.memory.order, case.seen
    if order is None:
        return None
    if order.replicas is None:
        return case.hold("paused", f"paused by {_words(order)}")
    if seen.desired == 0 or seen.updating:
        return None
    rules = case.rules
    target, clamps = clamp_steps(order.replicas, (("limits", min(max(order.replicas, rules.min), rules.max)),))
    words = f"set to {order.replicas} by {_words(order)}"
    if target == seen.desired:
        return case.hold("ordered", words, clamps)
    if held := _asked_already(case, target):
        return held
    action = Action.SCALE_UP if target > seen.desired else Action.SCALE_DOWN
    return Decision(
        action,
        seen.desired,
        target,
        "ordered",
        f"{words}: {seen.desired} → {target} replicas",
        clamps=clamps,
        cause=CAUSE,
    )


def _asked_already(case: Case, target: int) -> Decision | None:
    """The hold while it is not known whether the target heard the order, and after it failed twice in a row."""
    moved = [one for one in case.memory.changes if not one.dry_run][-2:]
    same = [one for one in moved if one.cause == CAUSE and one.target == target]
    if same and same[-1] is moved[-1] and same[-1].ok is None:
        return case.hold(
            "awaiting_ready", f"{same[-1].decision} has asked for {target}; {case.seen.desired} are wanted"
        )
    if len(same) == 2 and all(one.ok is False for one in same):
        return case.cooling()
    return None


def _words(order: Order) -> str:
    until = datetime.fromtimestamp(order.until_s, tz=UTC)
    return f"{order.by} until {until:%Y-%m-%d %H:%M:%S} UTC: {order.reason}"
