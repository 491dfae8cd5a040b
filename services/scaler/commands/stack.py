"""The stack that a command works with. The group that the command hangs in finds it: its finder stands at ``obj``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click


class Stack(Protocol):
    """Addresses of the bus and the store; ``supervisor_url``: of the stand-in platform's, where there is one."""

    @property
    def nats_url(self) -> str: ...

    @property
    def store_dsn(self) -> str: ...

    @property
    def environment(self) -> str: ...

    @property
    def supervisor_url(self) -> str | None: ...


def stack_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--data``, handed to the command as the ``stack`` that it names."""
    return click.option(
        "--data",
        "stack",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="TIDEGATE_DATA",
        default=Path(".tidegate"),
        show_default=True,
        callback=lambda context, _, data: context.obj(data),
        help="Folder of the embedded stack.",
    )(command)
