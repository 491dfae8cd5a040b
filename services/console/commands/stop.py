"""``tidegate stop``: ask that a run stops."""

import asyncio
from pathlib import Path

import click

from services.console.options import data_option


@click.command()
@click.argument("run")
@data_option
def stop(run: str, data: Path) -> None:
    """Stop RUN (an id of `tidegate runs`, or `last`): its load ends within 2 s, what was measured is reported.

    \b
    Example:
      tidegate stop last
    """
    from services.console.backing import need_backing
    from services.console.settings import ConsoleSettings
    from services.console.stopping import stop_run
    from shared.settings import read_settings

    backing = need_backing(read_settings(ConsoleSettings), data)
    click.echo(asyncio.run(stop_run(backing, run)))
