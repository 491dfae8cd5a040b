"""From measures to a verdict per action, with all that were tested reckoned together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy import stats

from services.console.comparing.measures import Measure, Name
from shared.contracts.timing import Kind

Held = Literal["family", "share"]


class Verdict(StrEnum):
    """``SAME`` is shown, by intervals within the thresholds; that no difference was found is ``INSUFFICIENT``."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    SAME = "same"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is a difference worth the name, and how often one may be seen where there is none.

    ``threshold``: of centre, p95 and throughput, relative to base; of p99 twice that, since it is known half as well.
    ``error_threshold``: of the error rate, as a difference of ratios. ``rate``: ``family``: how often two like runs may
    show any difference in any action; ``share``: which part of the differences shown may be none.
    """

    threshold: float = 0.05
    error_threshold: float = 0.0025
    rate: float = 0.02
    held: Held = "family"

    def threshold_of(self, name: Name) -> float:
        if name is Name.ERRORS:
            return self.error_threshold
        return 2 * self.threshold if name is Name.P99 else self.threshold


@dataclass(frozen=True, slots=True, order=True)
class ActionKey:
    """What is the same action in two runs."""

    kind: Kind
    system: str
    scenario: str
    action: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One action in two runs, before it is judged. ``doubt``: why its figures say nothing of the system, if they do
    not.

    ``unconfirmed``: why they can show a difference, and not that there is none.
    """

    key: ActionKey
    base_requests: int
    candidate_requests: int
    measures: Sequence[Measure] = ()
    doubt: str = ""
    unconfirmed: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """``adjusted``: p of each tested measure with all others of the comparison reckoned in. ``moved``: those that
    count."""

    compared: Compared
    verdict: Verdict
    reason: str
    tested: bool
    adjusted: Mapping[Name, float] = field(default_factory=dict)
    moved: tuple[Name, ...] = ()


def judge(all_compared: Sequence[Compared], rules: Rules) -> list[Judged]:
    """A verdict for each action, in the order given."""
    tested = [
        (index, measure)
        for index, compared in enumerate(all_compared)
        if not compared.doubt
        for measure in compared.measures
        if measure.p is not None
    ]
    adjusted = adjust([measure.p or 0.0 for _, measure in tested], rules.held)
    by_action: dict[int, dict[Name, float]] = {}
    for (index, measure), p in zip(tested, adjusted, strict=True):
        by_action.setdefault(index, {})[measure.name] = p
    return [_judge(compared, by_action.get(index, {}), rules) for index, compared in enumerate(all_compared)]


def adjust(ps: Sequence[float], held: Held) -> list[float]:
    """Each p so that it may be held against the rate: by Holm (1979) for the family, by Benjamini and Hochberg (1995)
    for the share of false among all found. Both hold whatever the tests have to do with each other, or nearly so."""
    if not ps:
        return []
    if held == "share":
        return [float(p) for p in stats.false_discovery_control(ps)]
    order = np.argsort(ps, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(ps)[order] * np.arange(len(ps), 0, -1))
    held_against = np.empty(len(ps))
    held_against[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in held_against]


def _judge(compared: Compared, adjusted: Mapping[Name, float], rules: Rules) -> Judged:
    if compared.doubt or not adjusted:
        reason = compared.doubt or next((m.note for m in compared.measures if m.note), "nothing was measured")
        return Judged(compared, Verdict.INSUFFICIENT, reason, tested=False)
    moved = {m.name: _worse(m) for m in compared.measures if _counts(m, adjusted, rules)}
    if moved:
        worse = [name for name, is_worse in moved.items() if is_worse]
        told = worse or list(moved)
        verdict = Verdict.REGRESSED if worse else Verdict.IMPROVED
        reason = ", ".join(describe(m) for m in compared.measures if m.name in told)
        return Judged(compared, verdict, reason, True, adjusted, tuple(moved))
    reason = compared.unconfirmed or _what_may_be(compared.measures, rules)
    verdict = Verdict.INSUFFICIENT if reason else Verdict.SAME
    return Judged(compared, verdict, reason, True, adjusted)


def _counts(measure: Measure, adjusted: Mapping[Name, float], rules: Rules) -> bool:
    """Found, and large enough to matter."""
    if measure.change is None or adjusted.get(measure.name, 1.0) > rules.rate:
        return False
    return abs(measure.change) >= rules.threshold_of(measure.name)


def _worse(measure: Measure) -> bool:
    """Of one that has changed."""
    change = measure.change or 0.0
    return change < 0 if measure.name is Name.THROUGHPUT else change > 0


def _what_may_be(measures: Sequence[Measure], rules: Rules) -> str:
    """The first measure that keeps the runs from being shown the same; empty where all of them are."""
    for measure in measures:
        if measure.low is None or measure.high is None:
            return f"no difference found; {measure.name}: {measure.note}"
        threshold = rules.threshold_of(measure.name)
        if measure.low < -threshold or measure.high > threshold:
            return f"no difference found; {measure.name} may have changed by {interval(measure)}"
    return ""


def describe(measure: Measure) -> str:
    """``p95 +10.3 % (+6.1 to +14.7 %)``."""
    return f"{measure.name} {change_of(measure)} ({interval(measure)})"


def change_of(measure: Measure) -> str:
    return "" if measure.change is None else _percent(measure, measure.change)


def interval(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return f"{_percent(measure, measure.low)} to {_percent(measure, measure.high)}"


def _percent(measure: Measure, change: float) -> str:
    """Of an error rate points, which are no share of what it was."""
    return f"{100 * change:+.2f} points" if measure.name is Name.ERRORS else f"{100 * change:+.1f} %"
