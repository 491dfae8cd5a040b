"""A report as tables on a terminal; the same rows as the page, fewer words."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.console.plan import PlannedRun
from services.console.report_rows import (
    Dossier,
    HopBreakdown,
    list_comparisons,
    list_hops,
    list_results,
    list_streaming,
    list_workflows,
    result_totals,
    summarize,
)
from services.console.session import Outcome
from services.console.stress_words import StressPart, read_stress
from services.console.wording import describe_breach, describe_scaling, told
from shared.contracts.breach import Breach
from shared.contracts.scaling import ScalingRecord

PIPE_WIDTH = 200
HOPS_TOLD = 4
STREAMING = ("streamed", "#answers", "#tokens", "#rate of one", "#first p50", "#first p95", "#gap p95")
STYLES = {"good": "green", "bad": "red", "unsure": "yellow"}


def print_dossier(console: Console, dossier: Dossier) -> None:
    """Requests, workflows, benchmarks, breaches, scaling, then the verdict, which stays in sight."""
    report = dossier.report
    _print_results(console, dossier)
    workflows = list_workflows(report)
    if workflows:
        print_table(console, ("workflow", "#finished", "#failed", "#mean", "#p95", "#longest"), workflows)
        console.print()
    streaming = list_streaming(report)
    if streaming:
        print_table(console, STREAMING, streaming)
        console.print()
    stress = read_stress(report)
    if stress is not None:
        _print_steps(console, stress)
    _print_comparisons(console, dossier)
    for hops in list_hops(report):
        console.print(Text(_describe_hops(hops)), soft_wrap=True)
    for breach in map(Breach.model_validate, dossier.breaches):
        console.print(Text(describe_breach(breach), style="green" if breach.resolved_at else "red"))
    for record in told(map(ScalingRecord.model_validate, dossier.scaling)):
        console.print(Text(describe_scaling(record), style="cyan"))
    _print_verdict(console, dossier)


def open_console(*, stderr: bool = False) -> Console:
    """The terminal as it is; wide where nobody looks at it, so that files and pipes hold whole lines."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """A plain table; a column whose name begins with # holds numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        numeric = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console.print(table)


def print_suite(console: Console, planned: Sequence[PlannedRun], outcomes: Sequence[Outcome]) -> None:
    """The validation of a suite: each of its runs with its verdict, also those that were not begun."""
    rows: list[tuple[str | Text, ...]] = []
    for index, run in enumerate(planned):
        if index >= len(outcomes):
            rows.append((run.title, "not begun", "", ""))
            continue
        outcome = outcomes[index]
        summary = summarize(outcome.report or {})
        verdict = Text(summary.verdict, style=STYLES[summary.tone])
        rows.append((run.title, str(outcome.phase or "unknown"), verdict, summary.score))
    console.print(Text(f"\nsuite {planned[0].suite}", style="bold"))
    print_table(console, ("run", "ended", "verdict", "#score"), rows)


def _print_results(console: Console, dossier: Dossier) -> None:
    results = list_results(dossier.report)
    several = len({row.scenario for row in results}) > 1
    rows = []
    for row in results:
        names = (row.system, row.scenario, row.action) if several else (row.system, row.action)
        failed = Text(row.failed, style="" if row.is_sound else "red")
        rows.append((*names, row.sent, row.stored, row.missing, failed, row.p50, row.p95, row.p99, row.throughput))
    names = ("system", "scenario", "action") if several else ("system", "action")
    console.print()
    figures = ("#sent", "#stored", "#missing", "#failed", "#p50", "#p95", "#p99", "#rate")
    print_table(console, (*names, *figures), rows)
    console.print()


def _print_steps(console: Console, stress: StressPart) -> None:
    at = stress.verdict_at
    rows: list[tuple[str | Text, ...]] = [
        (*row[:at], Text(row[at], style=STYLES[tone]), *row[at + 1 :]) for row, tone in stress.rows
    ]
    print_table(console, stress.columns, rows)
    console.print()


def _print_comparisons(console: Console, dossier: Dossier) -> None:
    columns = ("system", "metric", "", "#actual", "#target", "#critical", "#samples", "verdict")
    rows = [
        (
            row.system,
            row.metric,
            row.statistic,
            row.actual,
            row.target,
            row.critical,
            row.samples,
            Text(row.verdict, style=STYLES[row.tone]),
        )
        for row in list_comparisons(dossier.report)
    ]
    print_table(console, columns, rows)
    console.print()


def _describe_hops(hops: HopBreakdown) -> str:
    """The largest parts on one line; the page has them all."""
    parts = ", ".join(f"{row.hop} {row.share} (p95 {row.p95} a call)" for row in hops.rows[:HOPS_TOLD])
    return f"hops of {hops.scenario}, {hops.traces} traces: {parts}"


def _print_verdict(console: Console, dossier: Dossier) -> None:
    summary, totals = summarize(dossier.report), result_totals(dossier.report)
    for issue in summary.critical_issues:
        console.print(Text(f"critical: {issue}", style="red"), soft_wrap=True)
    for text in summary.recommendations:
        console.print(Text(f"advice: {text}", style="yellow"), soft_wrap=True)
    counts = ", ".join(f"{name} {count:,}" for name, count in totals.items() if count or name != "held")
    console.print(Text(f"{summary.run}: {counts}"), soft_wrap=True)
    stress = read_stress(dossier.report)
    if stress is not None:
        console.print(Text(stress.answer, style="bold"), soft_wrap=True)
        for note in stress.notes:
            console.print(Text(note, style="yellow"), soft_wrap=True)
    verdict = Text(f"verdict {summary.verdict}, score {summary.score}", style=f"bold {STYLES[summary.tone]}")
    console.print(verdict)
