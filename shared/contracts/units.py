"""Quantities as people write them, with their unit; stored in the unit the field's name ends with."""

import re
import sys
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_QUANTITY = re.compile(r"^\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")

MOST_PRECISE = 1e-300
"""Figures closer to 0 are refused, and those farther from it than one over it: they would take for ever to reckon."""

UNITS: dict[str, dict[str, Fraction]] = {
    "ms": {"ms": Fraction(1), "s": Fraction(1_000), "min": Fraction(60_000), "us": Fraction(1, 1_000)},
    "ratio": {"ratio": Fraction(1), "%": Fraction(1, 100)},
    "MB": {"MB": Fraction(1), "GB": Fraction(1_024), "kB": Fraction(1, 1_024), "TB": Fraction(1_048_576)},
    "requests/s": {
        "requests/s": Fraction(1),
        "/s": Fraction(1),
        "requests/min": Fraction(1, 60),
        "/min": Fraction(1, 60),
        "requests/h": Fraction(1, 3_600),
        "/h": Fraction(1, 3_600),
    },
    "requests": {"requests": Fraction(1)},
    "requests in flight": {"requests in flight": Fraction(1), "in flight": Fraction(1), "requests": Fraction(1)},
}
"""By the unit a figure is kept in: the units it may be written in, and how much of the first each is.

1 MB is 1,048,576 bytes, and 1 GB 1,024 MB, as container engines count.
"""


def parse_duration_s(value: object) -> float:
    """Seconds of ``90``, ``"90s"``, ``"1.5m"``, ``"200ms"``, ``"1h"``, ``"7d"``; a bare number counts as seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no duration; write e.g. 200ms, 30s, 5m, 1h")  # noqa: TRY004 - pydantic reports ValueError
    if not isinstance(value, str) and 0 <= value <= sys.float_info.max:
        return float(value)
    match = _DURATION.match(str(value))
    if not match:
        raise ValueError(f"{value!r} is no duration; write e.g. 200ms, 30s, 5m, 1h")
    number, unit = match.groups()
    if unit and unit not in _SECONDS:
        raise ValueError(f"unknown unit {unit!r} in {value!r}; use ms, s, m, h or d")
    return float(number) * _SECONDS[unit or "s"]


def parse_quantity(value: object, unit: str, of: str) -> float:
    """A figure in ``unit`` (a key of ``UNITS``) from ``0.8``, ``"80 %"``, ``"4 GB"``, ``"150/s"``; a bare number is in
    ``unit`` already. ``of``: what it is a figure of, for the error."""
    match = None if isinstance(value, bool) else _QUANTITY.match(str(value))
    known = UNITS[unit]
    if not match:
        raise ValueError(f"{value!r} is no quantity; write a number, {of} is in {unit}")
    number, written = match.groups()
    if written and written not in known:
        raise ValueError(f"unknown unit {written!r} in {value!r}; {of} is in {unit}, write it in {' or '.join(known)}")
    if not MOST_PRECISE < (float(number) or 1) < 1 / MOST_PRECISE:
        raise ValueError(f"{value!r} is no figure that could be meant for {of}")
    return float(Fraction(number if float(number) else 0) * known[written or unit])


Duration = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0)]
"""Seconds, written with or without a unit."""
TimeLimit = Annotated[float, BeforeValidator(parse_duration_s), Field(gt=0)]
"""Seconds that something may take: none at all would fail it always."""
