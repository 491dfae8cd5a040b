"""Burn rates of an error budget: both of a long and a short window over a factor, by exact tests.

What a budget is and which pairs there are stands in the benchmark. Long windows come from the store, in steps, and the
newest part of every window from what the stream told: ``Spending`` holds both, joined at a moment, so that nothing
counts twice. Pure: times are seconds of event time since the Unix epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.validator.significance import Odds, binomial
from services.validator.verdict import Judgement, Verdict
from shared.contracts.benchmarks import CONFIRM_P, Benchmark
from shared.contracts.burn import BurnRate

SIGNIFICANCE = 1e-5
"""At most so improbable is what was seen, if the budget were burnt just ``factor`` times too fast."""
UNIT = "times the budget"

_NONE = np.zeros(0, np.int64)


class Spent(NamedTuple):
    """Requests of a time, and how many of them were bad."""

    requests: int
    bad: int

    def plus(self, other: "Spent") -> "Spent":
        return Spent(self.requests + other.requests, self.bad + other.bad)


@dataclass(frozen=True, slots=True)
class Spending:
    """What the store holds of a run before ``until_s``: steps by their beginning, with running sums over them."""

    until_s: int = 0
    begins_s: NDArray[np.int64] = field(default_factory=lambda: _NONE)
    counts: NDArray[np.int64] = field(default_factory=lambda: _NONE)
    bad: NDArray[np.int64] = field(default_factory=lambda: _NONE)

    @classmethod
    def of(cls, until_s: int, steps: list[tuple[int, int, int]], before: "Spending | None" = None) -> "Spending":
        """``steps``: (begin, count, bad), ascending; they replace what ``before`` has from the first of them on."""
        rows = np.array(steps, np.int64).reshape(-1, 3)
        begins, counts, bad = rows[:, 0], rows[:, 1], rows[:, 2]
        if before is not None:
            kept = int(np.searchsorted(before.begins_s, begins[0])) if len(begins) else len(before.begins_s)
            begins = np.concatenate([before.begins_s[:kept], begins])
            counts = np.concatenate([np.diff(before.counts[:kept], prepend=0), counts])
            bad = np.concatenate([np.diff(before.bad[:kept], prepend=0), bad])
        return cls(until_s, begins, np.cumsum(counts), np.cumsum(bad))

    def since(self, first_s: int) -> Spent:
        """All steps that begin at ``first_s`` or later."""
        if not len(self.begins_s):
            return Spent(0, 0)
        at = int(np.searchsorted(self.begins_s, first_s))
        before = (int(self.counts[at - 1]), int(self.bad[at - 1])) if at else (0, 0)
        return Spent(int(self.counts[-1]) - before[0], int(self.bad[-1]) - before[1])


@dataclass(frozen=True, slots=True)
class Budget:
    """What one judgement is made from. ``spent``: of a window by its first second, None where it is not known whole."""

    started_s: int
    last_s: int
    spent: Callable[[int], Spent | None]


@dataclass(frozen=True, slots=True)
class Burning:
    """A judgement, whether the budget is safe again, and the pair of windows that it is about."""

    judgement: Judgement
    recovery: Judgement
    pair: BurnRate
    first_s: int


def judge_burning(benchmark: Benchmark, budget: Budget) -> Burning | None:
    """The strongest pair that burns; None while the run is too young for any.

    A pair is judged once the run is as old as its short window. Several that burn: the critical ones first, in the
    order in which they are written.
    """
    age_s = budget.last_s - budget.started_s + 1
    pairs = [_look(benchmark, pair, budget) for pair in benchmark.burn_rates if age_s >= pair.short]
    if not pairs:
        return None
    burning = [look for look in pairs if look.burns]
    strongest = next((look for look in burning if look.pair.level == "critical"), burning[0] if burning else None)
    chosen = strongest or pairs[0]
    if strongest is not None:
        verdict = Verdict.CRITICAL if strongest.pair.level == "critical" else Verdict.MISSED
    elif any(look.unknown for look in pairs):
        verdict = Verdict.INSUFFICIENT
    else:
        verdict = Verdict.MET if all(look.safe for look in pairs) else Verdict.INSUFFICIENT
    judgement = _judgement(chosen, verdict)
    safe = not burning and all(look.safe for look in pairs)
    recovery = _judgement(chosen, Verdict.MET if safe else Verdict.INSUFFICIENT)
    return Burning(judgement, recovery, chosen.pair, chosen.first_s)


@dataclass(frozen=True, slots=True)
class _Look:
    pair: BurnRate
    first_s: int
    long: Spent | None
    short: Spent | None
    odds: tuple[Odds, ...]
    budget: float

    @property
    def unknown(self) -> bool:
        return self.long is None or self.short is None

    @property
    def burns(self) -> bool:
        return not self.unknown and all(one.worse < SIGNIFICANCE for one in self.odds)

    @property
    def safe(self) -> bool:
        """Confirmed to lie below the factor in one of the windows, so that the pair cannot burn."""
        return any(one.better <= CONFIRM_P for one in self.odds)


def _look(benchmark: Benchmark, pair: BurnRate, budget: Budget) -> _Look:
    share = 1 - (benchmark.objective or 0.0)
    firsts = [max(budget.started_s, budget.last_s - round(length) + 1) for length in (pair.long, pair.short)]
    long, short = (budget.spent(first_s) for first_s in firsts)
    known = [one for one in (long, short) if one is not None]
    odds = tuple(binomial(one.bad, one.requests, min(1.0, pair.factor * share)) for one in known)
    return _Look(pair, firsts[0], long, short, odds, share)


def _judgement(look: _Look, verdict: Verdict) -> Judgement:
    seen = look.long or Spent(0, 0)
    value = seen.bad / seen.requests / look.budget if seen.requests else None
    worse = max((one.worse for one in look.odds), default=1.0)
    windows = f"over {_length(look.pair.long)} and {_length(look.pair.short)}"
    note = f"{seen.bad} of {seen.requests} requests bad; both {windows} must burn {look.pair.factor:g} times the budget"
    if look.unknown:
        note = f"the store has not told what was spent {windows} yet"
    return Judgement(verdict, value, look.pair.factor, seen.requests, 1 - worse, "binomial", note)


def _length(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
