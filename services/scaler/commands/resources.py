"""``tidegate resources``: what services use, what leaks, how much work comes out of it."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from services.scaler.commands.stack import Stack, stack_option
from shared.option_types import OUTPUT

LEAST_S, MOST_S = 60.0, 400 * 86_400.0


@click.command()
@click.option("--service", help="Only this service, e.g. relaycore.")
@click.option("--run", help="While this run went on (an id of `tidegate runs`, or `last`).")
@click.option("--since", help="From so long ago on, e.g. 10m, 1h, 7d.  [default: 1h]")
@click.option("--efficiency", is_flag=True, help="With the efficiency of the last runs and days, and its trend.")
@click.option("--html", type=OUTPUT, help="Write a page with figures to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, time series included, instead of tables.")
@stack_option
def resources(
    service: str | None,
    run: str | None,
    since: str | None,
    efficiency: bool,
    html: Path | None,
    as_json: bool,
    stack: Stack,
) -> None:
    """Show what each service uses and leaves unused, the network between them, leaks of memory, and efficiency.

    Percentiles and what is unused are per replica; a leak is looked for over an hour at least. What no source tells is
    named, and nothing stands for it.

    \b
    Examples:
      tidegate resources
      tidegate resources --service relaycore --since 24h --html resources.html
      tidegate resources --run last --json | jq '.leaks'
      tidegate resources --efficiency
    """
    from services.scaler.commands.observing import observe, observe_past
    from services.scaler.commands.resource_page import render_page
    from services.scaler.commands.resource_text import print_findings
    from services.scaler.commands.sizes import read_sizes
    from services.scaler.resources.findings import Findings, find
    from services.scaler.settings import ScalerSettings
    from shared.config import load_document
    from shared.contracts.scaling_rules import ScalingRules
    from shared.errors import ConfigError
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    if run is not None and since is not None:
        raise ConfigError("--since: not together with --run; choose one")
    settings = read_settings(ScalerSettings)
    rules = load_document(ScalingRules, settings.config_dir / "scaling.yaml")
    age = _age(since or "1h")

    async def ask() -> Findings:
        dsn, environment = stack.store_dsn, stack.environment
        observed = await ask_store(dsn, observe, environment, service=service, run=run, age=age)
        if efficiency:
            observed = await ask_store(dsn, observe_past, environment, observed, service=service)
        return find(replace(observed, sizes=await read_sizes(rules, settings, stack)), rules.prices)

    findings = asyncio.run(ask())
    if html is not None:
        html.write_text(render_page(findings), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(findings.as_json(), indent=2))
    else:
        print_findings(findings)


def _age(text: str) -> timedelta:
    from shared.contracts.units import parse_duration_s
    from shared.errors import ConfigError

    try:
        seconds = parse_duration_s(text)
    except ValueError as error:
        raise ConfigError(f"--since: {error}") from error
    if not LEAST_S <= seconds <= MOST_S:
        raise ConfigError(f"--since: {text!r} is outside 1m to 400d")
    return timedelta(seconds=seconds)
