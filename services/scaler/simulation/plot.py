"""The page that shows a replay: what was offered and what each policy had ready, and what became of the responses."""

import html
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from services.scaler.simulation.course import Course, Setting
from services.scaler.simulation.replicas import Floats, Load
from services.scaler.simulation.score import Score

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MOST_POINTS = 4_000


def page(title: str, setting: Setting, courses: Mapping[str, Course], scores: Mapping[str, Score]) -> str:
    """One HTML page that needs no network."""
    load = next(iter(courses.values())).load
    figure = make_subplots(
        rows=3,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.06,
        subplot_titles=("requests/s offered", "replicas wanted", "p95 of the responses, s"),
    )
    every = max(1, load.duration_s // MOST_POINTS)
    offered = np.bincount(load.arrivals.astype(int), minlength=load.duration_s)[: load.duration_s]
    seconds = np.arange(0, load.duration_s, every)
    figure.add_scatter(
        x=seconds, y=offered[::every], name="offered", line={"color": "#999999", "width": 1}, row=1, col=1
    )
    for number, (name, course) in enumerate(courses.items()):
        line = {"color": COLOURS[number % len(COLOURS)], "width": 1.5}
        counts = [second.desired for second in course.seconds[::every]]
        figure.add_scatter(x=seconds, y=counts, name=name, legendgroup=name, line={**line, "shape": "hv"}, row=2, col=1)
        figure.add_scatter(
            x=seconds,
            y=_p95(load, course.responses)[::every],
            name=name,
            legendgroup=name,
            showlegend=False,
            line=line,
            row=3,
            col=1,
        )
    figure.add_hline(y=setting.slo_s, line={"color": "#999999", "dash": "dot"}, row=3, col=1)
    figure.update_yaxes(type="log", row=3, col=1)
    figure.update_xaxes(title_text="seconds", row=3, col=1)
    figure.update_layout(height=860, template="plotly_white", hovermode="x unified", legend={"orientation": "h"})
    chart = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    named = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{named}</title>'
        "<style>body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:1100px}"
        "td,th{padding:.2rem .8rem;text-align:right}td:first-child,th:first-child{text-align:left}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>{named}</h1>{_table(scores)}{chart}</body></html>\n"
    )


def _p95(load: Load, responses: Floats) -> list[float | None]:
    """Nearest-rank p95 by second of arrival; None in a second without one, and where one was never answered."""
    bounds = np.searchsorted(load.arrivals, np.arange(load.duration_s + 1))
    values: list[float | None] = []
    for begin, end in pairwise(bounds.tolist()):
        count = end - begin
        value = float(np.sort(responses[begin:end])[-(-95 * count // 100) - 1]) if count else np.inf
        values.append(value if np.isfinite(value) else None)
    return values


def _table(scores: Mapping[str, Score]) -> str:
    head = "<tr><th>policy</th><th>violation seconds</th><th>replica-hours</th><th>moves</th><th>reversals/h</th></tr>"
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{one.violation_s}</td><td>{one.replica_hours:.2f}</td>"
        f"<td>{one.moves}</td><td>{one.reversals_per_hour:.1f}</td></tr>"
        for name, one in scores.items()
    )
    return f"<table>{head}{rows}</table>"
