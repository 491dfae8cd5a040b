"""``tidegate runs``: what has been run, newest first."""

import asyncio
import dataclasses
import json
from pathlib import Path

import click

from services.console.options import data_option, json_flag, limit_option


@click.command()
@limit_option
@json_flag
@data_option
def runs(limit: int, as_json: bool, data: Path) -> None:
    """List runs, newest first, with phase, verdict and score.

    \b
    Examples:
      tidegate runs
      tidegate runs --limit 5 --json | jq -r '.[].run'
    """

    from services.console.backing import need_backing
    from services.console.report_text import open_console, print_table
    from services.console.settings import ConsoleSettings
    from services.console.wording import format_clock
    from shared.settings import read_settings
    from shared.store.asking import ask_store
    from shared.store.listings import list_reported_runs

    backing = need_backing(read_settings(ConsoleSettings), data)
    found = asyncio.run(ask_store(backing.store_dsn, list_reported_runs, backing.environment, limit))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in found], indent=2, default=str))
        return
    rows = []
    for row in found:
        took = (
            ""
            if not (row.started_at and row.ended_at)
            else format_clock((row.ended_at - row.started_at).total_seconds())
        )
        score = "" if row.overall_score is None else f"{row.overall_score:.0f}"
        rows.append((row.run, row.phase, row.verdict or "", score, took, row.requested_by, row.reason))
    print_table(open_console(), ("run", "phase", "verdict", "#score", "#took", "requested by", "reason"), rows)
    if not rows:
        click.echo("no runs yet; start one with tidegate run smoke", err=True)
