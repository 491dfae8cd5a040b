"""``tidegate optimize``: what could be made better of what services use, and carrying it out."""

import asyncio
import getpass
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.scaler.commands.stack import Stack, stack_option
from shared.option_types import OUTPUT, LineType

if TYPE_CHECKING:
    from services.scaler.commands.planning import Question
    from services.scaler.resources.plan import Plan, Step

NOT_CARRIED, NOBODY = 1, 4


def _duration(_: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    from shared.contracts.scaling_orders import LONGEST
    from shared.contracts.units import parse_duration_s

    most = LONGEST if parameter.name == "lasts" else timedelta(days=366)

    try:
        seconds = parse_duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error
    if not 0 < seconds <= most.total_seconds():
        raise click.BadParameter(f"{value!r} is outside 1s to {most.days}d", param=parameter)
    return timedelta(seconds=seconds)


def _share(_: click.Context, parameter: click.Parameter, value: str) -> float:
    from shared.contracts.units import parse_quantity

    try:
        share = parse_quantity(value, "ratio", "headroom")
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error
    if not 0 <= share <= 3:
        raise click.BadParameter(f"{value!r} is outside 0% to 300%", param=parameter)
    return share


@click.command()
@click.argument("items", nargs=-1, metavar="[ITEM...]")
@click.option("--apply", "applies", is_flag=True, help="Carry out the ITEMs, or all that can be, after asking.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--service", help="Only of this service, e.g. relaycore.")
@click.option("--since", default="24h", show_default=True, callback=_duration, help="How far back to look: 1h, 7d.")
@click.option("--headroom", default="30%", show_default=True, callback=_share, help="Of CPU, above its p95 of use.")
@click.option(
    "--for", "lasts", default="15m", show_default=True, callback=_duration, help="How long it may wait to begin."
)
@click.option(
    "--by",
    type=LineType(blank=True),
    default="",
    help="Who asks; it stands in the audit.  [default: the user of this process]",
)
@click.option("--reason", type=LineType(blank=True), default="", help="Why; it stands in the audit.")
@click.option("--html", type=OUTPUT, help="Also write it as a page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@stack_option
def optimize(
    items: tuple[str, ...],
    applies: bool,
    yes: bool,
    service: str | None,
    since: timedelta,
    headroom: float,
    lasts: timedelta,
    by: str,
    reason: str,
    html: Path | None,
    as_json: bool,
    stack: Stack,
) -> int:
    """Plan what could be made better of CPU, memory, network and storage, with evidence and estimated impact.

    With --apply the sizes of replicas are changed by the scaler: within the limits that `resizing` in scaling.yaml
    sets, one service at a time, each watched and taken back when it made things worse.

    \b
    Exit codes of --apply: 0 all carried out, 1 not all, 2 wrong input, 4 no scaler answered.
    Examples:
      tidegate optimize --since 7d
      tidegate optimize --service relaycore --json
      tidegate optimize --apply cpu.relaycore --reason "quarterly review"
    """
    from services.scaler.commands.plan_text import tell_plan, tell_steps
    from services.scaler.commands.planning import Question
    from services.scaler.resources.plan import steps_of

    if items and not applies:
        raise click.UsageError("an ITEM is named together with --apply")
    if applies and not yes and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("give --yes: nobody can be asked here")
    until = datetime.now(UTC)
    plan = asyncio.run(_plan(stack, Question(stack.environment, until - since, until, service, headroom)))
    if html is not None:
        from services.scaler.commands.plan_html import write_page

        write_page(html, plan, until - since, until)
    if not applies:
        click.echo(json.dumps(plan.as_json(), indent=2) if as_json else "\n".join(tell_plan(plan)))
        return 0
    steps = steps_of(plan, items)
    if not steps:
        click.echo("nothing in this plan can be applied", err=True)
        if as_json:
            click.echo(json.dumps({"plan": plan.plan, "orders": []}, indent=2))
        return 0
    if not as_json:
        click.echo("\n".join(tell_steps(steps)))
    if not yes:
        click.confirm("Carry this out, one service at a time?", abort=True)
    return _apply(stack, plan, steps, by or _user(), reason, lasts, as_json=as_json)


async def _plan(stack: Stack, question: "Question") -> "Plan":
    from services.scaler.commands.planning import read_plan
    from services.scaler.commands.sizes import read_sizes
    from services.scaler.settings import ScalerSettings
    from shared.config import load_document
    from shared.contracts.scaling_rules import ScalingRules
    from shared.errors import ConfigError, closest
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    settings = read_settings(ScalerSettings)
    rules = load_document(ScalingRules, settings.config_dir / "scaling.yaml")
    if question.service is not None and question.service not in rules.services:
        near, known = closest(question.service, rules.services), ", ".join(rules.services)
        raise ConfigError(f"--service: unknown service {question.service!r}{near}; known: {known}")
    sizes = await read_sizes(rules, settings, stack)
    return await ask_store(stack.store_dsn, read_plan, question, rules, sizes)


def _apply(
    stack: Stack, plan: "Plan", steps: "list[Step]", by: str, reason: str, lasts: timedelta, *, as_json: bool
) -> int:
    from services.scaler.commands.ordering import ANSWERED_WITHIN_S, carry_out, new_order
    from services.scaler.resources.outcome import OVER, State
    from shared.contracts.scaling_orders import ScalingOrder

    orders = [new_order(stack.environment, plan.plan, step, by, reason, lasts) for step in steps]

    def tell(order: ScalingOrder, state: State, words: str) -> None:
        if not as_json:
            click.echo(f"{order.service}: {words}")

    known = asyncio.run(carry_out(stack.nats_url, stack.environment, orders, tell))
    if as_json:
        told = []
        for order in orders:
            state, words = known[order.id] or ("unanswered", "no scaler answered")
            told.append({"order": order.model_dump(mode="json"), "state": state, "reason": words})
        click.echo(json.dumps({"plan": plan.plan, "orders": told}, indent=2))
    if all(one is None for one in known.values()):
        until = orders[0].ends_at
        click.echo(
            f"error: no scaler answered within {ANSWERED_WITHIN_S:g} s; the next one to lead may still begin "
            f"until {until:%Y-%m-%d %H:%M:%S} UTC",
            err=True,
        )
        return NOBODY
    for order in orders:
        last = known[order.id]
        if last is None or last[0] not in OVER:
            click.echo(f"error: {order.service}: nothing more was said of it; see tidegate scaling", err=True)
    done = all(one is not None and one[0] in ("carried_out", "dry_run") for one in known.values())
    return 0 if done else NOT_CARRIED


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise click.UsageError("give --by: this process's user has no name") from error
