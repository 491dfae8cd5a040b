"""``tidegate scaling``: what the scaler decided, did, and whether it helped; what else can be asked of it.

Commands that run the scaler's own decisions live in ``services/scaler/commands`` and are imported when called.
"""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.console.lazy_group import LazyCommand, LazyGroup
from services.console.options import data_option, json_flag, limit_option

if TYPE_CHECKING:
    from services.console.backing import Backing

ORDERS = "services.console.commands.scaling_orders"
SCALER = "services.scaler.commands"

SECTIONS = {
    "Orders": {
        "set": LazyCommand(f"{ORDERS}:set_", "Hold a service at a number of replicas for a while."),
        "pause": LazyCommand(f"{ORDERS}:pause", "Leave a service at the replicas it has."),
        "resume": LazyCommand(f"{ORDERS}:resume", "Let the scaler decide again."),
    },
    "The audit": {
        "why": LazyCommand(f"{SCALER}.why:why", "Explain what was decided at a time, and what came of it."),
        "verify": LazyCommand(f"{SCALER}.verify:verify", "Find records that were changed, lost or moved."),
        "rederive": LazyCommand(f"{SCALER}.rederive:rederive", "Make decisions again from their records."),
    },
    "Trying rules": {
        "replay": LazyCommand(f"{SCALER}.replay:replay", "Rules and other policies over a recorded load, scored."),
    },
}


@click.group(cls=LazyGroup, sections=SECTIONS, invoke_without_command=True)
@click.option("--service", help="Only of this service, e.g. relaycore.")
@click.option("--run", help="Only decisions made for this run (an id of `tidegate runs`, or `last`).")
@click.option("--moves", is_flag=True, help="Leave out decisions that nothing should change.")
@limit_option
@json_flag
@data_option
@click.pass_context
def scaling(
    context: click.Context, service: str | None, run: str | None, moves: bool, limit: int, as_json: bool, data: Path
) -> None:
    """List scaling decisions with their reason, their results and their effects.

    \b
    Examples:
      tidegate scaling --moves
      tidegate scaling --service relaycore --run last --json
    """
    context.obj = find_stack
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from rich.text import Text

    from services.console.report_text import open_console
    from services.console.wording import describe_scaling
    from shared.contracts.scaling import ScalingRecord
    from shared.errors import ConfigError, among
    from shared.store.asking import ask_store, find_run
    from shared.store.scaling import list_scaled_services, list_scaling

    backing = find_stack(data)
    dsn, environment = backing.store_dsn, backing.environment

    async def ask() -> list[ScalingRecord]:
        named = None if run is None else await ask_store(dsn, find_run, environment, run)
        rows = await ask_store(dsn, list_scaling, environment, service=service, run=named, moves=moves, limit=limit)
        if service is not None and not rows:
            services = await ask_store(dsn, list_scaled_services, environment)
            if services and service not in services:
                raise ConfigError(f"no decisions on a service {service!r}{among(service, services)}")
        return [ScalingRecord.model_validate(row.record) for row in rows]

    records = asyncio.run(ask())
    if as_json:
        click.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=2))
        return
    console = open_console()
    for record in records:
        line = Text(f"{record.at:%Y-%m-%d %H:%M:%S}  ", style="dim")
        console.print(line.append(describe_scaling(record)), soft_wrap=True)
    if not records:
        click.echo("no scaling decisions", err=True)


def _refuse_options(context: click.Context) -> None:
    """Options of the list that stand before a subcommand: another stack than that of ``--data`` would be asked."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        name = context.invoked_subcommand
        raise click.UsageError(f"{given[0]} stands before {name!r}; write it after, where {name} has it", ctx=context)


def find_stack(data: Path) -> "Backing":
    """The stack that a command under ``scaling`` works with; ``ConfigError`` when there is none."""
    from services.console.backing import need_backing
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings

    return need_backing(read_settings(ConsoleSettings), data)
