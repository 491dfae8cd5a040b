"""A report is shown the same on the terminal and the page, and is written where it was asked for."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from services.console.outputs import ReportFiles
from services.console.report_html import render_html
from services.console.report_rows import Dossier, list_comparisons, list_results, result_totals, summarize
from services.console.report_text import print_dossier
from tests.unit.console_cases import GATE, dossier, hops, report, result


def test_a_suites_page_holds_each_of_its_runs() -> None:
    runs = [{**report()["run"], "run": name} for name in ("run-1", "run-2")]
    page = render_html([dossier(run=run) for run in runs])
    assert page.count("<main>") == 2
    assert "run-2" in page


def test_an_empty_report_still_makes_a_page_and_a_table() -> None:
    bare = Dossier({"run": {"run": "run-1"}, "verdict": "invalid"})
    assert "No request was made" in render_html([bare])
    print_dossier(Console(file=io.StringIO()), bare)


def test_gates_stand_beside_benchmarks() -> None:
    rows = list_comparisons(report(gates=[GATE]))
    assert [(row.system, row.verdict, row.actual, row.critical) for row in rows] == [
        ("autmatrix", "met", "12.5 ms", "500 ms"),
        ("small", "missed", "50.00 s", "–"),
    ]


def test_sums_are_over_all_actions() -> None:
    rows = [result("a", 10, failed=2), result("b", 5, missing=1, stored=4)]
    totals = result_totals(report(results=rows))
    assert totals == {"sent": 15, "stored": 14, "held": 0, "missing": 1, "duplicates": 0, "failed": 2}
    assert [row.is_sound for row in list_results(report(results=rows))] == [False, False]


def test_an_absent_score_is_shown_as_none_and_never_as_zero() -> None:
    assert summarize(report(overall_score=None)).score == "–"


def test_the_terminal_shows_every_number_of_an_action() -> None:
    shown = io.StringIO()
    print_dossier(
        Console(file=shown, width=200),
        dossier(results=[result("look", 1234, failed=3)], gates=[GATE], recommendations=["add replicas"]),
    )
    text = shown.getvalue()
    (line,) = [line for line in text.splitlines() if "look" in line]
    assert re.split(r"\s{2,}", line.strip()) == [
        *("autmatrix", "look", "1,234", "1,234", "0", "3"),
        *("4.0 ms", "12.5 ms", "20.0 ms", "1.5/s"),
    ]
    assert "verdict met, score 97" in text
    assert "advice: add replicas" in text
    assert "scaling result    relaycore: 4 replicas ready" in text


def test_where_the_time_went_is_a_line_on_the_terminal_and_a_table_on_the_page() -> None:
    shown = io.StringIO()
    print_dossier(Console(file=shown, width=200), dossier(hops=[hops()]))
    line = "relaycore 61.0% (p95 61.0 ms a call), neuroweaver-backend 39.0% (p95 61.0 ms a call)"
    assert f"hops of small, 300 traces: {line}" in shown.getvalue()
    page = render_html([dossier(hops=[hops()])])
    assert "Where the time went: small" in page
    assert 'style="width: 61.0%"' in page
    assert "ab" * 16 in page
    assert "Where the time went" not in render_html([dossier()])


def test_files_are_written_as_asked(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.json"), tmp_path / "r.html", tmp_path / "r.xml", tmp_path / "r.md")
    assert files.write([dossier()]) == [str(tmp_path / name) for name in ("r.json", "r.html", "r.xml", "r.md")]
    assert json.loads((tmp_path / "r.json").read_text()) == report()
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_suites_json_lists_its_reports(capsys: pytest.CaptureFixture[str]) -> None:
    ReportFiles("-").write([dossier(), dossier()])
    assert json.loads(capsys.readouterr().out) == {"runs": [report(), report()]}
