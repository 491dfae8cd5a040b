"""How late requests are sent at half of what one core can do: sent − intended, of every arrival.

What it can do is measured first, by users that repeat a single GET as fast as they can.
"""

import asyncio
import tempfile
from pathlib import Path

import numpy as np

from bench.bars import Bar
from bench.harness import TOOL_CORE, median
from bench.latency import ARRIVALS
from bench.nginx import Nginx
from bench.workers import ONE, Bench, bench
from shared.contracts.timing import ErrorKind

USERS, SETTLE_S, WINDOW_S = 200, 2.0, 4.0
OPEN_S = 12.0


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        target = Nginx(Path(folder) / "nginx")
        target.start()
        try:
            return asyncio.run(_measure(target, Path(folder)))
        finally:
            target.stop()


async def _measure(target: Nginx, folder: Path) -> list[Bar]:
    async with bench(folder) as ours:
        await ours.workers(TOOL_CORE)
        saturated = []
        for _ in range(3):
            run = ours.wanted(target.url, ONE, users=50, duration_s=SETTLE_S + WINDOW_S + 1.0)
            saturated.append(await ours.measure(run, target, settle_s=SETTLE_S, window_s=WINDOW_S))
        half = round(median(saturated) / 2)
        return await _at(ours, target, half)


async def _at(ours: Bench, target: Nginx, rate: int) -> list[Bar]:
    run = ours.wanted(target.url, ARRIVALS, users=USERS, rate=float(rate), duration_s=OPEN_S)
    await ours.fleet.ask(run)
    outcome = await ours.outcome(run)
    rows = outcome.rows
    late_ms = rows["dispatch_us"] / 1000
    p50, p90, p99 = (float(np.percentile(late_ms, q, method="inverted_cdf")) for q in (50, 90, 99))
    failed = int((rows["error"] != ErrorKind.OK).sum())
    how = f"{rate:,} arrivals/s, half of saturation (p90 {p90:.2f} ms); make bench BENCH=schedule"
    return [
        Bar("p50 of sent - intended", p50, 0.7, "ms", how),
        Bar("p99 of sent - intended", p99, 2.0, "ms", how),
        Bar("arrivals not sent, or sent twice", abs(len(rows) - rate * OPEN_S), 0, "arrivals", how, "exactly"),
        Bar("requests that failed", failed, 0, "requests", how, "exactly"),
    ]
