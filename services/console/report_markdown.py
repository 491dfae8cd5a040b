"""A report as Markdown: short enough for a comment on a pull request, what is wrong before what is right. Pure.

Names from outside are shown letter by letter: no markup, link, image or mention comes of them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.console.advice_rows import list_advice, list_load_tests
from services.console.report_rows import (
    ComparisonRow,
    Dossier,
    list_comparisons,
    list_hops,
    list_results,
    result_totals,
    summarize,
)
from services.console.stress_words import read_stress
from services.console.wording import compare_breach
from shared.contracts.breach import Breach

MOST_ROWS, MOST_LINES, MOST_HOPS, MOST_LETTERS = 60, 20, 5, 400
"""So that even a suite of four stays under the 65,536 letters that a comment may have."""
MARKS = {"good": "✅", "bad": "❌", "unsure": "⚠️"}


def cell(text: object) -> str:
    """Text as it is, on one line; whatever Markdown or HTML would act on is written as a character reference."""
    line = " ".join(str(text).split())
    line = line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"
    return re.sub(r"[\\`*{}\[\]<>#|~$&@]|(?<![\w])_|_(?![\w])|://|(?<=www)\.", _reference, line)


def _reference(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(letter)};" for letter in match.group())


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of at most ``MOST_ROWS`` rows; how many more there are is told."""
    head = f"| {' | '.join(columns)} |\n|{'|'.join(' --- ' for _ in columns)}|\n"
    body = "".join(f"| {' | '.join(cell(value) for value in row)} |\n" for row in rows[:MOST_ROWS])
    left_out = len(rows) - MOST_ROWS
    return head + body + (f"\n{left_out} more are in the page and the JSON.\n" if left_out > 0 else "")


_environment = Environment(  # noqa: S701 - not HTML: what is active is taken out by ``cell``
    loader=PackageLoader("services.console"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_environment.filters["cell"] = cell


def render_markdown(dossiers: Iterable[Dossier]) -> str:
    """One section for each report, one below the other."""
    template = _environment.get_template("report.md.j2")
    text = template.render(pages=[_page(dossier) for dossier in dossiers], table=table, most=MOST_LINES)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _page(dossier: Dossier) -> dict[str, Any]:
    report = dossier.report
    summary, comparisons, stress = summarize(report), list_comparisons(report), read_stress(report)
    return {
        "summary": summary,
        "mark": MARKS[summary.tone],
        "totals": result_totals(report),
        "scores": ", ".join(f"{cell(system)} {score}" for system, score, _ in summary.system_scores),
        "advice": list_advice(report),
        "stress": stress,
        # What a search broke on its way is its answer.
        "broken": [_compared(row) for row in comparisons if row.tone == "bad" and stress is None],
        "comparisons": [_compared(row) for row in comparisons],
        "load_tests": [
            (
                *(row.name, row.verdict, row.total, row.failed),
                *(row.average, row.p95, row.p99, row.throughput, row.error_rate),
            )
            for row in list_load_tests(report)
        ],
        "hops": [
            (hops.scenario, row.hop, row.share, row.p50, row.p95)
            for hops in list_hops(report)
            for row in hops.rows[:MOST_HOPS]
        ],
        "breaches": [compare_breach(Breach.model_validate(breach)) for breach in dossier.breaches],
        "results": [
            (row.system, row.action, row.sent, row.missing, row.failed, row.p50, row.p95, row.p99, row.throughput)
            for row in list_results(report)
        ],
    }


def _compared(row: ComparisonRow) -> tuple[str, ...]:
    metric = f"{row.metric} {row.statistic}".strip()
    verdict = f"{MARKS[row.tone]} {row.verdict}"
    return (row.system, metric, verdict, row.actual, row.target, row.critical, row.samples, row.test, row.confidence)
