"""What the demo has to show, checked on evidence alone. Pure.

A breach opens and is resolved; the scaler adds replicas and the workflows get faster; nothing is lost between what
was sent, what is stored and what the systems counted themselves; one trace crosses all three systems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.console.report_rows import Report
from services.console.wording import format_ms
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.scaling import Action, ScalingRecord

Counts = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class ScaleUp:
    """A decision to add replicas that was carried out, with its result."""

    decision: ScalingRecord
    result: ScalingRecord

    def moved(self) -> str:
        return f"{self.decision.service} {self.decision.current} → {self.result.ready}"


@dataclass(frozen=True, slots=True)
class Speed:
    """95th percentile of whole workflows around a scale-up; None where too few ended to say."""

    scale_up: ScaleUp
    before_ms: float | None
    after_ms: float | None

    @property
    def gain_ms(self) -> float | None:
        return None if self.before_ms is None or self.after_ms is None else self.before_ms - self.after_ms


@dataclass(frozen=True, slots=True)
class Evidence:
    """``counted``: requests per (system, ``scenario/action``) as the systems saw them; ``speeds``: of each scale-up."""

    report: Report
    breaches: Sequence[Breach] = ()
    scaling: Sequence[ScalingRecord] = ()
    counted: Counts = field(default_factory=dict)
    speeds: Sequence[Speed] = ()
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the story: whether it happened, and in one line what was seen."""

    title: str
    happened: bool
    seen: str


def check_story(evidence: Evidence) -> list[Part]:
    """Every part, in the order it is told."""
    return [
        _check_breach(evidence.breaches, evidence.report),
        _check_scale_up(evidence.scaling),
        _check_speed(evidence.speeds),
        _check_counts(evidence.report, evidence.counted),
        _check_trace(evidence.trace_id),
    ]


def list_scale_ups(records: Sequence[ScalingRecord]) -> list[ScaleUp]:
    """Decisions to add replicas that were carried out, the earliest first."""
    decided = {record.decision: record for record in records if record.action is Action.SCALE_UP}
    done = [record for record in records if record.kind == "result" and record.ok and record.decision in decided]
    return [ScaleUp(decided[result.decision], result) for result in sorted(done, key=lambda record: record.at)]


def sent_of(report: Report) -> dict[tuple[str, str], int]:
    """What the generator says it sent, per (system, ``scenario/action``)."""
    return {(row["system"], f"{row['scenario']}/{row['action']}"): row["sent"] for row in report.get("results") or ()}


def _check_breach(breaches: Sequence[Breach], report: Report) -> Part:
    """The end of a run resolves what is open, which is no recovery."""
    ended_at = datetime.fromisoformat(report["run"]["ended_at"])
    recovered = [
        breach
        for breach in breaches
        if breach.status is BreachStatus.RESOLVED and breach.resolved_at and breach.resolved_at < ended_at
    ]
    if not recovered:
        seen = f"{len(breaches)} opened, none of them resolved before the run's end" if breaches else "none opened"
        return Part("a breach opened and was resolved", False, seen)
    first = min(recovered, key=lambda breach: breach.opened_at)
    lasted_s = ((first.resolved_at or ended_at) - first.opened_at).total_seconds()
    return Part("a breach opened and was resolved", True, f"{first.system} {first.metric} for {lasted_s:.0f} s")


def _check_scale_up(records: Sequence[ScalingRecord]) -> Part:
    moves = list_scale_ups(records)
    failed = [record.error for record in records if record.kind == "result" and not record.ok]
    seen = ", ".join(move.moved() for move in moves)
    if not moves:
        seen = f"the target refused: {failed[-1]}" if failed else "no replica was added"
    return Part("the scaler added replicas", bool(moves), seen)


def _check_speed(speeds: Sequence[Speed]) -> Part:
    title = "workflows got faster after it (p95)"
    gains = [(speed.gain_ms, speed) for speed in speeds if speed.gain_ms is not None]
    if not gains:
        return Part(title, False, "too few workflows ended around a scale-up to say")
    gain_ms, best = max(gains, key=lambda pair: pair[0])
    seen = f"{best.scale_up.moved()}: {format_ms(best.before_ms or 0.0)} → {format_ms(best.after_ms or 0.0)}"
    return Part(title, gain_ms > 0, seen)


def _check_counts(report: Report, counted: Counts) -> Part:
    title = "sent = stored = what the systems counted, none missing"
    rows = report.get("results") or ()
    sent, stored = sum(row["sent"] for row in rows), sum(row["stored"] for row in rows)
    missing, total = sum(row["missing"] for row in rows), sum(counted.values())
    seen = f"sent {sent:,}, stored {stored:,}, counted {total:,}, missing {missing:,}"
    differing = [key for key, count in sent_of(report).items() if counted.get(key, 0) != count]
    differing += [key for key in counted if key not in sent_of(report)]
    if differing:
        system, action = differing[0]
        seen += f"; {system} {action}: sent {sent_of(report).get((system, action), 0):,}, "
        seen += f"counted {counted.get((system, action), 0):,}"
    return Part(title, sent > 0 and sent == stored and missing == 0 and not differing, seen)


def _check_trace(trace_id: str | None) -> Part:
    return Part("one trace crosses all three systems", trace_id is not None, trace_id or "none was found in the store")
