"""What was found of resources as one page that holds all it needs: the tables, and figures over time by Plotly.

Nothing is fetched: the policy in its head lets only the scripts run whose hashes it names.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from plotly.offline import get_plotlyjs
from rich.text import Text

from services.scaler.commands.resource_text import UNITS, list_tables
from services.scaler.resources.findings import Findings

TITLES = {
    "cpu_cores": "CPU, all replicas",
    "cpu_usage": "CPU of the fullest replica",
    "memory_usage": "Memory, all replicas",
    "memory_ratio": "Memory of the fullest replica",
    "request_rate": "Requests",
    "network_received": "Network, received",
    "network_sent": "Network, sent",
    "network_errors": "Network errors",
    "network_drops": "Packets dropped",
    "storage_read": "Storage, read",
    "storage_written": "Storage, written",
    "storage_reads": "Storage, reads",
    "storage_writes": "Storage, writes",
    "storage_used": "Storage used",
    "storage_ratio": "Storage of the fullest replica",
    "gpu_usage": "GPU of the fullest replica",
}
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:75rem;margin:1.5rem auto;padding:0 1rem;color:#1d2530}
table{border-collapse:collapse;margin:0 0 1.5rem;font-size:.9em}td,th{padding:.2rem .7rem .2rem 0;text-align:left;
vertical-align:top}th{color:#667;font-weight:500}.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}figure{margin:0 0 1rem}figcaption{font-weight:600}.plot{height:17rem}
"""
DRAW = """
for (const box of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById("figures").textContent)[box.dataset.figure];
  Plotly.newPlot(box, figure.data, figure.layout, {displayModeBar: false, responsive: true});
}
"""


def render_page(findings: Findings) -> str:
    """The whole document."""
    plotly = get_plotlyjs()
    span = findings.span
    title = f"Resources, {span.since:%Y-%m-%d %H:%M:%S} to {span.until:%Y-%m-%d %H:%M:%S} UTC"
    figures = _figures(findings)
    drawn = "".join(
        f'<figure><figcaption>{html.escape(name)}</figcaption><div class="plot" role="img" '
        f'aria-label="{html.escape(name)}" data-figure="{number}"></div></figure>'
        for number, (name, _) in enumerate(figures)
    )
    body = json.dumps([figure for _, figure in figures], separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        body = body.replace(sign, f"\\u{ord(sign):04x}")
    missing = "".join(
        f"<p>{html.escape(service)}: not told by any source: {html.escape(', '.join(metrics))}</p>"
        for service, metrics in findings.not_told.items()
        if metrics
    )
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {_hash(plotly)} {_hash(DRAW)}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>Tidegate: {title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"{''.join(_table(columns, rows) for columns, rows in list_tables(findings))}{missing}{drawn}"
        f'<script type="application/json" id="figures">{body}</script>'
        f"<script>{plotly}</script><script>{DRAW}</script></body></html>\n"
    )


def _figures(findings: Findings) -> list[tuple[str, dict[str, Any]]]:
    """One of each metric that anything was above zero of, a line a service."""
    metrics = {metric for its in findings.series.values() for metric in its}
    found = []
    for metric in sorted(metrics, key=lambda name: list(TITLES).index(name) if name in TITLES else len(TITLES)):
        lines = [
            _line(service, its[metric])
            for service, its in findings.series.items()
            if service != "all" and any(its.get(metric, {}).values())
        ]
        if lines:
            found.append((TITLES.get(metric, metric), {"data": lines, "layout": _layout(UNITS.get(metric, ""))}))
    return found


def _line(name: str, points: Mapping[datetime, float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(name, quote=False),
        "x": [at.timestamp() * 1e3 for at in points],
        "y": [float(f"{value:.4g}") for value in points.values()],
    }


def _layout(unit: str) -> dict[str, Any]:
    axis = {"tickformat": ".0%"} if unit == "ratio" else {"title": {"text": unit}}
    return {
        "xaxis": {"type": "date"},
        "yaxis": {"rangemode": "tozero", **axis},
        "margin": {"l": 60, "r": 10, "t": 10, "b": 40},
        "hovermode": "x unified",
        "showlegend": True,
        "legend": {"orientation": "h"},
    }


def _table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> str:
    marks = [' class="n"' if column.startswith("#") else "" for column in columns]
    head = "".join(
        f'<th scope="col"{mark}>{html.escape(column.lstrip("#"))}</th>'
        for column, mark in zip(columns, marks, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{mark}>{html.escape(str(cell))}</td>" for cell, mark in zip(row, marks, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
