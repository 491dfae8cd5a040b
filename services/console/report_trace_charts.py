"""Distributions and traced calls as figures: the percentile curve, where the time went, the slowest calls. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.console.report_figure import Chart, Json, Line, color, finite, plain, summarize_line
from services.console.report_rows import Report, text_of
from services.console.wording import format_ms

NINES = 7
PARTS = (("broken", "while {} was broken"), ("kept", "while {} was kept"))
MOST_HOPS = 12
MOST_LETTERS = 36


@dataclass(frozen=True, slots=True)
class SlowCall:
    """One of the slowest calls; ``chart`` is its waterfall, None where no spans were kept."""

    scenario: str
    trace_id: str
    duration: str
    slowest_hop: str
    chart: Chart | None


def draw_percentiles(report: Report) -> Chart | None:
    """The whole distribution on HdrHistogram's axis: each nine has the same room."""
    data, rows = [], []
    most = 1.0
    for number, line in enumerate(report.get("distributions") or ()):
        name = f"{text_of(line.get('name'))} {text_of(line.get('of'))}"
        for of, column, dash in (("response", 2, "solid"), ("service", 1, "dot")):
            points = [
                (1 / (1 - point[0]), value, point[0])
                for point in line.get("points") or ()
                if (value := finite(point[column])) is not None and 0 <= point[0] < 1
            ]
            if len(points) < 2:
                continue
            most = max(most, points[-1][0])
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": plain(f"{name}, {of}"),
                    "x": [round(x, 4) for x, _, _ in points],
                    "y": [y for _, y, _ in points],
                    "customdata": [f"{100 * q:.6g} %" for _, _, q in points],
                    "hovertemplate": "%{customdata}: %{y:.4g} ms<extra>%{fullData.name}</extra>",
                    "line": {"color": color(number), "dash": dash, "shape": "hv", "width": 1.8},
                }
            )
            rows.append(summarize_line(Line(f"{name}, {of}", [(x, y) for x, y, _ in points], "ms")))
    if not data:
        return None
    nines = [0.5, *(1 - 10.0**-k for k in range(1, NINES) if 10.0**k <= most * 1.01)]
    layout = {
        "xaxis": {
            "type": "log",
            "title": {"text": "share of the calls at most so slow"},
            "tickvals": [1 / (1 - q) for q in nines],
            "ticktext": [f"{100 * q:.6g} %" for q in nines],
        },
        "yaxis": {"type": "log", "title": {"text": "ms"}},
        "hovermode": "closest",
    }
    note = "Whole run. Solid: response time, dotted: service time; the gap between them is time in line."
    return Chart("Percentiles", data, layout, note, rows, wide=True)


def draw_hops(section: Mapping[str, Any]) -> Chart | None:
    """Mean time a call waited for each hop, stacked; apart where a benchmark was broken for a part of the run."""
    parts = section.get("parts") or {}
    bars: list[tuple[str, Mapping[str, Any]]] = []
    for key, words in PARTS:
        if part := parts.get(key):
            said = words.format(text_of(parts.get("metric")))
            bars.append((f"{part.get('traces')} calls {said}", part.get("path_ms") or {}))
    whole = {row.get("hop"): (row.get("path_ms") or {}).get("mean") for row in section.get("hops") or ()}
    bars.append((f"all {text_of(section.get('traces'))} calls", whole))
    hops = list(whole)[:MOST_HOPS]
    data: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": plain(hop),
            "y": [plain(name) for name, _ in reversed(bars)],
            "x": [finite(times.get(hop)) or 0.0 for _, times in reversed(bars)],
            "hovertemplate": "%{x:.4g} ms<extra>%{fullData.name}</extra>",
            "marker": {"color": color(number), "opacity": 1 if number < 6 else 0.55},
        }
        for number, hop in enumerate(hops)
    ]
    if not any(any(bar["x"]) for bar in data):
        return None
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "ms of a call, on average"}},
        "yaxis": {"automargin": True},
        "hovermode": "closest",
    }
    rows = [(text_of(hop), *(_time(times.get(hop)) for _, times in bars)) for hop in hops]
    columns = ("", *(name for name, _ in bars))
    return Chart("Time of a call by hop", data, layout, "", rows, columns, wide=True)


def list_slow_calls(report: Report) -> list[SlowCall]:
    """An older report has them beside its hops, without their spans."""
    beside = [
        {**call, "scenario": section.get("scenario")}
        for section in report.get("hops") or ()
        for call in section.get("slowest") or ()
    ]
    return [
        SlowCall(
            text_of(call.get("scenario")),
            text_of(call.get("trace_id")),
            _time(call.get("duration_ms")),
            text_of(call.get("slowest_hop")),
            _draw_waterfall(call.get("spans") or ()),
        )
        for call in report.get("slowest_traces", beside)
    ]


def _draw_waterfall(spans: Iterable[Mapping[str, Any]]) -> Chart | None:
    listed = list(spans)
    if not listed:
        return None
    services = list(dict.fromkeys(text_of(span.get("service")) for span in listed))
    data: list[Json] = []
    for number, service in enumerate(services):
        own = [(place, span) for place, span in enumerate(listed) if span.get("service") == service]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(service),
                "y": [place for place, _ in own],
                "base": [finite(span.get("start_ms")) or 0.0 for _, span in own],
                "x": [max(finite(span.get("duration_ms")) or 0.0, 0.01) for _, span in own],
                "customdata": [plain(span.get("name")) for _, span in own],
                "hovertemplate": "%{customdata}<br>%{x:.4g} ms, from %{base:.4g} ms on<extra>%{fullData.name}</extra>",
                "marker": {"color": color(number)},
            }
        )
    layout = {
        "barmode": "overlay",
        "height": 120 + 17 * len(listed),
        "xaxis": {"title": {"text": "ms since the call began"}},
        "yaxis": {
            "automargin": True,
            "range": [len(listed) - 0.4, -0.6],
            "tickvals": list(range(len(listed))),
            "ticktext": ["\u2007" * 2 * int(span.get("depth") or 0) + plain(_cut(span.get("name"))) for span in listed],
            "tickfont": {"size": 10},
        },
        "hovermode": "closest",
    }
    rows = [
        (
            "· " * int(span.get("depth") or 0) + text_of(span.get("name")),
            text_of(span.get("service")),
            _time(span.get("start_ms")),
            _time(span.get("duration_ms")),
        )
        for span in listed
    ]
    return Chart("Spans", data, layout, "", rows, ("Span", "Service", "From", "Took"), wide=True)


def _time(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else format_ms(number)


def _cut(name: Any) -> str:
    text = str(name)
    return text if len(text) <= MOST_LETTERS else f"…{text[1 - MOST_LETTERS :]}"
