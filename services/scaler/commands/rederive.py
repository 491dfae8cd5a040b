"""``tidegate scaling rederive``: recorded decisions made again by the code of today."""

import asyncio
import json
from typing import TYPE_CHECKING

import click

from services.scaler.commands.stack import Stack, stack_option

if TYPE_CHECKING:
    from services.scaler.rederivation import Rederivation
    from shared.contracts.scaling import ScalingRecord


@click.command()
@click.argument("decisions", metavar="[DECISION]...", nargs=-1)
@click.option("--service", help="All decisions on this service instead, e.g. relaycore.")
@click.option(
    "--last", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Of these, the last so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@stack_option
def rederive(decisions: tuple[str, ...], service: str | None, last: int, as_json: bool, stack: Stack) -> int:
    """Make DECISIONs again from their records alone, and say whether the same comes out.

    Exit code 0: all came out the same; 1: one did not.

    \b
    Examples:
      tidegate scaling rederive relaycore-12
      tidegate scaling rederive --service relaycore --last 500
    """
    from services.scaler.rederivation import rederive as made_again

    if bool(decisions) is (service is not None):
        raise click.UsageError("name decisions, or give a --service")
    found = [made_again(record) for record in asyncio.run(_read(stack, decisions, service, last))]
    if as_json:
        click.echo(json.dumps([_told(one) for one in found], indent=2, default=str))
    else:
        click.echo("\n".join(line for one in found for line in _lines(one)))
    return 0 if all(one.same for one in found) else 1


async def _read(stack: Stack, decisions: tuple[str, ...], service: str | None, last: int) -> "list[ScalingRecord]":
    from shared.contracts.scaling import ScalingRecord
    from shared.errors import ConfigError
    from shared.store.asking import ask_store
    from shared.store.scaling import list_scaling_decisions, read_scaling_decision

    dsn, environment = stack.store_dsn, stack.environment
    if service is not None:
        rows = await ask_store(dsn, list_scaling_decisions, environment, service, last)
        if not rows:
            raise ConfigError(f"--service: no decisions on {service!r}; see tidegate scaling")
        return [ScalingRecord.model_validate(row.record) for row in rows]
    records = []
    for name in decisions:
        rows = await ask_store(dsn, read_scaling_decision, environment, name)
        made = [ScalingRecord.model_validate(row.record) for row in rows if row.kind == "decision"]
        if not made and rows:
            raise ConfigError(f"{name} is of kind {rows[0].kind}; only decisions on replicas are made again")
        if not made:
            raise ConfigError(f"no decision {name!r}; tidegate scaling --json lists their names")
        records += made
    return records


def _lines(one: "Rederivation") -> list[str]:
    from services.scaler.policy import VERSION

    if one.problem:
        return [f"{one.decision}: cannot be made again: {one.problem}"]
    if one.same:
        return [f"{one.decision}: the same comes out"]
    by = f", which policy {one.version} made and policy {VERSION} makes otherwise" if one.explained else ""
    changes = [f"  {name}: recorded {recorded}, now {again}" for name, (recorded, again) in one.differences.items()]
    return [f"{one.decision}: something else comes out{by}", *changes]


def _told(one: "Rederivation") -> dict[str, object]:
    differences = {name: {"recorded": recorded, "now": now} for name, (recorded, now) in one.differences.items()}
    return {
        "decision": one.decision,
        "same": one.same,
        "policy": one.version,
        "differences": differences,
        "problem": one.problem,
    }
