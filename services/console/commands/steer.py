"""``tidegate stop``, ``pause``, ``resume`` and ``load``: change a run that is under way."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.console.options import RATE, data_option

if TYPE_CHECKING:
    from services.console.backing import Backing


@click.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every run, and close the gates of every worker at once.")
@data_option
def stop(run: str | None, everything: bool, data: Path) -> None:
    """Stop RUN (an id of `tidegate runs`, or `last`): its load ends within 2 s, what was measured is reported.

    \b
    Examples:
      tidegate stop last
      tidegate stop --all
    """
    from services.console import steering

    if everything is (run is not None):
        raise click.UsageError("name one run, or give --all")
    if run is not None:
        named = run
        _say(data, lambda backing: steering.stop_run(backing, named))
        return
    lines = asyncio.run(steering.stop_everything(_backing(data), steering.STOPPED_BY_OPERATOR))
    click.echo("\n".join(lines))


@click.command()
@click.argument("run")
@data_option
def pause(run: str, data: Path) -> None:
    """Pause RUN: no iteration begins until `tidegate resume`; those under way end. Its end stays where it is.

    \b
    Example:
      tidegate pause last
    """
    from services.console.steering import pause_run

    _say(data, lambda backing: pause_run(backing, run))


@click.command()
@click.argument("run")
@data_option
def resume(run: str, data: Path) -> None:
    """Let RUN go on after `tidegate pause`, at the present point of its schedule.

    \b
    Example:
      tidegate resume last
    """
    from services.console.steering import resume_run

    _say(data, lambda backing: resume_run(backing, run))


@click.command()
@click.argument("run")
@click.option("--users", type=click.IntRange(1, 100_000), help="Concurrent users from now on.")
@click.option("--rate", type=RATE, help="Arrivals per second from now on, for a run that was started with a rate.")
@click.option("--scenario", help="Only the load of this scenario.")
@data_option
def load(run: str, users: int | None, rate: float | None, scenario: str | None, data: Path) -> None:
    """Change the load of RUN while it runs; every worker takes it over a second later.

    \b
    Examples:
      tidegate load last --users 80
      tidegate load last --rate 200/s --users 400
    """
    from services.console.steering import load_run

    if users is None and rate is None:
        raise click.UsageError("give --users, --rate or both")
    _say(data, lambda backing: load_run(backing, run, users, rate, scenario))


def _say(data: Path, change: "Callable[[Backing], Awaitable[str]]") -> None:
    async def changed() -> str:
        return await change(_backing(data))

    click.echo(asyncio.run(changed()))


def _backing(data: Path) -> "Backing":
    from services.console.backing import need_backing
    from services.console.settings import ConsoleSettings
    from shared.settings import read_settings

    return need_backing(read_settings(ConsoleSettings), data)
