"""What a run did over time, as figures: times, rates, users, breaches, replicas, resources, the generator. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.console.report_figure import Chart, Json, Line, collect, color, draw_lines, plain, thin
from services.console.report_rows import Dossier, Report
from services.console.wording import format_value
from shared.contracts.breach import Breach
from shared.contracts.scaling import Action, ScalingRecord

PERCENTILES = ("p50", "p95", "p99")
RESOURCES = (
    ("cpu_usage", "CPU", "ratio"),
    ("memory_usage", "Memory", "MB"),
    ("gpu_usage", "GPU", "ratio"),
    ("queue_length", "Requests in line", ""),
    ("requests_in_flight", "Requests in flight", ""),
)
MOST_STEPS = 300
"""Of a figure: more could not be told apart, and would make a page large."""
SHADED = "Shaded: a breach was open."
Points = Sequence[Mapping[str, Any]]


def draw_course(dossier: Dossier) -> list[Chart]:
    """Every figure over time that the report has something for."""
    timeline = dossier.report.get("timeline") or {}
    points: Points = thin(timeline.get("points") or [], MOST_STEPS)
    breaches = [Breach.model_validate(breach) for breach in dossier.breaches]
    shapes = [_shade(breach, points) for breach in breaches] if points else []
    charts = [
        *_times(points, shapes),
        *_rates(points, float(timeline.get("step_s") or 1), shapes),
        _users(points),
        _breaches(breaches, points),
        _replicas(points, dossier.scaling),
        *_resources(dossier.report, points, shapes),
        *_generator(dossier.report),
    ]
    return [chart for chart in charts if chart is not None]


def _times(points: Points, shapes: list[Json]) -> Iterator[Chart | None]:
    for system in _names(points, "systems"):
        lines = [
            Line(f"{of} {percentile}", told, "ms", number, "solid" if of == "response" else "dot")
            for number, percentile in enumerate(PERCENTILES)
            for of in ("response", "service")
            for told in _values(points, "systems", system, f"{of}_{percentile}_ms")
        ]
        note = f"Response: from when a request was due. Service: from when it was sent. {SHADED if shapes else ''}"
        yield draw_lines(f"Request times: {system}", lines, "ms", note=note.strip(), shapes=shapes)
    for scenario in _names(points, "workflows"):
        lines = [
            Line(percentile, told, "ms", number)
            for number, percentile in enumerate(PERCENTILES)
            for told in _values(points, "workflows", scenario, f"response_{percentile}_ms")
        ]
        note = SHADED if shapes else ""
        yield draw_lines(f"Workflow times: {scenario}", lines, "ms", note=note, shapes=shapes)


def _rates(points: Points, step_s: float, shapes: list[Json]) -> Iterator[Chart | None]:
    rates = collect(points, lambda point: {name: at.get("rate") for name, at in (point.get("systems") or {}).items()})
    lines = [Line(name, told, "requests/s", number) for number, (name, told) in enumerate(rates.items())]
    yield draw_lines("Throughput", lines, "requests/s", note=SHADED if shapes else "", shapes=shapes)
    failed = collect(
        points, lambda point: {name: at.get("errors") for name, at in (point.get("systems") or {}).items()}
    )
    lines = [
        Line(name, [(at, value / step_s) for at, value in told], "requests/s", number, shape="hv")
        for number, (name, told) in enumerate(failed.items())
    ]
    yield draw_lines("Failed requests", lines, "requests/s", shapes=shapes)


def _users(points: Points) -> Chart | None:
    told = collect(points, lambda at: {"users": at.get("users"), "requests in flight": at.get("in_flight")})
    lines = [Line(name, values, "", number) for number, (name, values) in enumerate(told.items())]
    return draw_lines("Users and requests in flight", lines, "")


def _breaches(breaches: Sequence[Breach], points: Points) -> Chart | None:
    if not breaches or not points:
        return None
    data, rows = [], []
    for breach in breaches[:100]:
        begun, ended = _bounds(breach, points)
        name = f"{breach.system} {breach.metric}" + (f" ({breach.action})" if breach.action else "")
        said = format_value(breach.value if breach.worst is None else breach.worst, breach.unit)
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(name),
                "y": [plain(name)],
                "base": [begun],
                "x": [ended - begun],
                "text": [plain(f"{breach.level}, {said} at worst")],
                "textposition": "auto",
                "textangle": 0,
                "width": 0.6,
                "hoverinfo": "text+y",
                "marker": {"color": "--bad" if breach.level == "critical" else "--unsure"},
                "showlegend": False,
            }
        )
        resolved = f"{breach.resolved_at:%H:%M:%S}" if breach.resolved_at else "–"
        rows.append((name, breach.level, said, f"{breach.opened_at:%H:%M:%S}", resolved))
    first, last = (float(points[at]["second"]) * 1e3 for at in (0, -1))
    layout = {
        "xaxis": {"type": "date", "range": [first, last]},
        "yaxis": {"automargin": True},
        "barmode": "overlay",
        "hovermode": "closest",
        "height": 110 + 32 * len({row[0] for row in rows}),
    }
    columns = ("", "Level", "Worst", "Opened", "Resolved")
    return Chart("Breaches on the time line", data, layout, "", rows, columns, wide=True)


def _replicas(points: Points, scaling: Sequence[Mapping[str, Any]]) -> Chart | None:
    told = collect(points, lambda at: at.get("replicas") or {})
    lines = [Line(name, values, "", number, shape="hv") for number, (name, values) in enumerate(told.items())]
    moves = [
        record
        for record in map(ScalingRecord.model_validate, scaling)
        if record.kind == "decision" and record.action in (Action.SCALE_UP, Action.SCALE_DOWN)
    ]
    shapes = [
        {
            "type": "line",
            "x0": move.at.timestamp() * 1e3,
            "x1": move.at.timestamp() * 1e3,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": "--soft", "dash": "dash", "width": 1},
        }
        for move in moves
    ]
    note = "Dashed: a decision to scale." if shapes else ""
    return draw_lines("Replicas ready", lines, "", note=note, shapes=shapes)


def _resources(report: Report, points: Points, shapes: list[Json]) -> Iterator[Chart | None]:
    """The usual ones first, then whatever else the report tells; a service has one colour in all of them."""
    told = {metric for point in points for values in (point.get("resources") or {}).values() for metric in values}
    usual = {metric for metric, _, _ in RESOURCES}
    units = {row.get("metric"): row.get("unit") or "" for row in report.get("benchmark_comparison") or ()}
    others = [(name, name.replace("_", " ").capitalize(), units.get(name, "")) for name in sorted(told - usual)]
    colors = {name: number for number, name in enumerate(_names(points, "resources"))}
    for metric, title, unit in (*RESOURCES, *others):
        series = collect(
            points,
            lambda at, metric=metric: {
                service: values.get(metric) for service, values in (at.get("resources") or {}).items()
            },
        )
        lines = [Line(service, values, unit, colors[service]) for service, values in series.items()]
        axis = {"yaxis": {"tickformat": ".0%", "rangemode": "tozero"}} if unit == "ratio" else {}
        note = f"Mean of the ready instances. {SHADED if shapes else ''}".strip()
        yield draw_lines(title, lines, "" if unit == "ratio" else unit, note=note, shapes=shapes, **axis)


def _generator(report: Report) -> Iterator[Chart | None]:
    course: Points = thin((report.get("generator_health") or {}).get("course") or [], MOST_STEPS)
    late = collect(
        course,
        lambda at: {
            "event loop late": at.get("loop_lag_ms"),
            "schedule missed by": at.get("schedule_error_ms"),
        },
    )
    lines = [Line(name, values, "ms", number) for number, (name, values) in enumerate(late.items())]
    yield draw_lines("Generator: lateness", lines, "ms", note="The worst of all workers; none of it is the target's.")
    told = collect(course, lambda at: {"CPU of a core": at.get("cpu")})
    lines = [Line(name, values, "ratio") for name, values in told.items()]
    percent = {"yaxis": {"tickformat": ".0%", "rangemode": "tozero"}}
    yield draw_lines("Generator: CPU", lines, "", note="The busiest worker.", **percent)


def _names(points: Points, part: str) -> list[str]:
    return sorted({name for point in points for name in point.get(part) or {}})


def _values(points: Points, part: str, name: str, key: str) -> Iterator[list[tuple[float, float]]]:
    yield from collect(points, lambda at: {name: ((at.get(part) or {}).get(name) or {}).get(key)}).values()


def _bounds(breach: Breach, points: Points) -> tuple[float, float]:
    """From its opening to its end, or that of the run (ms)."""
    ended: datetime | None = breach.resolved_at
    last = float(points[-1]["second"]) * 1e3
    begun = breach.opened_at.timestamp() * 1e3
    return begun, max(begun + 1e3, last if ended is None else ended.timestamp() * 1e3)


def _shade(breach: Breach, points: Points) -> Json:
    begun, ended = _bounds(breach, points)
    fill = "--bad" if breach.level == "critical" else "--unsure"
    place = {"type": "rect", "xref": "x", "yref": "paper", "x0": begun, "x1": ended, "y0": 0, "y1": 1}
    return {**place, "fillcolor": fill, "opacity": 0.12, "line": {"width": 0, "color": color(0)}, "layer": "below"}
