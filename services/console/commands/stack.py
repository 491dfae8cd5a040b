"""``tidegate up``, ``down`` and ``doctor``: the operator's door to the embedded stack.

What a stack is and how it is kept is ``deploy.embedded``'s; here are options, progress and words. Mistakes are raised
as ``StackError`` and ended in one line, exit code 2, by the group.
"""

import dataclasses
import json
from pathlib import Path

import click

from deploy.embedded import StackInfo, StackOptions, default_data, start_stack, stop_stack
from shared.subjects import Subjects

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=default_data,
    metavar="DIR",
    help="Folder of the stack's data and logs.  [env TIDEGATE_DATA; default .tidegate]",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
PORT = click.IntRange(1, 65535)


@click.command()
@DATA
@click.option("--workers", type=click.IntRange(0, 64), default=2, show_default=True, help="Generator processes.")
@click.option("--no-platform", is_flag=True, help="Leave the stand-in platform out.")
@click.option("--nats-port", type=PORT, help="Port of NATS.  [default: a free one]")
@click.option("--postgres-port", type=PORT, help="Port of PostgreSQL.  [default: a free one]")
@click.option(
    "--environment",
    default="local",
    envvar="TIDEGATE_ENVIRONMENT",
    show_default=True,
    help="Prefix of every subject and stream.  [env TIDEGATE_ENVIRONMENT]",
)
@JSON
def up(
    data: Path,
    workers: int,
    no_platform: bool,
    nats_port: int | None,
    postgres_port: int | None,
    environment: str,
    as_json: bool,
) -> None:
    """Start NATS, the store, the services and the stand-in platform; they stay up until `tidegate down`."""
    # Here, because their imports would slow `down` and every help text.
    from services.console.documents import check_documents
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings

    settings = read_settings(ConsoleSettings)
    check_documents(settings, environment)
    options = StackOptions(
        data=data,
        config_dir=settings.config_dir,
        workers=workers,
        platform=not no_platform,
        environment=environment,
        nats_port=nats_port,
        postgres_port=postgres_port,
    )
    info = start_stack(options, lambda name: click.echo(f"starting {name}", err=True))
    click.echo(json.dumps(info.redacted(), indent=2) if as_json else _describe(info))


@click.command()
@DATA
@click.option("--timeout", "timeout_s", type=click.FloatRange(1, 600), default=90.0, show_default=True, metavar="S")
@JSON
def down(data: Path, timeout_s: float, as_json: bool) -> None:
    """Stop what `tidegate up` started, in reverse order; the data stays."""
    was_up = stop_stack(data, timeout_s)
    if as_json:
        click.echo(json.dumps({"data": str(data.resolve()), "stopped": was_up}))
    else:
        click.echo(f"stopped; the data stays in {data}" if was_up else f"no stack is up on {data}")


@click.command()
@DATA
@JSON
def doctor(data: Path, as_json: bool) -> int:
    """Check that this machine can run Tidegate, and the stack if one is up. Exit code 2 when something is wrong."""
    # Here, because its imports would slow `up` and `down`.
    from deploy.embedded.checks import run_checks

    checks = []
    for check in run_checks(data):
        checks.append(check)
        if not as_json:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
            if check.way_out:
                click.echo(f"      way out: {check.way_out}")
    all_ok = all(check.ok for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": all_ok, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    return 0 if all_ok else 2


def _describe(info: StackInfo) -> str:
    shown = info.redacted()
    lines = [
        f"up: environment {info.environment}, {info.workers} generator workers",
        f"  data      {info.data}",
        f"  nats      {shown['nats_url']}  (subjects {Subjects(info.environment).prefix}.>)",
        f"  store     {shown['store_dsn']}",
        f"  traces    {info.otlp_endpoint}/v1/traces",
    ]
    if info.platform:
        lines.append(f"  platform  {info.platform.supervisor_url}")
        lines += [f"    {system:<12}{url}" for system, url in info.platform.targets.items()]
    lines.append(f"  passwords in {info.data / 'stack.json'} (this user only); stop with: tidegate down")
    return "\n".join(lines)
