"""The life of a breach: opened once, escalated, updated while it lasts, resolved once; one id throughout.

    (none) ──broken──▶ open ──critical──▶ open at critical
                        │ ▲                  │
                        │ └── updated ───────┤
                        └── kept again, confirmed for CLEAN_US, or the run ended ──▶ resolved

Opening takes the benchmark's significance, resolving a confirmed pass over a shorter, newer window: between the two
the episode stays open and its value is told, which is the hysteresis. What an event says beyond this belongs to others.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.validator.verdict import Judgement, Verdict
from shared.contracts.breach import Breach, BreachStatus

CLEAN_US = 500_000
"""For so long of event time a pass must stay confirmed before an episode is resolved. The recovery window itself covers
three seconds and more, so what a longer wait adds to them is delay.
"""
UPDATE_US = 5_000_000
NOTABLE_US = 1_000_000
NOTABLE_CHANGE = 0.2


@dataclass(frozen=True, slots=True)
class Episode:
    """One breach between its opening and its end. Times are µs of event time."""

    breach: str
    revision: int
    level: str
    opened_us: int
    told_us: int
    told_value: float
    clean_since_us: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What became of an episode, and what subscribers are to be told, if anything."""

    episode: Episode | None
    status: BreachStatus | None = None


def open_episode(breach: str, judgement: Judgement, now_us: int) -> Step:
    """The first event of an episode; ``judgement`` is broken."""
    value = judgement.value or 0.0
    return Step(Episode(breach, 1, judgement.level, now_us, now_us, value), BreachStatus.OPENED)


def advance(episode: Episode, judgement: Judgement, recovery: Judgement, now_us: int) -> Step:
    """Next step of an open episode, by the main window's judgement and that of the recovery window."""
    if recovery.verdict is Verdict.MET:
        since = now_us if episode.clean_since_us is None else episode.clean_since_us
        episode = replace(episode, clean_since_us=since)
        if now_us - since >= CLEAN_US:
            return Step(replace(episode, revision=episode.revision + 1), BreachStatus.RESOLVED)
        return Step(episode)
    episode = replace(episode, clean_since_us=None)
    if judgement.verdict is Verdict.INVALID or judgement.value is None:
        return Step(episode)
    if judgement.verdict is Verdict.CRITICAL and episode.level != "critical":
        return _tell(replace(episode, level="critical"), judgement.value, BreachStatus.ESCALATED, now_us)
    since_told_us = now_us - episode.told_us
    moved = abs(judgement.value - episode.told_value) > NOTABLE_CHANGE * abs(episode.told_value)
    if since_told_us >= UPDATE_US or (moved and since_told_us >= NOTABLE_US):
        return _tell(episode, judgement.value, BreachStatus.UPDATED, now_us)
    return Step(episode)


def close(episode: Episode) -> Step:
    """Resolve an episode because its run ended: nothing more will be measured."""
    return Step(replace(episode, revision=episode.revision + 1), BreachStatus.RESOLVED)


def take_up(on_stream: Iterable[Breach], in_store: Iterable[Breach]) -> list[Breach]:
    """The last word on every episode a validator begins with: the stream's on each of its subjects.

    Of a subject that the stream knows nothing of (its broker lost it), the store's last word on what was left open.
    """
    told = {(breach.system, breach.metric, breach.series): breach for breach in on_stream}
    for breach in sorted(in_store, key=lambda one: one.opened_at):
        key = (breach.system, breach.metric, breach.series)
        if breach.status is not BreachStatus.RESOLVED and key not in told:
            told[key] = breach
    return list(told.values())


def _tell(episode: Episode, value: float, status: BreachStatus, now_us: int) -> Step:
    return Step(replace(episode, revision=episode.revision + 1, told_us=now_us, told_value=value), status)
