"""``tidegate scaling verify``: whether the audit is whole, in the stream and in the table."""

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from services.scaler.commands.stack import Stack, stack_option

if TYPE_CHECKING:
    from services.scaler.verification import Findings, Verification
    from shared.bus import Bus

STORED_WITHIN_S = 5.0
"""A collector that is up keeps a record well within this."""
_AGAIN_S = 0.25


@click.command()
@click.argument("service", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@stack_option
def verify(service: str | None, as_json: bool, stack: Stack) -> int:
    """Check the audit of SERVICE, or of all: no record changed, missing, doubled or moved; table and stream agree.

    Exit code 0: whole; 1: a fault was found; 2: it could not be checked.

    \b
    Examples:
      tidegate scaling verify
      tidegate scaling verify relaycore --json
    """
    found = asyncio.run(_verify(stack, service))
    if as_json:
        keys = ("service", "in_table", "in_stream", "last", "faults")
        click.echo(json.dumps([{key: getattr(one, key) for key in keys} for one in found], indent=2))
    else:
        for one in found:
            records = f"{one.last} records, {one.in_stream} of them still in the stream"
            click.echo(f"{one.service}: {'whole' if not one.faults else f'{len(one.faults)} faults'}: {records}")
            for fault in one.told():
                click.echo(f"  {fault}")
        if not found:
            click.echo("no scaling decisions", err=True)
    return 1 if any(one.faults for one in found) else 0


async def _verify(stack: Stack, service: str | None) -> "list[Findings]":
    from nats.errors import Error as NatsError
    from nats.js.errors import APIError

    from services.scaler.commands.ordering import connected
    from shared.errors import ConfigError, TransientError, among
    from shared.reading import read_last
    from shared.store.asking import ask_store
    from shared.store.scaling import list_scaled_services

    try:
        async with connected(stack.nats_url, stack.environment, "verify") as bus:
            told = await read_last(bus.js, bus.subjects.stream("SCALING"), bus.subjects.scaling("*"))
            services = {message.subject.rpartition(".")[2] for message in told}
            services |= set(await ask_store(stack.store_dsn, list_scaled_services, stack.environment))
            if service is not None and service not in services:
                raise ConfigError(f"no audit of a service {service!r}{among(service, sorted(services))}")
            return [await _verify_one(bus, stack, one) for one in sorted(services) if service in (None, one)]
    except (NatsError, APIError, TimeoutError) as error:
        raise TransientError(f"the bus did not answer: {error or type(error).__name__}") from error


async def _verify_one(bus: "Bus", stack: Stack, service: str) -> "Findings":
    from services.scaler.chain import Head
    from services.scaler.checkpoints import Checkpoints
    from services.scaler.verification import Verification
    from shared.reading import read_pages

    verification = Verification(service)
    checkpoint = await Checkpoints(await bus.bucket("checkpoints"), service).read()
    await _take_rows(stack, verification)
    async for page in read_pages(bus.js, bus.subjects.stream("SCALING"), bus.subjects.scaling(service)):
        for message in page:
            verification.take_message(message.data)
    for _ in range(round(STORED_WITHIN_S / _AGAIN_S)):
        if not verification.lacking:
            break
        await asyncio.sleep(_AGAIN_S)
        await _take_rows(stack, verification)
    noted = None if checkpoint is None else Head(checkpoint.sequence, checkpoint.hash)
    return verification.finish(noted, datetime.now(UTC))


async def _take_rows(stack: Stack, verification: "Verification") -> None:
    from services.scaler.verification import Row
    from shared.store.asking import ask_store
    from shared.store.scaling import read_scaling_chain

    service = verification.findings.service
    while rows := await ask_store(
        stack.store_dsn, read_scaling_chain, stack.environment, service, after=verification.rows_until
    ):
        for row in rows:
            verification.take_row(Row(row.sequence, row.hash, row.kind, row.decision, row.at, row.record))
