"""The life of a drift: findings of a canary's hours and days become breach events of their own metrics. Pure.

An episode belongs to the grain that opened it, hour or day, and is led on by that grain alone: updated while it is
beyond the band, resolved by a window that is as usual. In between it stays open and says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from services.validator.board import Key, RunBoard
from services.validator.canary import Span
from services.validator.drift import Finding, Grain, worst_of
from services.validator.lifecycle import Episode
from services.validator.series import episode_id, series_token
from services.validator.verdict import Verdict
from shared.contracts.breach import Breach, BreachStatus, BreachWindow
from shared.contracts.window import Exemplar

USUAL_P = 0.05
"""A window at least as probable on past days is as usual."""
SEVERITY = "info"
"""Nobody is to be woken: the benchmarks say when it hurts."""
LONGEST_HOUR = timedelta(hours=2)

ActionOf = tuple[str, str, str]
"""System, scenario, action."""


@dataclass(frozen=True, slots=True)
class DriftFound:
    """What one window of a live run showed; ``exemplars``: the slowest requests of the actions that drifted."""

    run: str
    span: Span
    findings: tuple[Finding, ...]
    exemplars: Mapping[ActionOf, tuple[Exemplar, ...]] = field(default_factory=dict)


def follow(board: RunBoard, environment: str, services: Mapping[str, str], found: DriftFound) -> list[Breach]:
    """The events that follow from a window. ``services``: system to the name of its service.

    A window that was followed before changes nothing, so that it may be judged again after a restart.
    """
    events = []
    for finding in worst_of(found.findings):
        key = (finding.system, finding.metric, series_token(board.run, finding.scenario, finding.action))
        step = _step(board, environment, key, finding, found.span)
        if step is not None:
            episode, status = step
            event = _describe(board, environment, services, found, finding, key, episode, status)
            _note(board, key, episode, event)
            events.append(event)
    return events


def _step(
    board: RunBoard, environment: str, key: Key, finding: Finding, span: Span
) -> tuple[Episode, BreachStatus] | None:
    """What this finding makes of the episode of its key, if it makes anything of it."""
    end_us = int(span.stop.timestamp() * 1e6)
    episode = board.episodes.get(key)
    value = finding.value or 0.0
    if episode is None:
        if finding.verdict is not Verdict.MISSED or span.stop.timestamp() <= board.floors_s.get(key, 0):
            return None
        breach = episode_id(environment, *key, end_us)
        return Episode(breach, 1, "target", end_us, end_us, value), BreachStatus.OPENED
    last = board.breaches[episode.breach]
    if _grain_of(last) is not span.grain or span.stop <= last.window.end:
        return None
    led = Episode(episode.breach, episode.revision + 1, "target", episode.opened_us, end_us, value)
    if finding.verdict is Verdict.MISSED:
        return led, BreachStatus.UPDATED
    if finding.verdict is Verdict.MET and finding.probability >= USUAL_P:
        return led, BreachStatus.RESOLVED
    return None


def _note(board: RunBoard, key: Key, episode: Episode, event: Breach) -> None:
    if event.status is BreachStatus.RESOLVED:
        del board.episodes[key]
        board.floors_s[key] = int(event.window.end.timestamp())
    else:
        board.episodes[key] = episode
    board.keep(event)


def _grain_of(breach: Breach) -> Grain:
    return Grain.HOUR if timedelta(seconds=breach.window.seconds) < LONGEST_HOUR else Grain.DAY


def _describe(
    board: RunBoard,
    environment: str,
    services: Mapping[str, str],
    found: DriftFound,
    finding: Finding,
    key: Key,
    episode: Episode,
    status: BreachStatus,
) -> Breach:
    span, before = found.span, board.breaches.get(episode.breach)
    value, limit = finding.value or 0.0, finding.limit or 0.0
    worse = before is None or _is_worse(finding, value, before)
    worst = value if before is None or worse or before.worst is None else before.worst
    exemplars = found.exemplars.get((finding.system, finding.scenario, finding.action), ())
    return Breach(
        breach=episode.breach,
        revision=episode.revision,
        status=status,
        environment=environment,
        run=board.run,
        system=finding.system,
        service=services.get(finding.system, finding.system),
        metric=finding.metric,
        series=key[2],
        scenario=finding.scenario,
        action=finding.action,
        level="target",
        severity=SEVERITY,
        statistic=finding.statistic,
        value=value,
        worst=worst,
        limit=limit,
        target=limit,
        critical=limit,
        baseline=finding.usual,
        unit=finding.unit,
        better="higher" if finding.higher_is_better else "lower",
        confidence=1 - finding.probability,
        samples=finding.samples,
        window=BreachWindow(start=span.start, end=span.stop, seconds=span.seconds),
        opened_at=span.stop if before is None else before.opened_at,
        resolved_at=span.stop if status is BreachStatus.RESOLVED else None,
        exemplars=exemplars if before is None or worse else before.exemplars,
        recommendation=before.recommendation if before else _recommend(finding, span),
        note=_note_of(finding, span),
        acknowledged=before.acknowledged if before else None,
    )


def _is_worse(finding: Finding, value: float, before: Breach) -> bool:
    worst = before.value if before.worst is None else before.worst
    return value < worst if finding.higher_is_better else value > worst


def _note_of(finding: Finding, span: Span) -> str:
    window = f"the day {span.day}" if span.grain is Grain.DAY else f"the hour from {span.start:%H:%M} UTC"
    usual, change = finding.usual or 0.0, ""
    if usual and finding.value is not None:
        change = f", {finding.value / usual - 1:+.0%}"
    return f"{window} against {finding.days} past days, which had {usual:.4g} {finding.unit}{change}"


def _recommend(finding: Finding, span: Span) -> str:
    what = finding.action or finding.scenario
    return (
        f"Look for what changed for {what} of {finding.system} since {span.day - timedelta(days=1)}: a release, a "
        "configuration, data that grew; the benchmarks may still be met"
    )
