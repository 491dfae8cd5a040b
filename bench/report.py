"""What a report costs its reader: the size of the page and the time to make it, of one long run and of a suite of four.

What its queries cost is measured by ``bench/store.py``.
"""

import time
from typing import Any

from bench.bars import Bar
from services.console.report_html import render_html
from services.console.report_markdown import render_markdown
from tests.unit.console_cases import full_dossier, result, timeline

POINTS, ACTIONS, RUNS = 600, 256, 4
SYSTEMS = ("autmatrix", "neuroweaver", "relaycore")
PAGE_MB, PAGE_S, COMMENT_LETTERS = 6.0, 5.0, 65_536


def _three_systems() -> dict[str, Any]:
    """As of the user's platform: every system with its requests, its replicas and eight metrics of its resources."""
    whole = timeline(POINTS)
    for number, point in enumerate(whole["points"]):
        for part in ("systems", "workflows", "replicas"):
            (one,) = point[part].values()
            point[part] = {name: _varied(one, number) for name in SYSTEMS}
        point["resources"] = {name: {f"metric_{m}": number + m / 7 for m in range(8)} for name in SYSTEMS}
    return whole


def _varied(value: Any, number: int) -> Any:
    """Figures as long as real ones."""
    return {key: round(20 + number / 7, 3) for key in value} if isinstance(value, dict) else value


def measure() -> list[Bar]:
    actions = [result(f"action_{number}") for number in range(ACTIONS)]
    long = full_dossier("relaycore", timeline=_three_systems(), results=actions)
    bars = []
    for runs in (1, RUNS):
        start = time.monotonic()
        page = render_html([long] * runs)
        took = time.monotonic() - start
        how = f"{runs} runs of {POINTS} steps and {ACTIONS} actions; make bench BENCH=report"
        bars += [
            Bar(f"page of {runs} runs", len(page.encode()) / 1e6, PAGE_MB, "MB", how),
            Bar(f"making a page of {runs} runs", took, PAGE_S, "s", how),
        ]
    how = f"{RUNS} runs of {ACTIONS} actions; make bench BENCH=report"
    return [*bars, Bar("Markdown of a suite", len(render_markdown([long] * RUNS)), COMMENT_LETTERS, "letters", how)]
