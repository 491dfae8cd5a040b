"""What a decision is, and the case it is made on; shared by the policy and its two halves. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scaler.candidates import Ask
from services.scaler.situation import Facts, Memory, Observation
from shared.contracts.scaling import Action, Candidate, Clamp
from shared.contracts.scaling_rules import ServiceRules


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and why. ``target`` equals ``current`` where nothing moves; ``cause`` is the metric that drove it.

    ``expected``: what metrics are reckoned to be afterwards. ``reverses``: the decision that this one undoes.
    ``recommendation``: what a person might do.
    """

    action: Action
    current: int
    target: int
    reason_code: str
    reason: str
    confidence: float = 1.0
    candidates: tuple[Candidate, ...] = ()
    clamps: tuple[Clamp, ...] = ()
    breaches: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    cause: str = ""
    limit: float | None = None
    expected: Mapping[str, float] = field(default_factory=dict)
    reverses: str = ""
    recommendation: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One service that was observed, with everything known of it."""

    rules: ServiceRules
    facts: Facts
    memory: Memory
    seen: Observation
    asks: tuple[Ask, ...]

    @property
    def now_s(self) -> float:
        return self.facts.now_s

    def hold(self, code: str, reason: str, clamps: tuple[Clamp, ...] = (), confidence: float = 1.0) -> Decision:
        """Nothing moves, for this reason."""
        desired = self.seen.desired
        return Decision(Action.NO_ACTION, desired, desired, code, reason, confidence, clamps=clamps)

    def cooling(self) -> Decision | None:
        """The hold that follows every move, also one that failed."""
        cooldown_s = self.rules.tuning.cooldown
        moved = [change.at_s for change in self.memory.changes if not change.dry_run]
        if moved and self.now_s - moved[-1] < cooldown_s:
            return self.hold("cooldown", f"the last move is less than {cooldown_s:g} s ago")
        return None


def clamp_steps(wanted: int, steps: tuple[tuple[str, int], ...]) -> tuple[int, tuple[Clamp, ...]]:
    """The number after the last bound, and a note of each that changed it. Steps carry the number after them."""
    clamps, before = [], wanted
    for name, after in steps:
        if after != before:
            clamps.append(Clamp(name=name, before=before, after=after))
        before = after
    return before, tuple(clamps)
