"""The page holds all it needs, draws what Plotly takes, stays small, and nothing in a report can break out of it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects
import pytest
from plotly.offline import get_plotlyjs

from services.console.report_charts import draw_course
from services.console.report_figure import Chart
from services.console.report_html import render_html
from services.console.report_rows import Dossier
from services.console.report_trace_charts import draw_hops, draw_percentiles, list_slow_calls
from tests.unit.console_cases import distribution, dossier, full_dossier, hops, slow_trace, timeline

EVIL = "<script>alert(1)</script>\"'&</style><img src=x onerror=alert(2)>\u2028"
SMALL_BYTES = 6_000_000


class Outline(HTMLParser):
    """Tags and attributes of a page, the text of its scripts, and what it shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.shown: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.shown.append(data)

    @property
    def figures(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.scripts[0])["figures"]
        return listed


def without_plotly(page: str) -> str:
    return page.replace(get_plotlyjs(), "")


def test_the_page_is_whole_and_needs_nothing_from_outside() -> None:
    page = render_html([full_dossier()])
    outline = Outline(page)
    assert outline.open == []
    assert page.startswith("<!doctype html>")
    assert not {"link", "img", "iframe", "object", "form"} & set(outline.tags)
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in outline.attributes}
    assert "url(" not in without_plotly(page)
    assert "@import" not in without_plotly(page)
    said = " ".join(outline.shown)
    for words in ("run-1", "97", "api_response_time", "2 → 4", "9 wait", "Slowest traces", "Load tests", "binomial"):
        assert words in said, words


def test_only_its_own_scripts_may_run_and_nothing_may_be_fetched() -> None:
    outline = Outline(render_html([full_dossier()]))
    (policy,) = [value for name, value in outline.attributes if name == "content" and value and "default-src" in value]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    run = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in outline.scripts[1:]]
    assert allowed == run
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0]


def test_nothing_in_a_report_can_break_out_of_the_page() -> None:
    evil = {
        "run": {"run": EVIL, "reason": EVIL, "phase": EVIL},
        "verdict": EVIL,
        "system_scores": {EVIL: {"score": 1.0}},
    }
    outline = Outline(render_html([full_dossier(EVIL, **evil)]))
    assert outline.open == []
    assert outline.tags.count("script") == 3
    assert "img" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on") or "<" in name]
    assert EVIL.strip("\u2028") in "".join(outline.shown)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def test_plotly_is_given_no_markup_of_a_reports() -> None:
    figures = Outline(render_html([full_dossier(EVIL)])).figures
    ours = {"<extra>", "</extra>", "<br>"}
    told = [re.sub("|".join(ours), "", text) for text in texts(figures)]
    assert any("&lt;script&gt;" in text for text in told)
    assert not [text for text in told if "<" in text]


def charts(of: Dossier) -> list[Chart]:
    listed = [*draw_course(of), draw_percentiles(of.report), *map(draw_hops, of.report.get("hops") or ())]
    listed += [call.chart for call in list_slow_calls(of.report)]
    return [chart for chart in listed if chart is not None]


def test_plotly_takes_every_figure() -> None:
    drawn = charts(full_dossier())
    assert [chart.title for chart in drawn] == [
        "Request times: small",
        "Workflow times: small",
        "Throughput",
        "Failed requests",
        "Users and requests in flight",
        "Breaches on the time line",
        "Replicas ready",
        "CPU",
        "Routing latency",
        "Generator: lateness",
        "Generator: CPU",
        "Percentiles",
        "Time of a call by hop",
        "Spans",
    ]
    for chart in drawn:
        # It refuses what it does not know; our names of colours it cannot know.
        text = re.sub(r'"--[a-z0-9-]+"', '"#123456"', json.dumps({"data": chart.data, "layout": chart.layout}))
        plotly.graph_objects.Figure(json.loads(text))
        assert chart.rows, chart.title
        assert all(len(row) == len(chart.columns) for row in chart.rows), chart.title
        assert chart.spoken.startswith(chart.title)


def test_every_colour_that_a_figure_names_is_one_of_the_page_in_light_and_dark() -> None:
    page = without_plotly(render_html([full_dossier()]))
    named = set(re.findall(r'"(--[a-z0-9-]+)"', json.dumps(Outline(page).figures)))
    assert named
    for name in named:
        assert page.count(f"{name}: #") == 2, name


def test_times_tell_response_and_service_apart_without_colour() -> None:
    (times, *_) = draw_course(Dossier({"timeline": timeline(5)}))
    assert [(line["name"], line["line"]["dash"]) for line in times.data[:2]] == [
        ("response p50", "solid"),
        ("service p50", "dot"),
    ]
    assert times.data[0]["line"]["color"] == times.data[1]["line"]["color"]
    assert times.rows[0] == ("response p50", "20.0 ms", "20.0 ms", "20.0 ms", "20.0 ms")


@pytest.mark.parametrize("made", [{}, {"points": []}, timeline(1)], ids=["none", "empty", "one point"])
def test_too_short_a_timeline_has_no_chart(made: dict[str, Any]) -> None:
    assert draw_course(Dossier({"timeline": made})) == []


def test_a_quantity_that_never_was_above_zero_has_no_chart() -> None:
    made = timeline(5)
    for point in made["points"]:
        point["systems"]["autmatrix"]["errors"] = 0
    assert "Failed requests" not in [chart.title for chart in draw_course(Dossier({"timeline": made}))]


def test_the_percentile_curve_gives_each_nine_the_same_room() -> None:
    chart = draw_percentiles({"distributions": [distribution()]})
    assert chart
    assert chart.data[0]["x"] == pytest.approx([1, 2, 10, 100, 200])
    assert chart.layout["xaxis"]["ticktext"] == ["50 %", "90 %", "99 %"]
    assert draw_percentiles({}) is None


def test_hops_are_stacked_for_all_calls_and_for_those_before_and_after() -> None:
    chart = draw_hops(full_dossier("relaycore").report["hops"][0])
    assert chart
    assert chart.columns == (
        "",
        "20 calls while routing_latency was broken",
        "20 calls while routing_latency was kept",
        "all 300 calls",
    )
    assert chart.rows[0] == ("relaycore", "90.0 ms", "9.0 ms", "9.0 ms")
    whole = draw_hops(hops())
    assert whole
    assert whole.columns == ("", "all 300 calls")


def test_spans_of_one_name_are_rows_of_their_own() -> None:
    twice = slow_trace()
    twice["spans"].append({**twice["spans"][1], "start_ms": 720.0})
    (call,) = list_slow_calls({"slowest_traces": [twice]})
    assert call.chart
    assert [bar["y"] for bar in call.chart.data] == [[0], [1, 2]]
    assert list_slow_calls({"slowest_traces": [slow_trace(spans=[])]})[0].chart is None


def test_a_page_of_a_suite_of_long_runs_stays_small() -> None:
    long = full_dossier(timeline=timeline(600))
    page = render_html([long] * 4)
    assert page.count("<main>") == 4
    assert page.count(get_plotlyjs()) == 1
    assert len(page.encode()) < SMALL_BYTES


def test_moments_that_lines_share_stand_in_the_page_once() -> None:
    outline = Outline(render_html([full_dossier()]))
    moments = json.loads(outline.scripts[0])["moments"]
    shared = [trace["x"] for trace in outline.figures[0]["data"]]
    assert len(shared) == 6
    assert len(set(shared)) == 1
    assert moments[shared[0]] == [point["second"] * 1e3 for point in timeline(30)["points"]]
    assert len({json.dumps(one) for one in moments}) == len(moments)


def test_a_long_course_is_thinned_to_its_peaks_and_mean_rates() -> None:
    made = timeline(601)
    made["points"][300]["systems"]["autmatrix"]["response_p95_ms"] = 9_000.0
    charts = {chart.title: chart for chart in draw_course(Dossier({"timeline": made}))}
    (p95,) = [line for line in charts["Request times: autmatrix"].data if line["name"] == "response p95"]
    assert len(p95["x"]) <= 300
    assert max(p95["y"]) == 9_000
    rates = charts["Throughput"].data[0]["y"]
    assert rates[0] == 11, "of 10, 11 and 12"


def test_an_older_report_still_makes_a_page() -> None:
    older = {"recommendations": ["look there"], "timeline": {"step_s": 1, "points": [{"second": 1, "systems": {}}] * 3}}
    said = " ".join(Outline(render_html([dossier(**older)])).shown)
    assert "look there" in said
    assert "Over time" in said, "the breach is drawn"
