"""``tidegate history``: the runs like one, and where their figures begin to be others."""

import asyncio
import dataclasses
import json
from pathlib import Path

import click

from services.console.options import SHARE, data_option, json_flag


@click.command()
@click.argument("run", default="last")
@click.option("--branch", help="Only runs with this branch tag, by default that of RUN.")
@click.option("--action", "actions", multiple=True, help="Only this action; may be repeated.")
@click.option("--threshold", type=SHARE, default="5%", show_default=True, help="Smaller changes are none.")
@click.option(
    "--false-alarms",
    type=SHARE,
    default="2%",
    show_default=True,
    help="How often a history without any change may show one.",
)
@click.option(
    "--limit", type=click.IntRange(10, 1000), default=200, show_default=True, help="How many runs back at most."
)
@json_flag
@data_option
def history(
    run: str,
    branch: str | None,
    actions: tuple[str, ...],
    threshold: float,
    false_alarms: float,
    limit: int,
    as_json: bool,
    data: Path,
) -> None:
    """Show how p50 and p95 of every action went over the runs like RUN (an id of `tidegate runs`, or `last`).

    Like it is what was asked for the same scenarios, load and profile, on the same branch. A change is told with the
    run it began with, that run's tags, and by how much; it takes five runs on either side.

    \b
    Examples:
      tidegate history
      tidegate history last --branch main --action send_ai_request
      tidegate history 20261123-153012-smoke-ab12 --json | jq '.courses[].changes'
    """
    from services.console.backing import need_backing
    from services.console.comparing.history import Asked, read_history
    from services.console.comparing.history_rows import COLUMNS, list_changes, list_rows, to_document
    from services.console.report_text import open_console, print_table
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    backing = need_backing(read_settings(ConsoleSettings), data)
    asked = Asked(run, branch, limit, actions, threshold, false_alarms)
    found = asyncio.run(ask_store(backing.store_dsn, read_history, backing.environment, asked))
    if as_json:
        click.echo(json.dumps({"asked": dataclasses.asdict(asked), **to_document(found)}, indent=2))
        return
    console = open_console()
    print_table(console, COLUMNS, list_rows(found))
    for line in list_changes(found):
        console.print(line, soft_wrap=True, markup=False)
