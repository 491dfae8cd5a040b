"""``tidegate breaches``: episodes in which a benchmark was not met, newest first."""

import asyncio
import json
from pathlib import Path

import click

from services.console.options import data_option, json_flag, limit_option


@click.command()
@click.option("--run", help="Only of this run (an id of `tidegate runs`, or `last`).")
@click.option("--open", "open_only", is_flag=True, help="Only those not resolved yet.")
@limit_option
@json_flag
@data_option
def breaches(run: str | None, open_only: bool, limit: int, as_json: bool, data: Path) -> None:
    """List breaches of benchmarks, each at its latest state.

    \b
    Examples:
      tidegate breaches --open
      tidegate breaches --run last --json
    """
    from rich.text import Text

    from services.console.backing import need_backing
    from services.console.reading import ask_store, find_run
    from services.console.report_text import open_console
    from services.console.settings import ConsoleSettings
    from services.console.wording import describe_breach
    from shared.contracts.breach import BreachEvent
    from shared.settings import read_settings
    from shared.store.breaches import list_breaches

    backing = need_backing(read_settings(ConsoleSettings), data)
    dsn, environment = backing.store_dsn, backing.environment

    async def ask() -> list[BreachEvent]:
        named = None if run is None else await ask_store(dsn, find_run, environment, run)
        rows = await ask_store(dsn, list_breaches, environment, run=named, open_only=open_only, limit=limit)
        return [BreachEvent.model_validate(row.event) for row in rows]

    events = asyncio.run(ask())
    if as_json:
        click.echo(json.dumps([event.model_dump(mode="json") for event in events], indent=2))
        return
    console = open_console()
    for event in events:
        breach = event.data
        line = Text(f"{breach.opened_at:%Y-%m-%d %H:%M:%S}  ", style="dim")
        line.append(describe_breach(breach), style="green" if breach.resolved_at else "red")
        console.print(line, soft_wrap=True)
    if not events:
        click.echo("no breaches", err=True)
