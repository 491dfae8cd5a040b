"""What was found of resources as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.scaler.commands.words import tell
from services.scaler.resources.calls import CallSummary
from services.scaler.resources.efficiency import Efficiency
from services.scaler.resources.findings import Findings
from services.scaler.resources.leak import Leak, Verdict
from services.scaler.resources.usage import ServiceUsage, Summary
from shared.contracts.resource import RESOURCE_UNITS

PIPE_WIDTH = 200
UNITS = {**RESOURCE_UNITS, "request_rate": "requests/s"}
USAGE = ("service", "metric", "#mean", "#p95", "#peak", "#at (UTC)", "#held", "#unused")
TOTALS = ("all services", "#mean", "#p95", "#peak", "#at (UTC)")
CALLS = ("call", "#looked at", "#network p50", "#p95", "#share", "#errors", "#sent", "#received")
LEAKS = ("instance", "memory", "#now", "#limit", "#growth", "#until the limit", "why")
EFFICIENCY = ("of", "#requests", "#per CPU-s", "#CPU-s/1,000", "#MB-s/1,000", "#cost/1,000", "#CPU unused", "#memory")
SLACK = {"cpu_cores": "cpu", "memory_usage": "memory"}
STYLES = {Verdict.LEAK: "red", Verdict.NONE: "green", Verdict.INSUFFICIENT: "yellow"}
Rows = list[tuple[str | Text, ...]]


def print_findings(findings: Findings) -> None:
    """Usage, totals, calls, leaks, efficiency, and what nobody told."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    span = findings.span
    told = f"{span.since:%Y-%m-%d %H:%M:%S} to {span.until:%Y-%m-%d %H:%M:%S} UTC, by steps of {findings.step_s:g} s"
    console.print(Text(f"{told}; p95 and unused are per replica\n", style="dim"))
    for columns, rows in list_tables(findings):
        _print(console, columns, rows)
    for usage in findings.services:
        missing = findings.not_told.get(usage.service)
        if missing:
            console.print(Text(f"{usage.service}: not told by any source: {', '.join(missing)}", style="dim"))


def list_tables(findings: Findings) -> list[tuple[Sequence[str], Rows]]:
    """Column names (those of numbers begin with #) and rows, without tables that have none."""
    history = [(f"{one.span}  {one.of}", one) for one in findings.history]
    trends: Rows = [
        (
            one.of,
            one.figure.replace("_", " "),
            str(one.points),
            f"{one.change:+.1%}",
            f"{one.p_value:.2g}",
            one.direction,
        )
        for one in findings.trends
    ]
    tables: list[tuple[Sequence[str], Rows]] = [
        (USAGE, [row for usage in findings.services for row in _usage(usage)]),
        (TOTALS, [_summary(metric, findings.whole[metric]) for metric in findings.whole]),
        (CALLS, [_call(one) for one in findings.calls]),
        (LEAKS, [_leak(leak) for leak in findings.leaks]),
        (EFFICIENCY, [_efficiency(one.of, one, findings) for one in findings.efficiency]),
        (("run or day", *EFFICIENCY[1:]), [_efficiency(name, one, findings) for name, one in history]),
        (("trend over days", "figure", "#days", "#change", "#p", "so"), trends),
    ]
    return [(columns, rows) for columns, rows in tables if rows]


def _print(console: Console, columns: Sequence[str], rows: Rows) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        numeric = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console.print(table)
    console.print()


def _usage(usage: ServiceUsage) -> Rows:
    name = f"{usage.service} ({usage.replicas:.1f} replicas)"
    rows: Rows = []
    for metric, summary in usage.replica.items():
        if metric not in UNITS:
            continue
        slack = usage.slack.get(SLACK.get(metric, ""))
        unit = UNITS[metric]
        held = "" if slack is None else f"{tell(slack.held, unit)} {slack.of}"
        unused = "" if slack is None else f"{tell(slack.free, unit)} ({slack.share:.0%})"
        rows.append(("" if rows else name, *_summary(metric, summary), held, unused))
    return rows


def _summary(metric: str, summary: Summary) -> tuple[str, ...]:
    unit = UNITS.get(metric, "")
    figures = (tell(value, unit) for value in (summary.mean, summary.p95, summary.peak))
    return metric, *figures, f"{summary.peak_at:%m-%d %H:%M:%S}"


def _call(call: CallSummary) -> tuple[str, ...]:
    sizes = (call.bytes_sent_per_call, call.bytes_received_per_call)
    return (
        f"{call.caller} → {call.callee or 'unknown'}",
        f"{call.calls:,}",
        tell(call.network_p50_ms, "ms"),
        tell(call.network_p95_ms, "ms"),
        tell(call.network_share, "ratio"),
        tell(call.error_rate, "ratio"),
        *(tell(size, "B") for size in sizes),
    )


def _leak(leak: Leak) -> tuple[str | Text, ...]:
    verdict = f"leak, {leak.severity}" if leak.severity else str(leak.verdict)
    return (
        leak.instance,
        Text(verdict, style=STYLES[leak.verdict]),
        tell(leak.memory_mb, "MB"),
        tell(leak.limit_mb, "MB"),
        tell(leak.growth_mb_per_min, "MB/min") if leak.verdict is Verdict.LEAK else "",
        "" if leak.hours_to_limit is None else tell(leak.hours_to_limit, "h"),
        leak.reason,
    )


def _efficiency(name: str, one: Efficiency, findings: Findings) -> tuple[str, ...]:
    currency = "" if findings.prices is None else findings.prices.currency
    return (
        name if one.kind != "system" else f"{name} (system)",
        tell(one.requests),
        tell(one.requests_per_cpu_s),
        tell(one.cpu_s_per_thousand),
        tell(one.memory_mb_s_per_thousand),
        tell(one.cost_per_thousand, currency),
        tell(one.cpu_slack, "ratio"),
        tell(one.memory_slack, "ratio"),
    )
