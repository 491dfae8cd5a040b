"""The timeline of a report as inline SVG coordinates: few charts, each with one unit. Pure.

A timeline is a list of points with ``at`` (ISO time or seconds) or ``second``; every other number of a point is a
series. Nested maps (replicas per service) become one series each.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.console.progress import format_clock, format_ms
from services.console.report_rows import Report

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 170, 56, 18, 10
CHARTS = (
    ("Response time, p95", ("p95_ms", "response_p95_ms", "p95"), "ms"),
    ("Requests per second", ("rate", "throughput", "requests"), ""),
    ("Errors per second", ("failed", "errors", "error_rate"), ""),
    ("Replicas ready", ("replicas",), ""),
)


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
    points = [point for point in report.get("timeline") or () if _second(point) is not None]
    if len(points) < 2:
        return []
    charts = []
    for title, keys, unit in CHARTS:
        series = next((found for key in keys if (found := _series(points, key))), {})
        if series:
            charts.append(_chart(title, series, unit))
    return charts


def _series(points: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        at, value = _second(point), point.get(key)
        members = value if isinstance(value, Mapping) else {"": value}
        for name, member in members.items():
            if at is not None and isinstance(member, int | float) and math.isfinite(member):
                series.setdefault(str(name), []).append((at, float(member)))
    # A quantity that never was above zero says nothing as a chart.
    return series if any(value for line in series.values() for _, value in line) else {}


def _chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> Chart:
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


def _second(point: Mapping[str, Any]) -> float | None:
    for key in ("second", "at", "t"):
        value = point.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return None


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _label(value: float, unit: str) -> str:
    return format_ms(value) if unit == "ms" and value else f"{value:g}"
