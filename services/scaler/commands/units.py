"""Option types of the scaler's commands."""

import os
from pathlib import Path
from typing import Any

import click

from shared.option_types import LineType


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


PAGE = Page()
LINE = LineType(blank=True)
