"""Option types and options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from services.console.hosts import read_host
from shared.contracts.units import parse_duration_s
from shared.option_types import OUTPUT_OR_TERMINAL, LineType

RATE_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class RateType(click.ParamType[float]):
    """Arrivals per second, written ``50``, ``50/s``, ``3000/m``, ``100/h``."""

    name = "RATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number, _, unit = str(value).strip().partition("/")
        try:
            rate = float(number) / RATE_UNITS_S[unit.strip()]
        except KeyError:
            self.fail(f"unknown unit {unit!r} in {value!r}; use /s, /m or /h", param, ctx)
        except ValueError:
            self.fail(f"{value!r} is no rate; write e.g. 50, 50/s, 3000/m", param, ctx)
        if not 0 < rate <= 1_000_000:
            self.fail(f"{value!r} is outside 0 to 1000000 per second", param, ctx)
        return rate


class StagesType(click.ParamType[tuple[tuple[float, float], ...]]):
    """Legs of a load, ``30s:0.5,2m:1``: how long, and the share of the load at its end."""

    name = "STAGES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[float, float], ...]:
        stages = []
        for leg in str(value).split(","):
            length, _, level = leg.partition(":")
            try:
                stages.append((parse_duration_s(length.strip()), float(level)))
            except ValueError:
                self.fail(f"{leg!r} is no DURATION:LEVEL; write e.g. 30s:0.5,2m:1", param, ctx)
            if not 0 <= stages[-1][1] <= 1:
                self.fail(f"level {level!r} in {leg!r} is outside 0 to 1, the share of --users or --rate", param, ctx)
        if not any(seconds > 0 for seconds, _ in stages):
            self.fail(f"{value!r} takes no time", param, ctx)
        return tuple(stages)


class HostType(click.ParamType[str]):
    """A host name or address without scheme and port."""

    name = "HOST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return read_host(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ShareType(click.ParamType[float]):
    """A part of a whole, written ``5%`` or ``0.05``."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is no share; write e.g. 5% or 0.05", param, ctx)
        if not 0 < share < 1:
            self.fail(f"{value!r} is outside 0 to 100%; write e.g. 5% or 0.05", param, ctx)
        return share


TEXT = LineType()
RATE = RateType()
SHARE = ShareType()
HOST = HostType()
STAGES = StagesType()


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="TIDEGATE_DATA",
        default=Path(".tidegate"),
        show_default=True,
        help="Folder of the embedded stack.",
    )(command)


def json_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def output_option(form: str) -> Callable[..., Any]:
    """``--json [FILE|-]`` and the like: to a file, or to the terminal without one."""
    return click.option(
        f"--{form.lower()}",
        f"{form.lower()}_path",
        type=OUTPUT_OR_TERMINAL,
        is_flag=False,
        flag_value="-",
        metavar="[FILE|-]",
        help=f"Write {form}.",
    )


def limit_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most."
    )(command)
