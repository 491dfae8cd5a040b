"""Summaries of canary days on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from services.console.report_text import print_table
from services.console.summary_rows import DAYS, Section, day_row, drift_line, headline, requests_line, sections
from shared.store.summaries import SummaryRow


def print_days(console: Console, rows: Sequence[SummaryRow]) -> None:
    """One line a day."""
    print_table(console, DAYS, [day_row(row) for row in rows])


def print_day(console: Console, row: SummaryRow) -> None:
    """All of one day."""
    console.print(Text(headline(row), style="bold"))
    console.print(Text(requests_line(row.body)), soft_wrap=True)
    console.print(Text(drift_line(row.body)), soft_wrap=True)
    for section in sections(row.body):
        _print_section(console, section)


def _print_section(console: Console, section: Section) -> None:
    console.print()
    console.print(Text(section.title, style="bold"))
    styled = [
        tuple(Text(cell, style="red" if number in section.bad else "") for cell in cells)
        for number, cells in enumerate(section.rows)
    ]
    print_table(console, section.columns, styled)
