"""``tidegate service NAME`` and ``tidegate platform``: this process becomes the one named."""

import os
import sys

import click

SERVICES = ("generator", "collector", "validator", "scaler", "forwarder")
PASS_ON = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@click.command()
@click.argument("name", type=click.Choice(SERVICES))
def service(name: str) -> None:
    """Run one service in the foreground until SIGTERM or Ctrl-C; it reads TIDEGATE_* from the environment.

    \b
    Examples:
      TIDEGATE_NATS_URL=nats://10.0.0.5:4222 tidegate service generator
      TIDEGATE_STORE_DSN=postgresql://tidegate@db/tidegate tidegate service collector
      TIDEGATE_WEBHOOK_SECRET_PAGER_FILE=/run/secrets/pager tidegate service forwarder
    """
    _become(f"services.{name}", ())


@click.command(context_settings={**PASS_ON, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def platform(arguments: tuple[str, ...]) -> None:
    """Run the stand-in AutoMatrix, RelayCore and NeuroWeaver; arguments go on to it, also --help."""
    _become("examples.platform", arguments)


def _become(module: str, arguments: tuple[str, ...]) -> None:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own interpreter
