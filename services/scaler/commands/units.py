"""Option types of the scaler's commands."""

import os
from pathlib import Path
from typing import Any

import click

from shared.contracts.units import parse_duration_s

MOST_TEXT = 500


class Duration(click.ParamType[float]):
    """Seconds, written ``90``, ``90s``, ``1.5m``, ``200ms``."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Page(click.Path):
    """A file that can be written, told before anything else is done."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "-":
            self.fail("- is no file; name one, only text and JSON go to the terminal", param, ctx)
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"{path}: folder {folder} does not exist", param, ctx)
        if not path.exists() and not os.access(folder, os.W_OK):
            self.fail(f"{path}: no permission to write there", param, ctx)
        return path


class Line(click.ParamType[str]):
    """A line that people read, as it stands in the audit; may be empty."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if len(text) > MOST_TEXT:
            self.fail(f"has {len(text)} characters; {MOST_TEXT} at most", param, ctx)
        if not text.isprintable():
            self.fail(f"{text!r} has characters that cannot be shown; write one line", param, ctx)
        return text


DURATION = Duration()
PAGE = Page()
LINE = Line()
