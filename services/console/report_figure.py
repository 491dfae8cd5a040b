"""One figure of the page: what Plotly draws, and the same in a small table for those who cannot see it. Pure.

Colours are names of the page's own (``--c0`` …), so that they follow light, dark and paper. Plotly reads a little HTML
in names; what comes from a report is therefore escaped here as well.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from services.console.wording import format_value

Json = dict[str, Any]
COLORS = 6
MOST_LINES = 24


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) of one quantity; ``y`` in ``unit``. ``color`` is an index."""

    name: str
    points: Sequence[tuple[float, float]]
    unit: str = ""
    color: int = 0
    dash: str = "solid"
    shape: str = "linear"


@dataclass(frozen=True, slots=True)
class Chart:
    """``data`` and ``layout`` are Plotly's; ``rows`` tell each line's name, least, median, most and last value."""

    title: str
    data: list[Json]
    layout: Json
    note: str = ""
    rows: Sequence[tuple[str, ...]] = ()
    columns: tuple[str, ...] = ("", "Least", "Median", "Most", "Last")
    wide: bool = False

    @property
    def spoken(self) -> str:
        """What a screen reader says instead of the drawing."""
        told = "; ".join(f"{row[0]}: at most {row[3]}" for row in self.rows[:6] if len(row) > 3)
        return f"{self.title}. {told}" if told else self.title


def plain(text: object) -> str:
    """Text as Plotly shall show it, letter by letter."""
    return html.escape(str(text), quote=False)


def color(number: int) -> str:
    return f"--c{number % COLORS}"


def draw_lines(title: str, lines: Iterable[Line], y_title: str, *, note: str = "", **layout: Any) -> Chart | None:
    """A chart over time; None where nothing in it ever was above zero."""
    drawn = [line for line in lines if any(y > 0 for _, y in line.points)][:MOST_LINES]
    if not drawn or max(len(line.points) for line in drawn) < 2:
        return None
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": plain(line.name),
            "x": [x for x, _ in line.points],
            "y": [float(f"{y:.4g}") for _, y in line.points],  # a bucket is ten times as wide
            "line": {"color": color(line.color), "dash": line.dash, "shape": line.shape, "width": 1.8},
        }
        for line in drawn
    ]
    axes = {"xaxis": {"type": "date"}, "yaxis": {"title": {"text": y_title}, "rangemode": "tozero"}}
    return Chart(title, data, {**axes, **layout}, note, [summarize_line(line) for line in drawn])


def summarize_line(line: Line) -> tuple[str, ...]:
    values = [y for _, y in line.points]
    told = (min(values), median(values), max(values), values[-1])
    return (line.name, *(format_value(value, line.unit).strip() for value in told))


def finite(value: Any) -> float | None:
    """A number that can be drawn, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def thin(points: Sequence[Mapping[str, Any]], most: int) -> Sequence[Mapping[str, Any]]:
    """At most so many points: of those taken together the highest value of each quantity, the mean of rates."""
    size = math.ceil(len(points) / most) if points else 1
    return points if size == 1 else [_together(points[at : at + size]) for at in range(0, len(points), size)]


def _together(points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    whole: dict[str, Any] = {}
    for key in {key: None for point in points for key in point}:
        told = [value for point in points if (value := point.get(key)) is not None]
        if told and isinstance(told[0], Mapping):
            whole[key] = _together(told)
        elif told:
            whole[key] = told[0] if key == "second" else fmean(told) if key == "rate" else max(told)
    return whole


def collect(points: Iterable[Mapping[str, Any]], read: Any) -> dict[str, list[tuple[float, float]]]:
    """By name, (time in ms, value): ``read`` gives a point's values by name; what is absent is left out."""
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        at_ms = float(point["second"]) * 1e3
        for name, told in read(point).items():
            value = finite(told)
            if value is not None:
                series.setdefault(name, []).append((at_ms, value))
    return dict(sorted(series.items()))
