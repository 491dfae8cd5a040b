"""A history in words, rows and JSON. Pure."""

from typing import Any

from services.console.comparing.change_points import LEAST_RUNS, ChangePoint
from services.console.comparing.history import Course, History
from services.console.comparing.rows import describe_run, name_action
from services.console.wording import format_ms

COLUMNS = ("action", "", "#runs", "#median", "#least", "#most", "#last", "changes")


def list_rows(history: History) -> list[tuple[str, ...]]:
    """As ``COLUMNS``, a row per action and figure."""
    return [
        (
            name_action(course.key),
            course.figure,
            str(len(course.values)),
            *(
                format_ms(value)
                for value in (_median(course), min(course.values), max(course.values), course.values[-1])
            ),
            ", ".join(f"{change.change:+.1%}" for change in course.changes),
        )
        for course in history.courses
    ]


def list_changes(history: History) -> list[str]:
    """A line per change, the newest last; else how many runs it takes to see one."""
    told = [(course, change) for course in history.courses for change in course.changes]
    told.sort(key=lambda item: item[0].runs[item[1].index].requested_at)
    if told:
        return [_describe(course, change) for course, change in told]
    if len(history.runs) < 2 * LEAST_RUNS:
        return [f"{len(history.runs)} runs are like it; a change can be seen from {2 * LEAST_RUNS} on"]
    return [f"no change over {len(history.runs)} runs"]


def _describe(course: Course, change: ChangePoint) -> str:
    run = course.runs[change.index]
    before, after = format_ms(change.before), format_ms(change.after)
    moved = f"{name_action(course.key)} {course.figure} {change.change:+.1%} ({before} → {after})"
    return f"{moved} since {describe_run(run)}, {run.requested_at:%Y-%m-%d %H:%M}, p {change.p:.2g}"


def to_document(history: History) -> dict[str, Any]:
    """Fields are added, never renamed."""
    return {"runs": [run.run for run in history.runs], "courses": [_course(course) for course in history.courses]}


def _course(course: Course) -> dict[str, Any]:
    return {
        "system": course.key.system,
        "scenario": course.key.scenario,
        "action": course.key.action,
        "kind": course.key.kind.name.lower(),
        "figure": course.figure,
        "unit": "ms",
        "points": [{"run": run.run, "value": value} for run, value in zip(course.runs, course.values, strict=True)],
        "changes": [_change(course, change) for change in course.changes],
    }


def _change(course: Course, change: ChangePoint) -> dict[str, Any]:
    run = course.runs[change.index]
    return {
        "run": run.run,
        "requested_at": run.requested_at.isoformat(),
        "tags": run.tags,
        "before": change.before,
        "after": change.after,
        "change": change.change,
        "p": change.p,
    }


def _median(course: Course) -> float:
    ordered = sorted(course.values)
    return ordered[len(ordered) // 2]
