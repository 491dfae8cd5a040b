"""Quantities as people write them, with their unit; stored in the unit the field's name ends with."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_duration_s(value: object) -> float:
    """Seconds of ``90``, ``"90s"``, ``"1.5m"``, ``"200ms"``, ``"1h"``, ``"7d"``; a bare number counts as seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no duration; write e.g. 200ms, 30s, 5m, 1h")  # noqa: TRY004 - pydantic reports ValueError
    match = _DURATION.match(str(value))
    if not match:
        raise ValueError(f"{value!r} is no duration; write e.g. 200ms, 30s, 5m, 1h")
    number, unit = match.groups()
    if unit and unit not in _SECONDS:
        raise ValueError(f"unknown unit {unit!r} in {value!r}; use ms, s, m, h or d")
    return float(number) * _SECONDS[unit or "s"]


Duration = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0)]
"""Seconds, written with or without a unit."""
TimeLimit = Annotated[float, BeforeValidator(parse_duration_s), Field(gt=0)]
"""Seconds that something may take: none at all would fail it always."""
