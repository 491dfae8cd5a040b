"""``tidegate report``: the stored report of a run, shown or written."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.console.options import data_option, output_option
from shared.option_types import OUTPUT

if TYPE_CHECKING:
    from shared.store.summaries import SummaryRow


@click.command()
@click.argument("run", default="last")
@output_option("JSON")
@click.option("--html", "html_path", type=OUTPUT, help="Write a page.")
@click.option("--junit", "junit_path", type=OUTPUT, help="Write JUnit XML.")
@click.option("--markdown", "markdown_path", type=OUTPUT, help="Write Markdown.")
@data_option
def report(
    run: str,
    json_path: str | None,
    html_path: Path | None,
    junit_path: Path | None,
    markdown_path: Path | None,
    data: Path,
) -> None:
    """Show the report of RUN (an id of `tidegate runs`, or `last`), or write it to files.

    A canary run that still goes on has no report yet: its days so far are shown instead (`tidegate summary`).

    \b
    Examples:
      tidegate report last
      tidegate report last --json -
      tidegate report 20261123-153012-smoke-ab12 --html smoke.html
      tidegate report last --markdown comment.md --junit report.xml

    The page holds all it needs and fetches nothing; Markdown is short enough for a comment on a pull request.
    docs/reports.md tells how to read either.
    """

    from services.console.backing import need_backing
    from services.console.outputs import ReportFiles
    from services.console.reading import find_dossier, find_going_on
    from services.console.report_text import open_console, print_dossier
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    files = ReportFiles(json_path, html_path, junit_path, markdown_path)
    backing = need_backing(read_settings(ConsoleSettings), data)
    days = asyncio.run(ask_store(backing.store_dsn, find_going_on, backing.environment, run))
    if days:
        show_going_on(days, json_path, {"--html": html_path, "--junit": junit_path, "--markdown": markdown_path})
        return
    dossier = asyncio.run(ask_store(backing.store_dsn, find_dossier, backing.environment, run))
    if not (json_path or html_path or junit_path or markdown_path):
        print_dossier(open_console(), dossier)
    for path in files.write([dossier]):
        click.echo(f"wrote {path}", err=True)


def show_going_on(days: "Sequence[SummaryRow]", json_path: str | None, others: Mapping[str, Path | None]) -> None:
    """The days of a canary run that goes on, the newest in full; ``ConfigError`` for what only a report can be."""
    from services.console.report_text import open_console
    from services.console.summary_text import print_day, print_days
    from shared.errors import ConfigError

    newest = days[0]
    option = next((name for name, path in others.items() if path), None)
    if option:
        raise ConfigError(
            f"{option}: run {newest.run} still goes on and has no report yet; --json writes its days so far"
        )
    if json_path:
        text = json.dumps({"run": newest.run, "going_on": True, "days": [day.as_json() for day in days]}, indent=2)
        if json_path == "-":
            click.echo(text)
        else:
            Path(json_path).write_text(text + "\n", encoding="utf-8")
            click.echo(f"wrote {json_path}", err=True)
        return
    console = open_console()
    print_days(console, days)
    console.print()
    print_day(console, newest)
