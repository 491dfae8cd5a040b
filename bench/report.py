"""What a report costs its reader: the size of the page and the time to make it, of one long run and of a suite of four.

What its queries cost is measured by ``bench/store.py``.
"""

import time

from bench.bars import Bar
from services.console.report_html import render_html
from services.console.report_markdown import render_markdown
from tests.unit.console_cases import full_dossier, result, timeline

POINTS, ACTIONS, RUNS = 600, 256, 4
PAGE_MB, PAGE_S, COMMENT_LETTERS = 6.0, 5.0, 65_536


def measure() -> list[Bar]:
    actions = [result(f"action_{number}") for number in range(ACTIONS)]
    long = full_dossier("relaycore", timeline=timeline(POINTS), results=actions)
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
