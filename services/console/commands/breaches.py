"""``tidegate breaches``: episodes in which a benchmark was not met, and what people say about them."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.console.options import TEXT, data_option, json_flag, limit_option
from shared.option_types import DURATION

if TYPE_CHECKING:
    from services.console.backing import Backing

BY = click.option("--by", type=TEXT, help="Who says so.  [default: the user of this process]")


@click.group(invoke_without_command=True)
@click.option("--run", help="Only of this run (an id of `tidegate runs`, or `last`).")
@click.option("--open", "open_only", is_flag=True, help="Only those not resolved yet.")
@limit_option
@json_flag
@data_option
@click.pass_context
def breaches(context: click.Context, run: str | None, open_only: bool, limit: int, as_json: bool, data: Path) -> None:
    """List breaches of benchmarks, each at its latest state, newest first; silence or acknowledge them.

    \b
    Examples:
      tidegate breaches --open
      tidegate breaches --run last --json
      tidegate breaches ack b0c3e5f0a2d4e6f80a2b4 --note "looking at it"
      tidegate breaches silence relaycore/routing_latency --for 2h --reason "moving hosts"
    """
    if context.invoked_subcommand is not None:
        return
    from rich.text import Text

    from services.console.report_text import open_console
    from services.console.wording import describe_attention, describe_breach
    from shared.contracts.breach import BreachEvent
    from shared.store.asking import ask_store, find_run
    from shared.store.breaches import list_breaches

    backing = _backing(data)
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
        line = Text(f"{breach.opened_at:%Y-%m-%d %H:%M:%S}  {breach.breach}  ", style="dim")
        line.append(describe_breach(breach), style="green" if breach.resolved_at else "red")
        line.append(describe_attention(breach), style="dim")
        console.print(line, soft_wrap=True)
    if not events:
        click.echo("no breaches", err=True)


@breaches.command()
@click.argument("name", metavar="ID")
@BY
@click.option("--note", type=TEXT, help="What is done about it.")
@data_option
def ack(name: str, by: str | None, note: str | None, data: Path) -> None:
    """Acknowledge the open breach ID: somebody has taken it on. It is told as an event of the breach.

    \b
    Example:
      tidegate breaches ack b0c3e5f0a2d4e6f80a2b4 --by ada --note "rolling back"
    """
    from services.console.attention import acknowledge

    click.echo(asyncio.run(acknowledge(_backing(data), name, by or _user(), note or "")))


@breaches.command()
@click.argument("what", metavar="[SYSTEM[/METRIC]]", required=False, default="")
@click.option("--for", "lasts_s", type=DURATION, required=True, help="How long: 30m, 2h, 3d; 30 days at most.")
@click.option("--reason", type=TEXT, required=True, help="Why; whoever lists silences reads it.")
@click.option("--run", default="", help="Only breaches of this run (an id of `tidegate runs`, or `last`).")
@click.option("--scenario", default="", help="Only breaches of benchmarks that are restricted to this scenario.")
@BY
@json_flag
@data_option
def silence(
    what: str, lasts_s: float, reason: str, run: str, scenario: str, by: str | None, as_json: bool, data: Path
) -> None:
    """Call nobody for breaches of SYSTEM[/METRIC] for a while; '*' is every system.

    They are judged, told, recorded and scaled on as ever, but marked, and forwarders pass them by.

    \b
    Examples:
      tidegate breaches silence relaycore --for 2h --reason "moving hosts"
      tidegate breaches silence '*/error_rate' --for 30m --reason "known bug" --run smoke-20260131-1200
    """
    from services.console.attention import begin_silence
    from services.console.wording import describe_silence

    system, _, metric = what.partition("/")
    if not (system or metric or run or scenario):
        raise click.UsageError("name a SYSTEM[/METRIC], a --run or a --scenario; '*' silences every system")
    matchers = {"system": system.replace("*", ""), "metric": metric.replace("*", ""), "run": run, "scenario": scenario}
    begun = asyncio.run(begin_silence(_backing(data), matchers, _known_metrics(), lasts_s, reason, by or _user()))
    click.echo(begun.model_dump_json(indent=2) if as_json else describe_silence(begun))


@breaches.command()
@click.option("--all", "ended_too", is_flag=True, help="Also those that are over.")
@json_flag
@data_option
def silences(ended_too: bool, as_json: bool, data: Path) -> None:
    """List the silences in force.

    \b
    Examples:
      tidegate breaches silences
      tidegate breaches silences --all --json
    """
    from services.console.attention import list_silences
    from services.console.wording import describe_silence

    found = asyncio.run(list_silences(_backing(data), ended_too=ended_too))
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
        return
    for one in found:
        click.echo(describe_silence(one))
    if not found:
        click.echo("no silences", err=True)


@breaches.command()
@click.argument("name", metavar="ID")
@data_option
def unsilence(name: str, data: Path) -> None:
    """End the silence ID now.

    \b
    Example:
      tidegate breaches unsilence s1f2e3d4c
    """
    from services.console.attention import end_silence

    click.echo(asyncio.run(end_silence(_backing(data), name)))


def _backing(data: Path) -> "Backing":
    from services.console.backing import need_backing
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings

    return need_backing(read_settings(ConsoleSettings), data)


def _known_metrics() -> dict[str, tuple[str, ...]]:
    from services.console.settings import ConsoleSettings
    from shared.contracts.benchmarks_file import load_benchmarks
    from shared.settings import read_settings

    settings = read_settings(ConsoleSettings)
    benchmarks = load_benchmarks(settings.benchmarks_path, settings.environment).benchmarks
    return {name: tuple(one.metric for one in system.benchmarks) for name, system in benchmarks.systems.items()}


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise click.UsageError("give --by: this process's user has no name") from error
