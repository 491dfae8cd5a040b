"""A report is shown the same on the terminal, the page and in JUnit, and nothing in it can break out of the page."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from services.console.outputs import ReportFiles
from services.console.report_chart import draw_charts
from services.console.report_html import render_html
from services.console.report_junit import render_junit
from services.console.report_rows import Dossier, list_comparisons, list_results, result_totals, summarize
from services.console.report_text import print_dossier
from shared.contracts.breach import BreachStatus
from shared.errors import ConfigError
from tests.unit.console_cases import breach, comparison, hops, record, report, result

EVIL = "<script>alert(1)</script>\"'&"
GATE = {
    "scenario": "small",
    "action": "",
    "metric": "workflow_execution_time",
    "statistic": "mean",
    "unit": "ms",
    "target": 45_000.0,
    "actual": 50_000.0,
    "deviation": 0.11,
    "verdict": "missed",
    "samples": 31,
    "note": "slow",
}


def dossier(**changes: Any) -> Dossier:
    resolved = breach(BreachStatus.RESOLVED, resolved_s=35).model_dump(mode="json")
    records = [record(), record("result"), record("effectiveness", verdict="helped")]
    return Dossier(report(**changes), (resolved,), tuple(made.model_dump(mode="json") for made in records))


def points(count: int) -> dict[str, Any]:
    made = [
        {
            "second": 1_000 + at,
            "users": at,
            "systems": {"autmatrix": {"rate": 10 + at, "p95_ms": 20.0, "errors": 0}},
            "replicas": {"relaycore": 2 + at},
        }
        for at in range(count)
    ]
    return {"step_s": 1, "points": made}


class Outline(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br", "line", "polyline", "polygon"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside() -> None:
    page = render_html([dossier(timeline=points(30), gates=[GATE])])
    outline = Outline(page)
    assert outline.open == []
    assert not {"script", "link", "img", "iframe"} & set(outline.tags)
    assert not {"src", "href", "onload"} & {name for name, _ in outline.attributes}
    assert "url(" not in page
    assert "@import" not in page
    for said in ("run-1", "97", "api_response_time", "2 → 4", "resolved", "workflow_execution_time"):
        assert said in page


def test_nothing_in_a_report_can_break_out_of_the_page() -> None:
    evil = {
        "run": {**report()["run"], "run": EVIL, "reason": EVIL},
        "verdict": EVIL,
        "system_scores": {EVIL: {"score": 1.0}},
        "critical_issues": [EVIL],
        "recommendations": [EVIL],
        "results": [result(EVIL, system=EVIL, scenario=EVIL)],
        "benchmark_comparison": [comparison(EVIL, metric=EVIL, unit=EVIL)],
        "workflows": [{"scenario": EVIL, "count": 1, "failed": 0, "response_time_ms": {}}],
        "hops": [hops(EVIL, scenario=EVIL)],
        "timeline": {"step_s": 1, "points": [{"second": at, "systems": {EVIL: {"rate": 1.0}}} for at in range(3)]},
    }
    hostile = Dossier(
        report(**evil),
        (breach(metric=EVIL, recommendation=EVIL).model_dump(mode="json"),),
        (record(reason=EVIL).model_dump(mode="json"),),
    )
    outline = Outline(render_html([hostile]))
    assert "script" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on") or "<" in name]


def test_a_suites_page_holds_each_of_its_runs() -> None:
    runs = [{**report()["run"], "run": name} for name in ("run-1", "run-2")]
    page = render_html([dossier(run=run) for run in runs])
    assert page.count("<main>") == 2
    assert "run-2" in page


def test_an_empty_report_still_makes_a_page_and_a_table() -> None:
    bare = Dossier({"run": {"run": "run-1"}, "verdict": "invalid"})
    assert "No request was made" in render_html([bare])
    print_dossier(Console(file=io.StringIO()), bare)


def test_the_charts_follow_the_timeline() -> None:
    charts = {chart.title: chart for chart in draw_charts(report(timeline=points(3)))}
    assert set(charts) == {"Response time, p95", "Requests per second", "Replicas ready", "Users"}
    rate = charts["Requests per second"]
    heights = [float(point.split(",")[1]) for point in rate.lines[0].points.split()]
    assert heights == sorted(heights, reverse=True)
    assert (rate.top_label, rate.end_label) == ("20", "0:02")
    assert charts["Replicas ready"].lines[0].name == "relaycore"


@pytest.mark.parametrize("timeline", [{}, {"points": []}, points(1)], ids=["none", "empty", "one point"])
def test_too_short_a_timeline_has_no_chart(timeline: dict[str, Any]) -> None:
    assert draw_charts(report(timeline=timeline)) == []


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
    print_dossier(Console(file=shown, width=200), dossier(results=[result("look", 1234, failed=3)], gates=[GATE]))
    text = shown.getvalue()
    (line,) = [line for line in text.splitlines() if "look" in line]
    assert re.split(r"\s{2,}", line.strip()) == [
        *("autmatrix", "look", "1,234", "1,234", "0", "3"),
        *("4.0 ms", "12.5 ms", "20.0 ms", "1.5/s"),
    ]
    assert "verdict met, score 97" in text
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


def test_junit_counts_what_it_holds() -> None:
    rows = [comparison(), comparison("critical", metric="throughput"), comparison("insufficient", metric="cpu_usage")]
    root = ET.fromstring(render_junit([report(benchmark_comparison=rows, gates=[GATE])]))  # noqa: S314 - our own
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"run-1.autmatrix", "run-1.small"}
    autmatrix = suites["run-1.autmatrix"]
    assert [autmatrix.get(key) for key in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert [[child.tag for child in case] for case in autmatrix] == [[], ["failure"], ["skipped"]]


def test_junit_stays_xml_whatever_a_report_says() -> None:
    evil = comparison("missed", system='a\x00b<&"', metric="m\x1b\ud800", note="]]>\x07")
    root = ET.fromstring(render_junit([report(benchmark_comparison=[evil])]))  # noqa: S314 - our own
    assert root[0].get("name") == 'run-1.ab<&"'


def test_files_are_written_as_asked(tmp_path: Path) -> None:
    files = ReportFiles(str(tmp_path / "r.json"), tmp_path / "r.html", tmp_path / "r.xml")
    files.check()
    assert files.write([dossier()]) == [str(tmp_path / name) for name in ("r.json", "r.html", "r.xml")]
    assert json.loads((tmp_path / "r.json").read_text()) == report()
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_suites_json_lists_its_reports(capsys: pytest.CaptureFixture[str]) -> None:
    ReportFiles("-").write([dossier(), dossier()])
    assert json.loads(capsys.readouterr().out) == {"runs": [report(), report()]}


def test_a_place_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--html: .* does not exist"):
        ReportFiles(html_path=tmp_path / "none" / "r.html").check()
    with pytest.raises(ConfigError, match=r"--junit: .* is a folder"):
        ReportFiles(junit_path=tmp_path).check()
