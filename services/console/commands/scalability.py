"""``tidegate scalability``: how throughput grows with replicas, from stress runs with different numbers of them."""

import asyncio
import dataclasses
import json
from pathlib import Path

import click

from services.console.options import data_option, json_flag


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--service", required=True, help="The service whose replicas differ, e.g. relaycore.")
@json_flag
@data_option
def scalability(runs: tuple[str, ...], service: str, as_json: bool, data: Path) -> None:
    """Fit the Universal Scalability Law to stress runs with different numbers of replicas.

    Tells contention, coherency, and how many replicas carry the most, each with its 95 % interval. The number of
    replicas is a run's tag `replicas`, else what its report says of the service; at least four different ones.

    \b
    Examples:
      tidegate run relaycore_request_routing --profile stress --rate 20/s --tag replicas=2
      tidegate scalability --service relaycore RUN-1 RUN-2 RUN-3 RUN-4
    """
    from services.console.backing import need_backing
    from services.console.reading import find_dossier
    from services.console.report_text import open_console, print_table
    from services.console.scalability import fit_scaling, predict
    from services.console.scalability_points import POINT_COLUMNS, describe_scaling, read_point, rows_of
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings
    from shared.store.asking import ask_store

    backing = need_backing(read_settings(ConsoleSettings), data)

    async def read(run: str) -> dict[str, object]:
        return dict((await ask_store(backing.store_dsn, find_dossier, backing.environment, run)).report)

    reports = [asyncio.run(read(run)) for run in runs]
    points = [read_point(report, service) for report in reports]
    scaling = fit_scaling(points)
    if as_json:
        measured = [{"run": run, **dataclasses.asdict(point)} for run, point in zip(runs, points, strict=True)]
        click.echo(json.dumps({"service": service, "points": measured, **dataclasses.asdict(scaling)}, indent=2))
        return
    console = open_console()
    predicted = [predict(scaling, point.replicas) for point in points]
    print_table(console, POINT_COLUMNS, rows_of(runs, points, predicted))
    for line in describe_scaling(scaling):
        console.print(line, soft_wrap=True)
