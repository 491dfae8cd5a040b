"""Resident memory of one worker with 1,000 and with 10,000 users at work, each in a fresh process."""

import asyncio
import tempfile
from pathlib import Path

from bench.bars import Bar
from bench.harness import TOOL_CORE, Sample
from bench.nginx import Nginx
from bench.workers import WORKFLOW, bench

SETTLE_S, WINDOW_S = 8.0, 6.0
LIMITS_MB = {1_000: 100, 10_000: 450}
HOW = "four-step workflow without think time on one core; make bench BENCH=memory"


def measure() -> list[Bar]:
    bars = []
    for users, limit in LIMITS_MB.items():
        sample = asyncio.run(_with(users))
        bars.append(Bar(f"resident memory with {users:,} users", sample.memory_mb, limit, "MB", HOW))
        bars.append(Bar(f"requests that failed with {users:,} users", sample.failed, 0, "requests", HOW, "exactly"))
    return bars


async def _with(users: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        target = Nginx(Path(folder) / "nginx")
        target.start()
        try:
            async with bench(Path(folder)) as ours:
                await ours.workers(TOOL_CORE)
                run = ours.wanted(target.url, WORKFLOW, users=users, duration_s=SETTLE_S + WINDOW_S + 2)
                return await ours.measure(run, target, settle_s=SETTLE_S, window_s=WINDOW_S)
        finally:
            target.stop()
