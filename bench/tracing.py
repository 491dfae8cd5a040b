"""What tracing costs: 100 traces/s recorded and exported, ids in every request, against a worker without any."""

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench.bars import Bar
from bench.harness import TOOL_CORE, Sample, interleaved
from bench.nginx import Nginx
from bench.workers import WORKFLOW, Bench, bench

USERS, SETTLE_S, WINDOW_S = 50, 2.0, 5.0
HOW = f"four-step workflow, {USERS} users, one core; make bench BENCH=tracing"


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        target = Nginx(Path(folder) / "nginx")
        target.start()
        try:
            with asyncio.Runner() as runner:
                return _measure(runner, target, Path(folder))
        finally:
            target.stop()


def _measure(runner: asyncio.Runner, target: Nginx, folder: Path) -> list[Bar]:
    traced, untraced = bench(folder / "traced"), bench(folder / "untraced")
    one, other = runner.run(traced.__aenter__()), runner.run(untraced.__aenter__())
    try:
        runner.run(one.workers(TOOL_CORE, TIDEGATE_OTLP_ENDPOINT=target.url))
        runner.run(other.workers(TOOL_CORE, module="bench.untraced_worker"))

        def once(side: Bench, traces_per_s: float) -> Sample:
            changes = {"users": USERS, "duration_s": SETTLE_S + WINDOW_S + 2.0, "traces_per_s": traces_per_s}
            run = side.wanted(target.url, WORKFLOW, **changes)
            return runner.run(side.measure(run, target, settle_s=SETTLE_S, window_s=WINDOW_S))

        samples = interleaved({"traced": lambda: once(one, 100.0), "untraced": lambda: once(other, 0.0)})
    finally:
        runner.run(traced.__aexit__(None, None, None))
        runner.run(untraced.__aexit__(None, None, None))
    # Each round against its own neighbour: the machine drifts by more than tracing costs.
    pairs = zip(samples["traced"], samples["untraced"], strict=True)
    cost = 1 - statistics.median(with_.rate / without.rate for with_, without in pairs)
    failed = sum(sample.failed for found in samples.values() for sample in found)
    return [
        Bar("throughput that tracing costs", cost * 100, 5, "%", HOW),
        Bar("requests that failed", failed, 0, "requests", HOW, "exactly"),
    ]
