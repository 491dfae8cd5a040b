"""A report as JUnit XML, the dialect that CI systems read: a suite per system, a case per benchmark and gate. Pure.

A run has one duration and no order among what it is judged by. So each case has its share of it, and a CI system that
adds up cases tells how long the run was.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

from services.console.report_rows import ComparisonRow, Report, list_comparisons, summarize
from services.console.stress_words import StressPart, read_stress

NOT_CARRIED = 4
"""The exit code of a run that could not be carried through."""


def render_junit(reports: Iterable[Report]) -> bytes:
    """One document for all reports: missed is a failure, what could not be judged is skipped."""
    root = ET.Element("testsuites", name="tidegate")
    for report in reports:
        stress = read_stress(report)
        if stress is not None:
            root.append(_search(report, stress))
            continue
        rows = list_comparisons(report)
        by_system: dict[str, list[ComparisonRow]] = {}
        for row in rows:
            by_system.setdefault(row.system, []).append(row)
        share_s = _duration_s(report.get("run") or {}) / max(1, len(rows))
        for system, of_system in by_system.items():
            root.append(_suite(report, system, of_system, share_s))
        if not _carried_through(report) or (
            summarize(report).tone == "unsure" and all(row.tone == "good" for row in rows)
        ):
            root.append(_whole_run(report))
    suites = list(root)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _suite(report: Report, system: str, rows: list[ComparisonRow], share_s: float) -> ET.Element:
    tones, summary = [row.tone for row in rows], summarize(report)
    suite = ET.Element(
        "testsuite",
        name=_printable(f"{summary.run}.{system}"),
        tests=str(len(rows)),
        failures=str(tones.count("bad")),
        errors="0",
        skipped=str(tones.count("unsure")),
        time=f"{share_s * len(rows):.3f}",
    )
    if moment := _moment(report.get("run") or {}):
        suite.set("timestamp", moment)
    scored = (report.get("system_scores") or {}).get(system) or {}
    properties = ET.SubElement(suite, "properties")
    told = {
        "run": summary.run,
        "verdict": summary.verdict,
        "overall_score": summary.score,
        "score": scored.get("score"),
        "coverage": scored.get("coverage"),
    }
    for name, value in told.items():
        if value is not None:
            ET.SubElement(properties, "property", name=name, value=_printable(str(value)))
    for row in rows:
        suite.append(_case(system, row, share_s))
    return suite


def _carried_through(report: Report) -> bool:
    return report.get("exit_code") != NOT_CARRIED


def _whole_run(report: Report) -> ET.Element:
    """What no benchmark tells: that the run could not be carried through, or that what is stored confirms nothing."""
    summary, error = summarize(report), not _carried_through(report)
    tally = {"tests": "1", "failures": "0", "errors": str(int(error)), "skipped": str(int(not error))}
    suite = ET.Element("testsuite", {"name": _printable(f"{summary.run}.run"), **tally, "time": "0.000"})
    case = ET.SubElement(suite, "testcase", classname="tidegate.run", name="carried through", time="0.000")
    said = _printable("; ".join([summary.verdict, *summary.critical_issues]))
    ET.SubElement(case, "error" if error else "skipped", message=said)
    return suite


def _search(report: Report, stress: StressPart) -> ET.Element:
    """A search asks one question; the benchmarks that it broke on its way are no failures."""
    summary, time_s = summarize(report), f"{_duration_s(report.get('run') or {}):.3f}"
    error, bad = not _carried_through(report), summary.tone == "bad"
    tally = {"errors": error, "failures": bad and not error, "skipped": summary.tone == "unsure" and not error}
    counts = {kind: str(int(counted)) for kind, counted in tally.items()}
    name = _printable(f"{summary.run}.stress")
    suite = ET.Element("testsuite", {"name": name, "tests": "1", "time": time_s, **counts})
    case = ET.SubElement(suite, "testcase", classname="tidegate.stress", name="breaking point", time=time_s)
    said = _printable(f"{summary.verdict}: {stress.answer}")
    if error:
        ET.SubElement(case, "error", message=said)
    elif bad:
        ET.SubElement(case, "failure", message=said, type=_printable(summary.verdict))
    elif summary.tone == "unsure":
        ET.SubElement(case, "skipped", message=said)
    else:
        ET.SubElement(case, "system-out").text = said
    return suite


def _case(system: str, row: ComparisonRow, share_s: float) -> ET.Element:
    name = " ".join(part for part in (row.metric, row.statistic) if part)
    case = ET.Element(
        "testcase",
        classname=_printable(f"tidegate.{system}"),
        name=_printable(name),
        time=f"{share_s:.3f}",
    )
    said = f"{row.verdict}: {row.actual}, target {row.target}, critical {row.critical}, {row.samples} samples"
    if row.tone == "bad":
        failure = ET.SubElement(case, "failure", message=_printable(said), type=_printable(row.verdict))
        failure.text = _printable("\n".join(part for part in (_judged(row), row.recommendation, row.reason) if part))
    elif row.tone == "unsure":
        ET.SubElement(case, "skipped", message=_printable(f"{said}; {row.reason}" if row.reason else said))
    return case


def _judged(row: ComparisonRow) -> str:
    return f"{row.deviation} off the target; test {row.test}, confidence {row.confidence}"


def _duration_s(run: Mapping[str, Any]) -> float:
    value = run.get("duration_s")
    return max(0.0, float(value)) if isinstance(value, int | float) else 0.0


def _moment(run: Mapping[str, Any]) -> str:
    """The schema's dateTime has no zone: UTC."""
    try:
        return datetime.fromisoformat(str(run.get("started_at"))).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return ""


def _printable(text: str) -> str:
    """XML 1.0 has no place for control characters, half characters and the two that are none."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c < "\ufffe"))
