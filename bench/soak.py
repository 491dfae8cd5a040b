"""Whether a worker's memory stays flat: 30 minutes of the workflow by 200 users with think time, sampled all along.

``TIDEGATE_BENCH_MINUTES`` for a shorter one while trying something out.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from bench.bars import Bar
from bench.harness import TOOL_CORE, memory_mb
from bench.nginx import Nginx
from bench.workers import WORKFLOW, bench

USERS, MINUTES = 200, float(os.environ.get("TIDEGATE_BENCH_MINUTES", "30"))
EVERY_S = 5.0
HOW = f"{USERS} users, workflow with 1 s of think time, {MINUTES:g} minutes; make bench BENCH=soak"


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
        (process,) = ours.fleet.processes.values()
        thoughtful = {**WORKFLOW, "think_time": {"min": "800ms", "max": "1200ms"}}
        run = ours.wanted(target.url, thoughtful, users=USERS, duration_s=MINUTES * 60)
        await ours.fleet.ask(run)
        samples, until = [], time.monotonic() + MINUTES * 60
        while time.monotonic() < until:
            await asyncio.sleep(EVERY_S)
            samples.append(memory_mb(process.pid))
        outcome = await ours.outcome(run)
    # The first tenth is settling in: connections, tokens, the allocator's arenas.
    tenth = max(len(samples) // 10, 1)
    before, after = statistics.median(samples[tenth : 2 * tenth]), statistics.median(samples[-tenth:])
    return [
        Bar("resident memory grew between the second and the last tenth by", after - before, 3, "MB", HOW),
        Bar("most resident memory after the first tenth", max(samples[tenth:]), 100, "MB", HOW),
        Bar("requests sent and not in the stream", abs(outcome.sent - len(outcome.rows)), 0, "", HOW, "exactly"),
    ]
