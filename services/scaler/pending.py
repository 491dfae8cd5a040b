"""What is to be said of a change that has no result or no verdict yet. Pure."""

from services.scaler.effect import window_of
from services.scaler.situation import Change, Observation
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import Effectiveness

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
