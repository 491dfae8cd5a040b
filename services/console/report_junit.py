"""A report as JUnit XML: a test suite per system, a test case per benchmark and gate. Pure."""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from services.console.report_rows import ComparisonRow, Report, Summary, list_comparisons, summarize
from services.console.stress_words import StressPart, read_stress


def render_junit(reports: Iterable[Report]) -> bytes:
    """One document for all reports: missed is a failure, what could not be judged is skipped."""
    root = ET.Element("testsuites", name="tidegate")
    for report in reports:
        run = summarize(report).run
        stress = read_stress(report)
        if stress is not None:
            root.append(_search(run, summarize(report), stress))
            continue
        by_system: dict[str, list[ComparisonRow]] = {}
        for row in list_comparisons(report):
            by_system.setdefault(row.system, []).append(row)
        for system, rows in by_system.items():
            root.append(_suite(run, system, rows))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _search(run: str, summary: Summary, stress: StressPart) -> ET.Element:
    """A search has one question; the benchmarks it broke on its way are no failures."""
    tones = [summary.tone]
    suite = ET.Element(
        "testsuite",
        name=_printable(f"{run}.stress"),
        tests="1",
        failures=str(tones.count("bad")),
        skipped=str(tones.count("unsure")),
        errors="0",
    )
    case = ET.SubElement(suite, "testcase", classname="tidegate.stress", name="breaking point")
    if summary.tone == "good":
        ET.SubElement(case, "system-out").text = _printable(stress.answer)
    else:
        what = "failure" if summary.tone == "bad" else "skipped"
        ET.SubElement(case, what, message=_printable(f"{summary.verdict}: {stress.answer}"))
    return suite


def _suite(run: str, system: str, rows: list[ComparisonRow]) -> ET.Element:
    tones = [row.tone for row in rows]
    suite = ET.Element(
        "testsuite",
        name=_printable(f"{run}.{system}"),
        tests=str(len(rows)),
        failures=str(tones.count("bad")),
        skipped=str(tones.count("unsure")),
        errors="0",
    )
    for row in rows:
        name = " ".join(part for part in (row.metric, row.statistic) if part)
        case = ET.SubElement(suite, "testcase", classname=_printable(f"tidegate.{system}"), name=_printable(name))
        said = f"{row.verdict}: {row.actual}, target {row.target}, critical {row.critical}, {row.samples} samples"
        if row.tone == "bad":
            ET.SubElement(case, "failure", message=_printable(said)).text = _printable(row.reason) or None
        elif row.tone == "unsure":
            ET.SubElement(case, "skipped", message=_printable(said))
    return suite


def _printable(text: str) -> str:
    """XML 1.0 has no place for control characters."""
    return "".join(c for c in text if c in "\t\n" or (ord(c) >= 0x20 and not 0xD800 <= ord(c) <= 0xDFFF))
