"""``tidegate scaling set``, ``pause`` and ``resume``: an operator's word, for a while, over what the scaler decides."""

import asyncio
import json
from pathlib import Path

import click

from services.console.options import TEXT, data_option, json_flag
from shared.option_types import DURATION

SERVICE = click.argument("service")
BY = click.option("--by", type=TEXT, help="Who says so.  [default: the user of this process]")
REASON = click.option("--reason", type=TEXT, required=True, help="Why; it stands in the audit.")


@click.command("set")
@SERVICE
@click.argument("replicas", type=click.IntRange(1, 1000))
@click.option("--for", "lasts_s", type=DURATION, required=True, help="How long: 30m, 2h, 3d; 30 days at most.")
@REASON
@BY
@json_flag
@data_option
def set_(service: str, replicas: int, lasts_s: float, reason: str, by: str | None, as_json: bool, data: Path) -> None:
    """Hold SERVICE at REPLICAS for a while, whatever is measured; then the scaler decides again.

    It is carried out at once, within the minimum and the maximum of the service.

    \b
    Example:
      tidegate scaling set relaycore 5 --for 30m --reason "launch at noon"
    """
    _give(data, service, "set", by, reason, as_json=as_json, replicas=replicas, lasts_s=lasts_s)


@click.command()
@SERVICE
@click.option("--for", "lasts_s", type=DURATION, help="How long.  [default: until it is resumed, 30 days at most]")
@REASON
@BY
@json_flag
@data_option
def pause(service: str, lasts_s: float | None, reason: str, by: str | None, as_json: bool, data: Path) -> None:
    """Leave SERVICE at the replicas it has; decisions are recorded as held.

    \b
    Example:
      tidegate scaling pause relaycore --for 2h --reason "moving hosts"
    """
    _give(data, service, "pause", by, reason, as_json=as_json, lasts_s=lasts_s)


@click.command()
@SERVICE
@click.option("--reason", type=TEXT, help="Why; it stands in the audit.")
@BY
@json_flag
@data_option
def resume(service: str, reason: str | None, by: str | None, as_json: bool, data: Path) -> None:
    """Let the scaler decide on SERVICE again: ends a pause or a count that was set, and what an escalation holds.

    \b
    Example:
      tidegate scaling resume relaycore
    """
    _give(data, service, "resume", by, reason or "", as_json=as_json)


def _give(
    data: Path,
    service: str,
    kind: str,
    by: str | None,
    reason: str,
    *,
    as_json: bool,
    replicas: int | None = None,
    lasts_s: float | None = None,
) -> None:
    from services.console.commands.scaling import find_stack
    from services.console.lazy_group import EXIT_NOT_CARRIED, fail
    from services.console.ordering import TAKEN_WITHIN_S, give, new_order
    from services.console.person import who
    from services.console.settings import ConsoleSettings
    from services.console.wording import describe_answer
    from shared.config import load_document
    from shared.contracts.scaling_rules import ScalingRules
    from shared.settings import read_settings

    asker = by or who()
    if not asker:
        raise click.UsageError("give --by: this process's user has no name")
    stack = find_stack(data)
    order = new_order(stack.environment, service, kind, asker, reason, replicas=replicas, lasts_s=lasts_s)
    rules_path = read_settings(ConsoleSettings).config_dir / "scaling.yaml"
    known = load_document(ScalingRules, rules_path).services if rules_path.exists() else ()
    answer = asyncio.run(give(stack, order, known))
    if answer.taken is None:
        fail(
            f"no scaler answered within {TAKEN_WITHIN_S:g} s; the order is kept until "
            f"{order.ends_at:%Y-%m-%d %H:%M:%S} UTC, and the next scaler to lead carries it out",
            EXIT_NOT_CARRIED,
        )
    if as_json:
        parts = {"order": answer.taken, "decision": answer.decision}
        told = {name: record and record.model_dump(mode="json") for name, record in parts.items()}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(describe_answer(order, answer.decision))
