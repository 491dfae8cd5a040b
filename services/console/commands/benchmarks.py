"""``tidegate benchmarks``: checks the benchmarks, and shows what holds in an environment and where it is written."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.console.options import json_flag

if TYPE_CHECKING:
    from services.console.benchmark_rows import Row


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--environment", help="What holds there.  [default: that of TIDEGATE_ENVIRONMENT, else local]")
@json_flag
def benchmarks(file: Path | None, environment: str | None, as_json: bool) -> None:
    """Check the benchmarks and show what holds in an environment, each value with the line it is written on.

    FILE is benchmarks.yaml of the configuration folder where it is not given, or what TIDEGATE_BENCHMARKS names. A
    mistake ends with code 2 and one line: file, line, field, and what would be right.

    \b
    Examples:
      tidegate benchmarks
      tidegate benchmarks --environment production
      tidegate benchmarks --json | jq '.benchmarks[] | select(.metric == "error_rate")'
    """
    from services.console.benchmark_rows import list_rows, refuse_unknown
    from services.console.settings import ConsoleSettings
    from shared.contracts.benchmarks_file import environments_of, load_benchmarks
    from shared.contracts.judgeable import find_doubts
    from shared.settings import read_settings

    settings = read_settings(ConsoleSettings)
    path = file or settings.benchmarks_path
    if environment is not None:
        refuse_unknown(environment, settings.environment, environments_of(path))
    named = environment or settings.environment
    effective = load_benchmarks(path, named)
    rows = list_rows(effective)
    doubts = list(find_doubts(effective.benchmarks))
    if as_json:
        told = {"file": str(path), "environment": named, "benchmarks": [row.document for row in rows], "doubts": doubts}
        click.echo(json.dumps(told, indent=2))
        return
    _print(rows, f"{path} in environment {named}", doubts)


def _print(rows: list["Row"], title: str, doubts: list[str]) -> None:
    from rich.table import Table

    from services.console.report_text import open_console

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("system", "metric", "measured by", "target", "critical", "window", "severity", "applies"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.cells)
    console = open_console()
    console.print(table)
    for doubt in doubts:
        console.print(f"doubtful: {doubt}", markup=False)
    console.print(f"{len(rows)} benchmarks, no mistakes; behind a value: the line it is written on", style="dim")
