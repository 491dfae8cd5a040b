"""What the scaler remembers of itself: changes rebuilt from the audit chain, and how long conditions have held. Pure.

Both outlive the process. The changes are read from the chain. What the chain does not tell, how long a service has
been idle and what was wanted over the last minutes, is ``Remembered``: kept every few seconds, taken up by whoever
leads next.
"""

from collections import deque
from collections.abc import Iterable

from pydantic import Field

from services.scaler.candidates import Ask, last_done_s, needed_for_load, weigh
from services.scaler.situation import Change, Escalation, Facts, Memory, Reading
from shared.contracts.base import Message
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_rules import DownCondition, ServiceRules

KEPT_CHANGES = 8
GAP_S = 15.0
"""Not having looked for so long ends every "has held since"."""


def changes_of(records: Iterable[ScalingRecord]) -> tuple[Change, ...]:
    """The last changes a chain tells of, oldest first, each with its result and effect where known.

    A decision carries those that were known when it was made, so the records may begin with the last decision.
    """
    changes: dict[str, Change] = {}
    for record in records:
        if record.kind == "decision":
            known = record.inputs.get("memory", {}).get("changes", [])
            changes |= {one.decision: one for one in map(Change.model_validate, known)}
        if record.kind in ("decision", "resize"):
            change = change_of(record)
            if change is not None:
                changes = {name: _overtaken(one, change) for name, one in changes.items()}
                changes[record.decision] = change
        elif record.kind in ("result", "effectiveness") and record.decision in changes:
            changes[record.decision] = outcome(changes[record.decision], record)
    return tuple(changes.values())[-KEPT_CHANGES:]


def _overtaken(change: Change, by: Change) -> Change:
    """A change after another one followed: what was not known by then is not to come any more. The decision that
    followed was made, and says so, while it still was to."""
    if by.dry_run or not change.undecided:
        return change
    told = {"ok": False, "done_s": by.at_s} if change.ok is None else {"verdict": "unknown"}
    return change.model_copy(update=told)


def escalations_of(records: Iterable[ScalingRecord]) -> tuple[Escalation, ...]:
    """The escalations a chain tells of, oldest first: every one that is not over, and the last that are.

    A decision names those it was made with, so that one which is older than what was read is known too.
    """
    told: tuple[Escalation, ...] = ()
    for record in records:
        if record.kind == "escalation":
            told = with_escalation(told, record)
        elif record.kind == "decision":
            named = record.inputs.get("memory", {}).get("escalations", ())
            told = tuple(Escalation.model_validate(one) for one in named)
    return told


def with_escalation(known: tuple[Escalation, ...], record: ScalingRecord) -> tuple[Escalation, ...]:
    """What is known of escalations after one more record: one that began, or the end of the one of its cause."""
    at_s = record.at.timestamp()
    if record.reason_code != "resumed":
        one = Escalation(cause=record.cause, decision=record.decision, at_s=at_s, breaches=record.breaches)
        over = [past for past in known if past.over_s is not None][-KEPT_CHANGES:]
        return (*over, *(past for past in known if past.over_s is None), one)
    return tuple(
        one.model_copy(update={"over_s": at_s}) if one.over_s is None and one.cause == record.cause else one
        for one in known
    )


def change_of(record: ScalingRecord) -> Change | None:
    """The change a decision record announces; None where nothing moves."""
    moves = record.action not in (None, Action.NO_ACTION) or record.to_sizes is not None
    if not moves or record.current is None or record.target is None:
        return None
    return Change(
        decision=record.decision,
        at_s=record.at.timestamp(),
        action=record.action or Action.NO_ACTION,
        current=record.current,
        target=record.target,
        cause=str(record.inputs.get("cause", "")),
        limit=record.inputs.get("limit"),
        breaches=record.breaches,
        runs=record.runs,
        before=record.inputs.get("before", {}),
        expected=record.expected,
        from_sizes=record.from_sizes,
        to_sizes=record.to_sizes,
        reverses=record.reverses,
        dry_run=record.dry_run,
    )


def outcome(change: Change, record: ScalingRecord) -> Change:
    """A change with what a later record says of it."""
    if record.kind == "result":
        return change.model_copy(update={"ok": record.ok, "done_s": record.at.timestamp()})
    return change.model_copy(update={"verdict": record.verdict})


class Wanted(Message):
    """That between two moments ``high`` replicas were asked for, and that the load needed ``low``."""

    since_s: float
    until_s: float
    high: int
    low: int


class Remembered(Message):
    """All that a tracker knows, as of ``looked_s``. ``loud``: per cause, since when (None: unknown) and until when."""

    looked_s: float | None = None
    watched_since_s: float | None = None
    idle_since_s: float | None = None
    wanted: tuple[Wanted, ...] = ()
    loud: dict[str, tuple[float | None, float]] = Field(default_factory=dict)


def sizes_heard_of(records: Iterable[ScalingRecord]) -> int:
    """Position of the last order for sizes that a chain tells the end of; each decision carries what it knew."""
    heard = 0
    for record in records:
        if record.kind == "decision":
            heard = max(heard, int(record.inputs.get("memory", {}).get("sizes_heard", 0)))
        elif record.kind == "resize" and record.ok is not None:
            heard = max(heard, int(record.inputs.get("position", 0)))
    return heard


class Tracker:
    """How long things have been so, and the extremes wanted within the stabilization windows."""

    def __init__(self, remembered: Remembered | None = None) -> None:
        known = remembered or Remembered()
        self.looked_s = known.looked_s
        self._watched_since_s, self._idle_since_s = known.watched_since_s, known.idle_since_s
        self._wanted = deque(known.wanted)
        self._loud = dict(known.loud)

    def remember(self) -> Remembered:
        """What another tracker goes on with."""
        return Remembered(
            looked_s=self.looked_s,
            watched_since_s=self._watched_since_s,
            idle_since_s=self._idle_since_s,
            wanted=tuple(self._wanted),
            loud=self._loud,
        )

    def look(self, rules: ServiceRules, facts: Facts, changes: tuple[Change, ...]) -> Memory:
        """Take note of one moment and return the memory to decide with. Moments come in order of time."""
        now_s = facts.now_s
        if self.looked_s is None or now_s - self.looked_s > GAP_S:
            self._idle_since_s, self._watched_since_s = None, now_s
        self.looked_s = now_s
        asks = weigh(rules, facts, last_done_s(changes))
        self._note_idle(rules, facts, asks)
        self._note_wanted(rules, facts, asks)
        self._note_loud(rules, now_s, asks)
        up_s, down_s = rules.tuning.stabilization.up, rules.tuning.stabilization.down
        return Memory(
            changes=changes,
            idle_since_s=self._idle_since_s,
            watched_since_s=self._watched_since_s,
            highest_wanted=max((one.low for one in self._wanted if one.until_s >= now_s - down_s), default=0),
            lowest_wanted=min((one.high for one in self._wanted if one.until_s >= now_s - up_s), default=0),
            loud_since_s={cause: since for cause, (since, _) in self._loud.items() if since is not None},
        )

    def _note_idle(self, rules: ServiceRules, facts: Facts, asks: tuple[Ask, ...]) -> None:
        if any(ask.candidate.holds for ask in asks) or not idle(rules, facts):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = facts.now_s

    def _note_wanted(self, rules: ServiceRules, facts: Facts, asks: tuple[Ask, ...]) -> None:
        if facts.observation is None:
            return
        high = max((ask.candidate.replicas for ask in asks if ask.drives), default=facts.observation.desired)
        low = max([needed_for_load(rules, facts), *(ask.candidate.replicas for ask in asks if ask.drives)])
        since_s = facts.now_s
        if self._wanted and (self._wanted[-1].high, self._wanted[-1].low) == (high, low):
            since_s = self._wanted.pop().since_s
        self._wanted.append(Wanted(since_s=since_s, until_s=facts.now_s, high=high, low=low))
        span_s = max(rules.tuning.stabilization.up, rules.tuning.stabilization.down)
        while self._wanted[0].until_s < facts.now_s - span_s:
            self._wanted.popleft()

    def _note_loud(self, rules: ServiceRules, now_s: float, asks: tuple[Ask, ...]) -> None:
        """A cause that pauses for less than the effectiveness window is still the same one.

        What is loud at the first look may have been so before: its beginning is unknown, so all its past counts.
        """
        pause_s = rules.tuning.effectiveness.window
        self._loud = {cause: one for cause, one in self._loud.items() if now_s - one[1] <= pause_s}
        began = None if self._watched_since_s == now_s else now_s
        for cause in {ask.cause for ask in asks if ask.candidate.holds}:
            since = self._loud[cause][0] if cause in self._loud else began
            self._loud[cause] = (since, now_s)


def idle(rules: ServiceRules, facts: Facts) -> bool:
    """True when every condition to scale down holds on complete readings."""
    if rules.down is None or facts.observation is None:
        return False
    return all(condition_holds(condition, facts.readings) for condition in rules.down.all_of)


def condition_holds(condition: DownCondition, readings: dict[str, Reading]) -> bool:
    """One condition on complete readings; a latency nobody could measure for want of traffic counts as low."""
    reading = readings.get(condition.metric, Reading())
    return reading.complete and (reading.value is None or reading.value < condition.below)
