"""Option types of command lines, for the console's commands and those that a service brings itself."""

import os
from pathlib import Path
from typing import Any

import click

from shared.contracts.units import parse_duration_s

MOST_TEXT = 500


class DurationType(click.ParamType[float]):
    """Seconds, written ``90``, ``90s``, ``1.5m``, ``200ms``."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LineType(click.ParamType[str]):
    """A line that people read, without control characters; empty only where ``blank`` says so."""

    name = "TEXT"

    def __init__(self, *, blank: bool = False) -> None:
        self._blank = blank

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text and not self._blank:
            self.fail("is blank; write a line", param, ctx)
        if len(text) > MOST_TEXT:
            self.fail(f"has {len(text)} characters; {MOST_TEXT} at most", param, ctx)
        if not text.isprintable():
            self.fail(f"{text!r} has characters that cannot be shown; write one line", param, ctx)
        return text


class OutputType(click.ParamType[str]):
    """A file that can be written, told before any work is done; ``-`` is standard output where ``terminal`` says so."""

    name = "FILE"

    def __init__(self, *, terminal: bool = False) -> None:
        self._terminal = terminal

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = os.fsdecode(value)
        if text == "-":
            if not self._terminal:
                self.fail("- is no file; name one, only text and JSON go to the terminal", param, ctx)
            return text
        path = Path(text)
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"{path}: folder {folder} does not exist", param, ctx)
        if path.is_dir():
            self.fail(f"{path} is a folder; name a file", param, ctx)
        if not os.access(path if path.exists() else folder, os.W_OK):
            self.fail(f"{path}: no permission to write there", param, ctx)
        return text


class OutputPathType(click.ParamType[Path]):
    """The same as a path, never standard output."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(OutputType().convert(value, param, ctx))


DURATION = DurationType()
OUTPUT = OutputPathType()
OUTPUT_OR_TERMINAL = OutputType(terminal=True)
