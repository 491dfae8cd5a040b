"""Option types of the scaler's commands."""

from typing import Any

import click

from shared.contracts.units import parse_duration_s


class Duration(click.ParamType[float]):
    """Seconds, written ``90``, ``90s``, ``1.5m``, ``200ms``."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()
