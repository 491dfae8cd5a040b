"""A click group that imports a command only when it is called, and ends every mistake in one line.

Owns how commands are found and how errors become exit codes; what a command does is its own module's.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from shared.errors import TidegateError, closest

EXIT_USAGE = 2
EXIT_NOT_CARRIED = 4
EXIT_INTERRUPTED = 130


class LazyCommand(NamedTuple):
    """``target`` is ``module:attribute``; ``summary`` is what the group's help shows without importing it."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """Commands by name, in the order given, under headings."""

    def __init__(self, *args: Any, sections: dict[str, dict[str, LazyCommand]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._lazy = {name: command for section in sections.values() for name, command in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self._lazy[cmd_name].target} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._lazy:
            near = closest(args[0], self._lazy)
            raise click.UsageError(f"unknown command {args[0]!r}{near}; see {ctx.command_path} --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, command.summary) for name, command in commands.items()])

    def main(  # type: ignore[override] # click overloads it by standalone_mode, which has one meaning here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run a command and exit: its own code, 2 for wrong input (one line on standard error), 130 for Ctrl-C."""
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            where = f" (see {context.command_path} --help)" if context is not None and context.parent else ""
            fail(error.format_message() + where)
        except TidegateError as error:
            fail(str(error))
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader of a list has seen enough, e.g. `tidegate runs | head`.
            sys.stderr.close()
            sys.exit(0)
        except OSError as error:
            # A disk that is full, say; as a traceback it would end with 1, which means that a benchmark was missed.
            fail(f"{error.filename or 'output'}: {error.strerror or error}", EXIT_NOT_CARRIED)
        sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, code: int = EXIT_USAGE) -> None:
    """Exit with one line on standard error, whatever the message holds."""
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(code)
