"""Markdown that a pull request shows as it was meant, and JUnit XML that CI systems read."""

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from services.console.report_junit import render_junit
from services.console.report_markdown import MOST_ROWS, cell, render_markdown
from tests.unit.console_cases import BEGUN, GATE, comparison, dossier, full_dossier, report, result

EVIL = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) ![i](http://evil) @team #12 | `x` **b**\n# head"
COMMENT_LETTERS = 65_536


def test_markdown_says_what_is_wrong_before_what_is_right() -> None:
    text = render_markdown([full_dossier(critical_issues=["RelayCore is critical"])])
    headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert headings == [
        "## ✅ met: run-1",
        "### Critical issues",
        "### Recommendations",
        "### Not kept",
        "### Load tests",
        "### Where the time went",
        "### Breaches",
    ]
    assert "| small | workflow_execution_time mean | ❌ missed | 50.00 s | 45.00 s | – | 31 | value | – |" in text
    assert text.count("<details>") == text.count("</details>") == 2


def test_every_row_of_a_table_has_the_cells_of_its_head() -> None:
    counted: list[int] = []
    for line in render_markdown([full_dossier(EVIL)]).splitlines():
        if not line.startswith("|"):
            counted = []
            continue
        counted.append(line.count("|"))
        assert counted[-1] == counted[0], line


def test_nothing_in_a_report_is_markup_link_or_mention() -> None:
    text = render_markdown([full_dossier(EVIL, run={"run": EVIL, "phase": EVIL}, verdict=EVIL)])
    ours = re.sub(r"</?(details|summary)>", "", text)
    assert not re.search(r"<[a-z/]|\]\(|@team|://|\*\*b|`", ours)
    assert "\n# head" not in text
    assert "&#64;team" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("api_response_time", "api_response_time"),
        ("_emphasis_", "&#95;emphasis&#95;"),
        ("a | b", "a &#124; b"),
        ("two\nlines", "two lines"),
        ("www.evil.example", "www&#46;evil.example"),
        ("99.9 %", "99.9 %"),
        ("x" * 500, "x" * 399 + "…"),
    ],
)
def test_text_is_shown_letter_by_letter(text: str, told: str) -> None:
    assert cell(text) == told


def test_a_suite_of_many_actions_stays_within_a_comment() -> None:
    many = dossier(results=[result(f"action_number_{number}") for number in range(256)], benchmark_comparison=[])
    text = render_markdown([many] * 4)
    assert f"{256 - MOST_ROWS} more are in the page and the JSON." in text
    assert len(text) < COMMENT_LETTERS


# The common schema, as Jenkins and GitLab read it: which children and attributes an element may have.
SCHEMA: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, {"name", "tests", "failures", "errors", "skipped", "time"}),
    "testsuite": (
        {"properties", "testcase", "system-out", "system-err"},
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
    ),
    "properties": ({"property"}, set()),
    "property": (set(), {"name", "value"}),
    "testcase": ({"failure", "error", "skipped"}, {"name", "classname", "time", "file", "line"}),
    "failure": (set(), {"message", "type"}),
    "skipped": (set(), {"message"}),
    "error": (set(), {"message"}),
}


def junit(*reports: dict[str, Any]) -> ET.Element:
    root = ET.fromstring(render_junit(reports))  # noqa: S314 - our own
    for element in root.iter():
        children, attributes = SCHEMA[element.tag]
        assert {child.tag for child in element} <= children
        assert set(element.attrib) <= attributes
    return root


ROWS = [
    comparison(),
    comparison("critical", metric="throughput", recommendation="add replicas", test="poisson", confidence=0.999),
    comparison("insufficient", metric="cpu_usage", note="3 samples, 5 needed"),
]


def test_junit_counts_what_it_holds() -> None:
    root = junit(report(benchmark_comparison=ROWS, gates=[GATE]))
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"run-1.autmatrix", "run-1.small"}
    autmatrix = suites["run-1.autmatrix"]
    assert [autmatrix.get(key) for key in ("tests", "failures", "skipped", "errors")] == ["3", "1", "1", "0"]
    assert [[child.tag for child in case] for case in autmatrix.iter("testcase")] == [[], ["failure"], ["skipped"]]
    assert [root.get(key) for key in ("tests", "failures", "skipped", "errors")] == ["4", "2", "1", "0"]


def test_a_failure_says_by_how_much_by_which_test_and_what_to_do() -> None:
    root = junit(report(benchmark_comparison=ROWS))
    (failure,) = root.iter("failure")
    assert failure.get("type") == "critical"
    assert failure.get("message") == "critical: 12.5 ms, target 200 ms, critical 500 ms, 10 samples"
    assert failure.text == "-94% off the target; test poisson, confidence 99.9 %\nadd replicas"
    (skipped,) = root.iter("skipped")
    assert str(skipped.get("message")).endswith("; 3 samples, 5 needed")


def test_cases_add_up_to_the_time_of_the_run() -> None:
    run = {**report()["run"], "duration_s": 60.0}
    root = junit(report(run=run, benchmark_comparison=ROWS, gates=[GATE]))
    assert sum(float(str(case.get("time"))) for case in root.iter("testcase")) == pytest.approx(60)
    assert root.get("time") == "60.000"
    assert {suite.get("timestamp") for suite in root} == {BEGUN.strftime("%Y-%m-%dT%H:%M:%S")}
    told = {item.get("name"): item.get("value") for item in root.iter("property")}
    assert (told["run"], told["verdict"], told["score"]) == ("run-1", "met", "97.4")


def test_junit_stays_xml_whatever_a_report_says() -> None:
    evil = comparison("missed", system='a\x00b<&"', metric="m\x1b\ud800\uffff", note="]]>\x07", recommendation="\x08")
    root = junit(report(benchmark_comparison=[evil]))
    assert root[0].get("name") == 'run-1.ab<&"'


def test_reports_of_a_suite_are_one_document() -> None:
    assert [suite.get("name") for suite in junit(report(), report())] == ["run-1.autmatrix"] * 2
    assert junit().get("tests") == "0"


@pytest.mark.parametrize("rows", [[], [comparison()]], ids=["nothing measured", "all that was measured is met"])
def test_a_run_that_could_not_be_carried_through_is_an_error(rows: list[dict[str, Any]]) -> None:
    root = junit(report(benchmark_comparison=rows, verdict="invalid", exit_code=4, critical_issues=["no targets"]))
    assert (root.get("errors"), root.get("failures")) == ("1", "0")
    (error,) = root.iter("error")
    assert error.get("message") == "invalid; no targets"


def test_what_confirms_nothing_although_every_benchmark_seems_met_is_skipped() -> None:
    root = junit(report(benchmark_comparison=[comparison()], verdict="invalid", exit_code=3))
    assert (root.get("tests"), root.get("errors"), root.get("skipped")) == ("2", "0", "1")
