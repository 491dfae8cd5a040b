"""``tidegate import``: the document of another tool becomes a scenario to be edited."""

import re
from pathlib import Path

import click


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--from", "kind", type=click.Choice(["openapi", "har"]), help="What FILE is; told by its content if left out."
)
@click.option("--name", help="Of the scenario; by default that of --out, or of the document.")
@click.option("--system", help="Of the service that is called; by default after the document's title or the host.")
@click.option("--out", default="-", show_default=True, metavar="FILE|-", help="Where to write the YAML.")
@click.option("--force", is_flag=True, help="Overwrite what --out names.")
@click.option(
    "--host", "hosts", multiple=True, help="HAR: only requests to this host, a system of its own; repeatable."
)
@click.option("--operation", "operations", multiple=True, metavar="ID", help="OpenAPI: only this one; repeatable.")
def import_(
    file: Path,
    kind: str | None,
    name: str | None,
    system: str | None,
    out: str,
    force: bool,
    hosts: tuple[str, ...],
    operations: tuple[str, ...],
) -> None:
    """Make a scenario of FILE: an OpenAPI 3.0, 3.1 or Swagger 2.0 document, or a HAR 1.2 log of a browser or proxy.

    The result is YAML to be edited. No secret of FILE is in it: ${secret.NAME} stands there instead. What could not
    be expressed is named in the comments at its top.

    \b
    Examples:
      tidegate import openapi.yaml --out shop.yaml
      tidegate import openapi.json --operation createOrder --operation getOrder
      tidegate import session.har --host api.example.com --system shop --out config/scenarios/checkout.yaml
    """
    from services.console.importing.draft import Wish, to_yaml
    from services.console.importing.har import import_har
    from services.console.importing.naming import scenario_name
    from services.console.importing.openapi import import_openapi
    from services.console.importing.source import read_document, tell_kind
    from services.console.json_paths import check_json_paths
    from shared.config import parse
    from shared.contracts.scenario import Scenario

    _check(name, system)
    if out != "-":
        _check_free(Path(out), force)
    document = read_document(file)
    kind = kind or tell_kind(document, str(file))
    if kind == "openapi" and hosts:
        raise click.UsageError("--host: is for a HAR log; choose from an OpenAPI document with --operation")
    if kind == "har" and operations:
        raise click.UsageError("--operation: is for an OpenAPI document; choose from a HAR log with --host")
    make = import_openapi if kind == "openapi" else import_har
    draft = make(document, file.name, file.stem, Wish(name, system, hosts, operations))
    if name or out != "-":
        draft.scenario["name"] = name or scenario_name(Path(out).stem)
    check_json_paths(parse(Scenario, draft.scenario, str(file)))
    text = to_yaml(draft)
    if out == "-":
        click.echo(text, nl=False)
        return
    _write(Path(out), text, force)
    steps, left = len(draft.scenario["steps"]), len(draft.left_out)
    click.echo(f"{out}: {steps} steps{f', {left} left out' if left else ''}; its first lines say what is to be edited")


def _check(name: str | None, system: str | None) -> None:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", name):
        raise click.UsageError(f"--name: {name!r} is no name; letters, digits, _ . - and at most 80 of them")
    if system is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", system):
        raise click.UsageError(f"--system: {system!r} is no system; lower case, digits, _ - and at most 32 of them")


def _check_free(path: Path, force: bool) -> None:
    from shared.errors import ConfigError

    if path.is_dir():
        raise ConfigError(f"--out: {path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out: {path}: folder {path.absolute().parent} does not exist")
    if path.exists() and not force:
        raise ConfigError(f"--out: {path} exists; name another file, or overwrite it with --force")


def _write(path: Path, text: str, force: bool) -> None:
    from shared.errors import ConfigError

    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"--out: {path}: {error.strerror or error}") from error
