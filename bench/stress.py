"""The search for a breaking point against the truth of queues: many simulated ones, and one over real HTTP.

A queue of c exponential servers has an exact answer (Erlang's C), so what the search says can be held against it.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from bench.bars import Bar
from bench.queue_model import breaking_rate
from bench.simulated_search import Queue, searches
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.process import start_child
from shared.contracts.stress import StressSearch

SEEDS = int(os.environ.get("TIDEGATE_BENCH_SEEDS", "20"))
"""Searches of each simulated queue; ``TIDEGATE_BENCH_SEEDS`` for fewer while trying something out."""
MOST_STEPS = 11
WITHIN = 0.05
QUEUES = (
    Queue(4, 50, 100, "p95", 20),
    Queue(1, 200, 60, "p95", 20),
    Queue(8, 25, 200, "p95", 15),
    Queue(16, 20, 200, "p95", 30),
    Queue(4, 50, 30, "mean", 20),
    Queue(2, 50, 150, "p99", 10),
    Queue(4, 50, 66, "p95", 30),
    Queue(1, 100, 100, "p90", 5),
    Queue(2, 100, 40, "p50", 300),
)
SERVERS, MEAN_MS, LIMIT_MS = 4, 20.0, 100.0
"""Of the real one: a capacity of 200/s, of which a machine that does other things too has enough left."""
SCENARIO: dict[str, Any] = {
    "name": "queue",
    "system": "queue",
    "workflow": False,
    "steps": [{"action": "ask", "system": "queue", "path": "/ask", "expect": {"status": 200}}],
}
BENCHMARKS = {
    "systems": {
        "queue": {
            "service": "queue",
            "name": "Queue",
            "benchmarks": [
                {"metric": "response_time", "target": LIMIT_MS, "critical": 2.5 * LIMIT_MS, "unit": "ms",
                 "better": "lower", "source": "response_time", "required": True}
            ],
        }
    }
}  # fmt: skip


def measure() -> list[Bar]:
    return [*_simulate(), *_search_for_real()]


def _simulate() -> list[Bar]:
    errors: list[float] = []
    steps: list[int] = []
    for queue in QUEUES:
        began, truth = time.monotonic(), queue.breaking_rate
        found = [desired.search for desired in searches(queue, SEEDS) if desired.search and desired.search.answer]
        levels = [search.answer.level if search.answer and search.answer.level else math.nan for search in found]
        off = [abs(level / truth - 1) if not math.isnan(level) else 1.0 for level in levels]
        made = [len(search.steps) for search in found]
        held = [search.answer and (search.answer.low or 0) <= truth <= (search.answer.high or 0) for search in found]
        said = sum(bool(search.answer and search.answer.found) for search in found)
        print(
            f"  c={queue.servers:<2} μ={queue.service_rate:<3g} {queue.statistic:<4} ≤ {queue.limit_ms:g} ms, "
            f"breaks at {truth:6.1f}/s (ρ {truth / queue.servers / queue.service_rate:.2f}): within 5 % "
            f"{sum(one <= WITHIN for one in off) / len(off):4.0%}, median off {statistics.median(off):5.1%}, "
            f"found {said / len(found):4.0%}, interval holds it {sum(map(bool, held)) / len(held):4.0%}, "
            f"steps {statistics.mean(made):4.1f}, s a search {(time.monotonic() - began) / len(found):.1f}",
            flush=True,
        )
        errors += off
        steps += made
    how = f"{SEEDS} seeds of each of {len(QUEUES)} simulated M/M/c queues; make bench BENCH=stress"
    within = sum(one <= WITHIN for one in errors) / len(errors) * 100
    return [
        Bar("simulated queues: breaking point within 5 %", within, 90, "% of searches", how, "at least"),
        Bar("simulated queues: median distance from the truth", statistics.median(errors) * 100, 5, "%", how),
        Bar("simulated queues: steps at most", max(steps), MOST_STEPS, "steps", how),
    ]


def _search_for_real() -> list[Bar]:
    truth = breaking_rate(LIMIT_MS / 1e3, SERVERS, 1e3 / MEAN_MS, 0.95)
    how = (
        f"M/M/{SERVERS} over HTTP, mean service {MEAN_MS:g} ms, p95 ≤ {LIMIT_MS:g} ms: {truth:.1f}/s by Erlang's C; "
        "tidegate run --profile stress --rate 20/s on the embedded stack; make bench BENCH=stress"
    )
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        search = _run(Path(name))
    answer = search.answer
    level = answer.level if answer and answer.level else 0.0
    for step in search.steps:
        print(f"  step {step.number:<2} {step.level:7.1f}/s  {step.verdict:<12} p95 {step.p95_ms} ms", flush=True)
    print(f"  {answer}")
    return [
        Bar("real queue: distance from the truth", abs(level / truth - 1) * 100, WITHIN * 100, "%", how),
        Bar("real queue: steps", len(search.steps), MOST_STEPS, "steps", how),
    ]


def _run(folder: Path) -> StressSearch:
    """The search of a run on a stack of its own."""
    config, port = folder / "config", choose_port("queue", None)
    config.mkdir()
    for file in Path("config").glob("*.yaml"):
        (config / file.name).write_text(file.read_text())
    (config / "benchmarks.yaml").write_text(yaml.safe_dump(BENCHMARKS))
    scenario, report = folder / "queue.yaml", folder / "report.json"
    scenario.write_text(yaml.safe_dump(SCENARIO))
    command = [sys.executable, "-m", "bench.queue_server", str(port), str(SERVERS), str(MEAN_MS), "7"]
    server = start_child("queue", command, folder / "queue.log")
    run = [sys.executable, "-m", "services.console", "run"]
    asked = ["--profile", "stress", "--rate", "20/s", "--users", "20", "--workers", "1", "--json", str(report)]
    try:
        target = ["--target", f"queue=http://{LOOPBACK}:{port}", "--data", str(folder / "data")]
        environment = {**os.environ, "TIDEGATE_CONFIG_DIR": str(config)}
        ended = subprocess.run([*run, str(scenario), *asked, *target], env=environment, check=False, timeout=3_600)
        if ended.returncode not in (0, 3):
            raise SystemExit(f"the search ended with {ended.returncode}")
    finally:
        server.stop()
    return StressSearch.model_validate(json.loads(report.read_text())["stress"])
