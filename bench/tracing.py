"""What tracing costs: 100 traces/s recorded and exported, ids in every request, against a worker without any."""

import asyncio
import statistics
import tempfile
import uuid
from functools import partial
from pathlib import Path

from bench.bars import Bar
from bench.harness import TOOL_CORE, Sample, interleaved
from bench.nginx import Nginx
from bench.workers import WORKFLOW, bench

USERS, SETTLE_S, WINDOW_S = 50, 2.0, 5.0
HOW = f"four-step workflow, {USERS} users, one core; make bench BENCH=tracing"


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        target = Nginx(folder / "nginx")
        target.start()
        try:
            traced = partial(_once, target, folder, "services.generator", 100.0)
            untraced = partial(_once, target, folder, "bench.untraced_worker", 0.0)
            samples = interleaved(
                {"traced": lambda: asyncio.run(traced()), "untraced": lambda: asyncio.run(untraced())}
            )
        finally:
            target.stop()
    # Each round against its own neighbour: the machine drifts by more than tracing costs.
    pairs = zip(samples["traced"], samples["untraced"], strict=True)
    cost = 1 - statistics.median(one.rate / other.rate for one, other in pairs)
    failed = sum(sample.failed for found in samples.values() for sample in found)
    return [
        Bar("throughput that tracing costs", cost * 100, 5, "%", HOW),
        Bar("requests that failed", failed, 0, "requests", HOW, "exactly"),
    ]


async def _once(target: Nginx, folder: Path, module: str, traces_per_s: float) -> Sample:
    """A process of its own for each sample: where its memory lies makes it some per cent faster or slower for life."""
    async with bench(folder / f"nats-{uuid.uuid4().hex}") as ours:
        await ours.workers(TOOL_CORE, module=module, TIDEGATE_OTLP_ENDPOINT=target.url)
        changes = {"users": USERS, "duration_s": SETTLE_S + WINDOW_S + 2.0, "traces_per_s": traces_per_s}
        run = ours.wanted(target.url, WORKFLOW, **changes)
        return await ours.measure(run, target, settle_s=SETTLE_S, window_s=WINDOW_S)
