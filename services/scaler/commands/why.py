"""``tidegate scaling why``: what was decided at a time and why, and what came of it."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import click

from services.scaler.commands.stack import Stack, stack_option
from shared.contracts.units import parse_duration_s

if TYPE_CHECKING:
    from shared.contracts.scaling import ScalingRecord


AHEAD = timedelta(minutes=1)
"""By so much the clock of whoever asks may be behind."""


class TimeType(click.ParamType[datetime]):
    """A moment, in UTC unless it says otherwise."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        text = str(value).strip()
        moment = _read_moment(text, datetime.now(UTC))
        if moment is None:
            self.fail(f"{text!r} is no time; write 2026-01-31T12:00:00, 12:00 (today, UTC) or 10m (ago)", param, ctx)
        if moment > datetime.now(UTC) + AHEAD:
            self.fail(f"{text!r} is still to come; 12:00 is that of today, UTC", param, ctx)
        return moment


def _read_moment(text: str, now: datetime) -> datetime | None:
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    with contextlib.suppress(ValueError):
        clock = time.fromisoformat(text)
        return datetime.combine(now.astimezone(clock.tzinfo or UTC).date(), clock, tzinfo=clock.tzinfo or UTC)
    with contextlib.suppress(ValueError, OverflowError):
        return now - timedelta(seconds=parse_duration_s(text))
    return None


@click.command()
@click.argument("service")
@click.option("--at", type=TimeType(), help="When: 2026-01-31T12:00:00, 12:00 (UTC), or 10m ago.  [default: now]")
@click.option("--json", "as_json", is_flag=True, help="Print the records instead of text.")
@stack_option
def why(service: str, at: datetime | None, as_json: bool, stack: Stack) -> None:
    """Explain what was decided on SERVICE at a time, also that nothing was done, and what came of it.

    \b
    Examples:
      tidegate scaling why relaycore
      tidegate scaling why relaycore --at 17:02
      tidegate scaling why relaycore --at 10m --json
    """
    from services.scaler.explanation import explain

    moment = at or datetime.now(UTC)
    decision, *followed = asyncio.run(_read(stack, service, moment))
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in (decision, *followed)], indent=2))
        return
    click.echo(f"{service} at {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    click.echo("\n".join(explain(decision, followed)))


async def _read(stack: Stack, service: str, at: datetime) -> "list[ScalingRecord]":
    """The decision in force at a moment, and what followed from it. ``ConfigError`` where there was none."""
    from shared.contracts.scaling import ScalingRecord
    from shared.errors import ConfigError, among
    from shared.store.asking import ask_store
    from shared.store.scaling import (
        find_scaling_decision,
        list_scaled_services,
        read_scaling_chain,
        read_scaling_decision,
    )

    dsn, environment = stack.store_dsn, stack.environment
    row = await ask_store(dsn, find_scaling_decision, environment, service, at)
    if row is None:
        services = await ask_store(dsn, list_scaled_services, environment)
        if service not in services:
            raise ConfigError(f"no decisions on a service {service!r}{among(service, services)}")
        [first] = await ask_store(dsn, read_scaling_chain, environment, service, limit=1)
        begins = f"its audit begins at {first.at:%Y-%m-%d %H:%M:%S} UTC"
        raise ConfigError(f"--at: nothing was decided on {service} until then; {begins}")
    rows = await ask_store(dsn, read_scaling_decision, environment, row.decision)
    return [ScalingRecord.model_validate(one.record) for one in rows if one.service == service]
