"""A comparison on a terminal, as Markdown for a pull request, as JUnit XML for a pipeline."""

from xml.etree import ElementTree as ET

from rich.console import Console
from rich.text import Text

from services.console.comparing.compare import Comparison
from services.console.comparing.rows import (
    COLUMNS,
    describe_rules,
    describe_run,
    list_cells,
    list_reasons,
    name_action,
    summarize,
)
from services.console.comparing.verdict import Judged, Verdict, describe
from services.console.report_text import print_table

STYLES = {Verdict.REGRESSED: "red", Verdict.IMPROVED: "green", Verdict.SAME: "", Verdict.INSUFFICIENT: "yellow"}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Both runs, in what they differ, a row per action, what moved, and the verdict last, where it stays in sight."""
    named = f"  ({comparison.baseline})" if comparison.baseline else ""
    console.print(Text(f"base       {describe_run(comparison.base)}{named}"), soft_wrap=True)
    console.print(Text(f"candidate  {describe_run(comparison.candidate)}"), soft_wrap=True)
    for warning in comparison.warnings:
        console.print(Text(f"differs    {warning}", style="yellow"), soft_wrap=True)
    console.print()
    rows: list[tuple[str | Text, ...]] = []
    for action in comparison.actions:
        name, verdict, *cells = list_cells(action)
        rows.append((name, Text(verdict, style=STYLES[action.verdict]), *(cell.replace("**", "") for cell in cells)))
    print_table(console, COLUMNS, rows)
    console.print()
    for action, line in list_reasons(comparison):
        console.print(Text(line, style=STYLES[action.verdict]), soft_wrap=True)
    console.print(Text(describe_rules(comparison), style="dim"), soft_wrap=True)
    console.print(
        Text(f"{comparison.verdict.value}: {summarize(comparison)}", style=f"bold {STYLES[comparison.verdict]}")
    )


def render_markdown(comparison: Comparison) -> str:
    """The verdict as a heading, a table, the reasons; what moved is bold."""
    named = f" ({comparison.baseline})" if comparison.baseline else ""
    lines = [
        f"### Performance: {comparison.verdict.value} – {summarize(comparison)}",
        "",
        f"`{describe_run(comparison.candidate)}` against `{describe_run(comparison.base)}`{named}",
        "",
        "| " + " | ".join(column.lstrip("#") for column in COLUMNS) + " |",
        "|" + "|".join("---:" if column.startswith("#") else "---" for column in COLUMNS) + "|",
        *("| " + " | ".join(map(_escaped, list_cells(action))) + " |" for action in comparison.actions),
        "",
        *(f"- {_escaped(line)}" for _, line in list_reasons(comparison)),
        *(f"- differs: {_escaped(warning)}" for warning in comparison.warnings),
        "",
        describe_rules(comparison),
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_")


def render_junit(comparison: Comparison) -> bytes:
    """A test suite, a case per action: what regressed failed, what could not be told is skipped."""
    verdicts = [action.verdict for action in comparison.actions]
    root = ET.Element("testsuites", name="tidegate compare")
    suite = ET.SubElement(
        root,
        "testsuite",
        name=f"{comparison.base.run} against {comparison.candidate.run}",
        tests=str(len(verdicts)),
        failures=str(verdicts.count(Verdict.REGRESSED)),
        skipped=str(verdicts.count(Verdict.INSUFFICIENT)),
        errors="0",
    )
    for action in comparison.actions:
        _add_case(suite, action)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _add_case(suite: ET.Element, action: Judged) -> None:
    key = action.compared.key
    case = ET.SubElement(suite, "testcase", classname=f"tidegate.{key.system}", name=name_action(key))
    if action.verdict is Verdict.REGRESSED:
        told = "\n".join(describe(measure) for measure in action.compared.measures if measure.change is not None)
        ET.SubElement(case, "failure", message=action.reason).text = told
    elif action.verdict is Verdict.INSUFFICIENT:
        ET.SubElement(case, "skipped", message=action.reason)
