"""``tidegate baseline``: names that stand for runs which others are compared with."""

import asyncio
import dataclasses
import json
from pathlib import Path

import click

from services.console.options import data_option, json_flag

RESERVED = ("last", "last-good")


@click.group()
def baseline() -> None:
    """Name runs that others are compared with: `tidegate compare --baseline NAME`.

    \b
    Examples:
      tidegate baseline set main last
      tidegate baseline list
      tidegate baseline remove release-3
    """


@baseline.command("set")
@click.argument("name")
@click.argument("run", default="last")
@data_option
def set_(name: str, run: str, data: Path) -> None:
    """Let NAME stand for RUN (an id of `tidegate runs`, or `last`) from now on."""
    from services.console.backing import need_backing
    from services.console.person import who
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings
    from shared.store.asking import Connection, ask_store, find_run
    from shared.store.baselines import set_baseline

    if name in RESERVED or not name.strip() or name.startswith("-"):
        raise click.UsageError(f"NAME: {name!r} cannot name a baseline; write e.g. main or release-3")
    backing = need_backing(read_settings(ConsoleSettings), data)

    async def keep(connection: Connection) -> str:
        found = await find_run(connection, backing.environment, run)
        await set_baseline(connection, backing.environment, name, found, by=who())
        return found

    click.echo(f"{name} is {asyncio.run(ask_store(backing.store_dsn, keep))}")


@baseline.command("list")
@json_flag
@data_option
def list_(as_json: bool, data: Path) -> None:
    """List names with the run each stands for."""
    from services.console.backing import need_backing
    from services.console.report_text import open_console, print_table
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings
    from shared.store.asking import ask_store
    from shared.store.baselines import list_baselines

    backing = need_backing(read_settings(ConsoleSettings), data)
    found = asyncio.run(ask_store(backing.store_dsn, list_baselines, backing.environment))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in found], indent=2, default=str))
        return
    rows = [(row.name, row.run, f"{row.set_at:%Y-%m-%d %H:%M}", row.set_by) for row in found]
    print_table(open_console(), ("name", "run", "set", "by"), rows)
    if not rows:
        click.echo("no baselines yet; name one with tidegate baseline set NAME RUN", err=True)


@baseline.command("remove")
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Forget NAME, and what it stood for before."""
    from services.console.backing import need_backing
    from services.console.settings import ConsoleSettings
    from shared.errors import ConfigError, closest
    from shared.settings import read_settings
    from shared.store.asking import ask_store
    from shared.store.baselines import list_baselines, remove_baseline

    backing = need_backing(read_settings(ConsoleSettings), data)
    if not asyncio.run(ask_store(backing.store_dsn, remove_baseline, backing.environment, name)):
        known = [row.name for row in asyncio.run(ask_store(backing.store_dsn, list_baselines, backing.environment))]
        raise ConfigError(f"NAME: no baseline {name!r}{closest(name, known)}")
    click.echo(f"{name} is forgotten")
