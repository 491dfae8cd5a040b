"""What the demo has to show, checked on evidence alone. Pure.

A breach opens and is resolved; the scaler adds replicas and the workflows get faster; nothing is lost between what
was sent, what is stored and what the systems counted themselves; one trace crosses all three systems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.console.progress import format_ms
from services.console.report_rows import Report
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.scaling import Action, ScalingRecord

Counts = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Evidence:
    """``counted``: requests per (system, ``scenario/action``) as the systems saw them.

    ``p95_before_ms`` and ``p95_after_ms``: of whole workflows, before the first scale-up and after the last settled.
    """

    report: Report
    breaches: Sequence[Breach] = ()
    scaling: Sequence[ScalingRecord] = ()
    counted: Counts = field(default_factory=dict)
    p95_before_ms: float | None = None
    p95_after_ms: float | None = None
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
        _check_breach(evidence.breaches),
        _check_scale_up(evidence.scaling),
        _check_speed(evidence.p95_before_ms, evidence.p95_after_ms),
        _check_counts(evidence.report, evidence.counted),
        _check_trace(evidence.trace_id),
    ]


def find_scale_up(records: Sequence[ScalingRecord]) -> tuple[ScalingRecord, ScalingRecord] | None:
    """The first decision to add replicas that was carried out, and the result of the last such one."""
    decided = {record.decision: record for record in records if record.action is Action.SCALE_UP}
    results = [record for record in records if record.kind == "result" and record.ok and record.decision in decided]
    if not results:
        return None
    first = min(results, key=lambda record: record.at)
    return decided[first.decision], max(results, key=lambda record: record.at)


def sent_of(report: Report) -> dict[tuple[str, str], int]:
    """What the generator says it sent, per (system, ``scenario/action``)."""
    return {(row["system"], f"{row['scenario']}/{row['action']}"): row["sent"] for row in report.get("results") or ()}


def _check_breach(breaches: Sequence[Breach]) -> Part:
    resolved = [breach for breach in breaches if breach.status is BreachStatus.RESOLVED]
    if resolved:
        first = min(resolved, key=lambda breach: breach.opened_at)
        lasted = (first.resolved_at or first.window.end) - first.opened_at
        seen = f"{first.system} {first.metric} for {lasted.total_seconds():.0f} s"
    else:
        seen = f"{len(breaches)} opened, none of them resolved" if breaches else "none opened"
    return Part("a breach opened and was resolved", bool(resolved), seen)


def _check_scale_up(records: Sequence[ScalingRecord]) -> Part:
    moved = find_scale_up(records)
    if moved is None:
        failed = [record.error for record in records if record.kind == "result" and not record.ok]
        seen = f"the target refused: {failed[-1]}" if failed else "no replica was added"
        return Part("the scaler added replicas", False, seen)
    decision, result = moved
    return Part("the scaler added replicas", True, f"{decision.service} {decision.current} → {result.ready}")


def _check_speed(before_ms: float | None, after_ms: float | None) -> Part:
    title = "workflows got faster after it (p95)"
    if before_ms is None or after_ms is None:
        missing = "before" if before_ms is None else "after"
        return Part(title, False, f"too few workflows ended {missing} the scale-up")
    return Part(title, after_ms < before_ms, f"{format_ms(before_ms)} → {format_ms(after_ms)}")


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
