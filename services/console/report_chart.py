"""The timeline of a report as inline SVG coordinates: few charts, each with one unit. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.console.report_rows import Report
from services.console.wording import format_clock, format_ms

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 170, 56, 18, 10
Series = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """``points`` and ``area`` are SVG point lists."""

    name: str
    points: str
    area: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    top_label: str
    end_label: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


def draw_charts(report: Report) -> list[Chart]:
    """One chart for each quantity the timeline has; none for a timeline of fewer than two points."""
    timeline = report.get("timeline") or {}
    points = timeline.get("points") or []
    if len(points) < 2:
        return []
    wanted = (
        ("Response time, p95", _per_system(points, "p95_ms"), "ms"),
        ("Requests per second", _per_system(points, "rate"), ""),
        ("Failed requests", _per_system(points, "errors"), ""),
        ("Replicas ready", _series(points, lambda point: point.get("replicas") or {}), ""),
        ("Users", _series(points, lambda point: {"": point.get("users")}), ""),
    )
    # A quantity that never was above zero says nothing as a chart.
    return [
        _chart(title, series, unit)
        for title, series, unit in wanted
        if any(value > 0 for line in series.values() for _, value in line)
    ]


def _per_system(points: Sequence[Mapping[str, Any]], key: str) -> Series:
    return _series(points, lambda point: {name: at.get(key) for name, at in (point.get("systems") or {}).items()})


def _series(points: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Series:
    """A line per name; a point where a value is absent is left out, so the line spans it."""
    series: Series = {}
    for point in points:
        for name, value in read(point).items():
            if isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, []).append((float(point["second"]), float(value)))
    return dict(sorted(series.items()))


def _chart(title: str, series: Series, unit: str) -> Chart:
    begin = min(at for line in series.values() for at, _ in line)
    end = max(at for line in series.values() for at, _ in line)
    top = _round_up(max(value for line in series.values() for _, value in line))
    span, floor = max(end - begin, 1.0), HEIGHT - BOTTOM

    def place(at: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT) * (at - begin) / span
        return f"{x:.1f},{floor - (floor - TOP) * value / top:.1f}"

    lines = []
    for name, line in series.items():
        points = " ".join(place(at, value) for at, value in line)
        area = f"{place(line[0][0], 0)} {points} {place(line[-1][0], 0)}"
        lines.append(Line(name, points, area))
    ticks = tuple(Tick(floor - (floor - TOP) * share, _label(top * share, unit)) for share in (0.0, 0.5, 1.0))
    return Chart(title, tuple(lines), ticks, _label(top, unit), format_clock(end - begin))


def _round_up(value: float) -> float:
    """The next value that halves into readable labels: 1, 2, 3, 4, 5, 6, 8, 10, 20, …"""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.999)


def _label(value: float, unit: str) -> str:
    return format_ms(value) if unit == "ms" and value else f"{value:g}"
