"""``tidegate export``: what the store has of a run, as files for notebooks."""

import asyncio
import dataclasses
import json
from pathlib import Path

import click

from services.console.options import data_option

WHATS = ("requests", "workflows", "windows", "breaches", "scaling", "resources", "spans")


class WhatType(click.ParamType[tuple[str, ...]]):
    """Tables, written ``requests`` or ``requests,windows``."""

    name = "TABLE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        from shared.errors import among

        names = tuple(part.strip() for part in str(value).split(","))
        for name in names:
            if name not in WHATS:
                self.fail(f"no table {name!r}{among(name, WHATS)}", param, ctx)
        return names


@click.command()
@click.argument("run")
@click.option("--what", "whats", multiple=True, type=WhatType(), help="Only these tables; may be repeated.")
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), help="Parquet, unless --out names a .csv.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="A file for a single table, else a folder; by default a new one named as the run.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there already.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@data_option
def export(
    run: str,
    whats: tuple[tuple[str, ...], ...],
    form: str | None,
    out: Path | None,
    force: bool,
    as_json: bool,
    data: Path,
) -> None:
    """Write the tables of RUN (an id of `tidegate runs`, or `last`) to files that notebooks read.

    \b
    requests, workflows   one row each: names, three timestamps, durations, outcome, trace
    windows               ten seconds of an action: counts, mean, percentiles, maximum
    breaches, scaling     episodes at their latest state; decisions, results and effects while it ran
    resources             one row per instance, moment and metric while it ran
    spans                 of the traces its requests began

    \b
    Examples:
      tidegate export last
      tidegate export last --what requests --out requests.parquet
      tidegate export 20261123-153012-smoke-ab12 --what windows,breaches --format csv --out notebooks/
    """
    from services.console.backing import need_backing
    from services.console.exporting.export import Asked, export_run
    from services.console.exporting.files import Form
    from services.console.exporting.tables import What
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    backing = need_backing(read_settings(ConsoleSettings), data)
    wanted = [What(name) for names in whats or (WHATS,) for name in names]
    asked = Asked(run, wanted, out, Form(form) if form else None, force)
    exported = asyncio.run(ask_store(backing.store_dsn, export_run, backing.store_dsn, backing.environment, asked))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(exported), indent=2))
    for file in exported.files:
        if not as_json:
            click.echo(f"{file.path}: {file.rows:,} rows, {file.bytes:,} bytes")
        if file.dropped:
            click.echo(f"{file.what}: {file.dropped:,} more were past their age; windows still counts them", err=True)
