"""``tidegate summary``: what canary runs did, day by day."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import click

from services.console.options import data_option, json_flag, limit_option


@click.command()
@click.argument("run", required=False)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Show this day, e.g. 2026-03-01.")
@click.option("--markdown", is_flag=True, help="Print Markdown instead of tables.")
@limit_option
@json_flag
@data_option
def summary(run: str | None, day: datetime | None, markdown: bool, limit: int, as_json: bool, data: Path) -> None:
    """List the days of canary runs; with RUN or a day, show the newest of them in full.

    A day is summed up some minutes after it is over, and every two minutes while it goes on: benchmarks met and missed
    by the hour, minutes in breach, error budgets, percentiles, drift against past days, the slowest requests.

    \b
    Examples:
      tidegate summary
      tidegate summary last
      tidegate summary --day 2026-03-01 --markdown
    """
    from services.console.backing import need_backing
    from services.console.report_text import open_console
    from services.console.settings import ConsoleSettings
    from services.console.summary_rows import as_markdown
    from services.console.summary_text import print_day, print_days
    from shared.errors import ConfigError
    from shared.settings import read_settings
    from shared.store.asking import ask_store, find_run
    from shared.store.summaries import SummaryRow, list_summaries

    if markdown and as_json:
        raise ConfigError("--markdown: not together with --json; choose one")
    backing = need_backing(read_settings(ConsoleSettings), data)
    dsn, environment = backing.store_dsn, backing.environment

    async def ask() -> list[SummaryRow]:
        named = None if run is None else await ask_store(dsn, find_run, environment, run)
        asked = None if day is None else day.date()
        return await ask_store(dsn, list_summaries, environment, run=named, day=asked, limit=limit)

    rows = asyncio.run(ask())
    if as_json:
        click.echo(json.dumps([row.as_json() for row in rows], indent=2))
        return
    if not rows:
        click.echo(
            "no summaries; they are made of runs with --profile canary, within a minute of their begin", err=True
        )
        return
    if markdown:
        click.echo("\n".join(as_markdown(row) for row in (rows if day is not None else rows[:1])), nl=False)
        return
    console = open_console()
    if day is None:
        print_days(console, rows)
    if run is not None or day is not None:
        for row in rows if day is not None else rows[:1]:
            console.print()
            print_day(console, row)
