"""A canary's day as tables of text, for the terminal and for Markdown. Pure; what is absent shows as ``–``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.console.wording import format_ms, format_value
from shared.store.summaries import SummaryRow

ABSENT = "–"
Body = Mapping[str, Any]
FAULT_SHARE = 0.05
DAYS = ("day", "run", "canary", "#sent", "#missing", "#failed", "#in breach", "#breaches", "#drift", "revision")


@dataclass(frozen=True, slots=True)
class Section:
    """One table; a column whose name begins with # holds numbers. ``bad``: rows that are worth a look."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bad: frozenset[int] = frozenset()


def day_row(row: SummaryRow) -> tuple[str, ...]:
    """A day on one line."""
    body = row.body
    requests, drift = body["requests"], body["drift"]
    minutes = max((one["minutes_in_breach"] for one in body["benchmarks"]), default=0.0)
    drifted = ABSENT if drift is None else str(sum(not one["improved"] for one in drift["findings"]))
    return (
        row.day.isoformat(),
        row.run,
        row.canary,
        f"{requests['sent']:,}",
        f"{requests['missing']:,}",
        f"{requests['failed']:,}",
        f"{minutes:g} min" if minutes else "0",
        str(body["breaches"]["total"]),
        drifted,
        str(row.revision) if row.complete else "so far",
    )


def headline(row: SummaryRow) -> str:
    """Which day of what this is, and how much of it."""
    body = row.body
    since, until = (datetime.fromisoformat(body[name]) for name in ("from", "until"))
    hours = (until - since).total_seconds() / 3_600
    whole = "" if row.complete else ", so far"
    return f"{row.run} on {row.day} ({body['time_zone']}), {hours:.1f} h{whole}"


def sections(body: Body) -> list[Section]:
    """Everything of a day that has rows, what matters first."""
    found = [
        _benchmarks(body),
        _drift(body),
        _breaches(body),
        _actions("actions", body["actions"]),
        _actions("workflows", body["workflows"]),
        _health(body),
        _slowest(body),
    ]
    return [section for section in found if section.rows]


def requests_line(body: Body) -> str:
    requests = body["requests"]
    rate = ABSENT if requests["error_rate"] is None else format_value(requests["error_rate"], "ratio")
    speed = ABSENT if requests["per_second"] is None else f"{requests['per_second']:g}/s"
    counts = ", ".join(f"{name} {requests[name]:,}" for name in ("sent", "stored", "missing", "failed", "cancelled"))
    return f"requests: {counts}; errors {rate}, {speed}"


def drift_line(body: Body) -> str:
    """Whether the day could be compared with past ones."""
    drift = body["drift"]
    if drift is None:
        return "drift: not compared, since no past day of this canary had the same load all day, or this one had not"
    few = f", {drift['insufficient']} could not be" if drift["insufficient"] else ""
    return f"drift: {drift['judged']} figures held against {drift['days']} past days{few}"


def as_markdown(row: SummaryRow) -> str:
    """A day as a document, e.g. for a chat or a ticket."""
    parts = [f"# {_escaped(headline(row))}", _escaped(requests_line(row.body)), _escaped(drift_line(row.body))]
    for section in sections(row.body):
        head = "| " + " | ".join(column.lstrip("#") for column in section.columns) + " |"
        rule = "|" + "|".join(" ---: " if column.startswith("#") else " --- " for column in section.columns) + "|"
        lines = ["| " + " | ".join(_escaped(cell) for cell in cells) + " |" for cells in section.rows]
        parts += [f"## {section.title.capitalize()}", "\n".join([head, rule, *lines])]
    return "\n\n".join(parts) + "\n"


def _benchmarks(body: Body) -> Section:
    rows, bad = [], set()
    for number, one in enumerate(body["benchmarks"]):
        hours = one["hours"]
        judged = [ABSENT] * 3
        if hours is not None:
            judged = [str(hours["met"]), str(hours["missed"] + hours["critical"]), str(hours["insufficient"])]
        spent = ABSENT if one["error_budget_spent"] is None else f"{one['error_budget_spent']:.0%}"
        name = (one["system"], one["metric"], one["statistic"])
        rows.append((*name, format_value(one["target"], one["unit"]), *judged, f"{one['minutes_in_breach']:g}", spent))
        if one["minutes_in_breach"] or (hours and hours["missed"] + hours["critical"]):
            bad.add(number)
    columns = ("system", "metric", "", "#target", "#h met", "#h missed", "#h unsure", "#min in breach", "#budget spent")
    return Section("benchmarks", columns, tuple(rows), frozenset(bad))


def _drift(body: Body) -> Section:
    findings = (body["drift"] or {"findings": []})["findings"]
    rows = [
        (
            one["system"],
            one["action"] or one["scenario"],
            "better" if one["improved"] else one["metric"],
            one["statistic"],
            format_value(one["value"], one["unit"]),
            format_value(one["baseline"], one["unit"]),
            ABSENT if one["change"] is None else f"{one['change']:+.0%}",
            format_value(one["limit"], one["unit"]),
        )
        for one in findings
    ]
    bad = frozenset(number for number, one in enumerate(findings) if not one["improved"])
    columns = ("system", "action", "drift", "", "#of the day", "#usual", "#change", "#limit")
    return Section("drift against past days", columns, tuple(rows), bad)


def _breaches(body: Body) -> Section:
    rows = [
        (
            f"{datetime.fromisoformat(one['opened_at']):%Y-%m-%d %H:%M}",
            f"{one['minutes_of_day']:g}",
            one["system"],
            one["metric"],
            one["action"],
            one["level"],
            format_value(one["worst"], one["unit"]),
            format_value(one["limit"], one["unit"]),
            "open" if one["resolved_at"] is None else "resolved",
        )
        for one in body["breaches"]["listed"]
    ]
    columns = ("opened (UTC)", "#min", "system", "metric", "action", "level", "#worst", "#limit", "")
    return Section("breaches", columns, tuple(rows), frozenset(range(len(rows))))


def _actions(title: str, actions: Sequence[Body]) -> Section:
    rows = []
    for one in actions:
        times = one["response_time_ms"]
        cells = (ABSENT if times[name] is None else format_ms(times[name]) for name in ("p50", "p95", "p99", "max"))
        rate = ABSENT if one["error_rate"] is None else format_value(one["error_rate"], "ratio")
        name = (one["system"], one["scenario"], one["action"])
        rows.append((*name, f"{one['count']:,}", f"{one['failed']:,}", rate, *cells))
    columns = ("system", "scenario", "action", "#count", "#failed", "#errors", "#p50", "#p95", "#p99", "#max")
    return Section(title, columns, tuple(rows))


def _health(body: Body) -> Section:
    rows, bad = [], set()
    for number, (system, one) in enumerate(sorted(body["generator_health"].items())):
        counts = ("seconds", "seconds_at_fault", "frames", "redelivered_frames", "frames_given_up")
        rows.append((system, *(f"{one[name]:,}" for name in counts)))
        if one["seconds_at_fault"] > FAULT_SHARE * one["seconds"]:
            bad.add(number)
    columns = ("system", "#seconds", "#at fault", "#frames", "#redelivered", "#given up")
    return Section("generator health", columns, tuple(rows), frozenset(bad))


def _slowest(body: Body) -> Section:
    rows = [(one["action"], format_ms(one["response_time_ms"]), one["trace_id"]) for one in body["slowest"]]
    return Section("slowest requests with a trace", ("action", "#response time", "trace"), tuple(rows))


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_{}[]<>#|!":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
