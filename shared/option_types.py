"""Option types of command lines, for the console's commands and those that a service brings itself."""

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


DURATION = DurationType()
