"""Requests per second on one core: Tidegate, every event acknowledged by JetStream, against its peers on one target.

The four-step workflow (sign in once, POST, POST with the id from the answer, GET and check) with 50 users, and a single
GET. The target's own count over the middle of each round is the rate of every tool.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Literal

from bench.bars import Bar
from bench.harness import TOOL_CORE, Sample, interleaved, median
from bench.nginx import Nginx
from bench.peers import Peers
from bench.workers import ONE, WORKFLOW, bench

USERS, SETTLE_S, WINDOW_S = 50, 2.0, 5.0
HOW = f"{USERS} users, tool on one core, target and broker on the other; make bench BENCH=generator"


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
    peers = Peers(target, target.url, folder, seconds=WINDOW_S, settle_s=SETTLE_S)
    context = bench(folder)
    ours = runner.run(context.__aenter__())
    try:
        runner.run(ours.workers(TOOL_CORE))

        def tidegate(scenario: dict[str, object]) -> Sample:
            run = ours.wanted(target.url, scenario, users=USERS, duration_s=SETTLE_S + WINDOW_S + 2.0)
            return runner.run(ours.measure(run, target, settle_s=SETTLE_S, window_s=WINDOW_S))

        workflow = interleaved(
            {
                "tidegate, workflow": lambda: tidegate(WORKFLOW),
                "k6, workflow": lambda: peers.k6("workflow", USERS),
                "locust, workflow": lambda: peers.locust("workflow", USERS),
            }
        )
        single = interleaved(
            {
                "tidegate, GET": lambda: tidegate(ONE),
                "hey, GET": lambda: peers.hey(USERS),
                "bare protocol, GET": lambda: peers.bare(USERS),
                "wrk, GET": lambda: peers.wrk(USERS),
            }
        )
    finally:
        runner.run(context.__aexit__(None, None, None))
    return _bars({**workflow, **single})


def _bars(samples: dict[str, list[Sample]]) -> list[Bar]:
    rate = {name: median(found) for name, found in samples.items()}
    ours, single = rate["tidegate, workflow"], rate["tidegate, GET"]
    unequal = max(abs(1 - sample.accounted) for name in samples for sample in samples[name] if "bare" not in name)
    failed = sum(sample.failed for found in samples.values() for sample in found)
    broker = median(samples["tidegate, workflow"], "broker_cpu")
    least: Literal["at least"] = "at least"
    return [
        Bar("workflow against k6", ours / rate["k6, workflow"], 4, "times", HOW, least),
        Bar("workflow against Locust FastHttpUser", ours / rate["locust, workflow"], 5, "times", HOW, least),
        Bar("workflow", ours, 0, "requests/s", HOW, least),
        Bar("single GET against hey", single / rate["hey, GET"], 1, "times", HOW, least),
        Bar("single GET", single, 0, "requests/s", HOW, least),
        Bar("single GET, share of the bare protocol", single / rate["bare protocol, GET"], 0, "", HOW, least),
        Bar("single GET, share of wrk", single / rate["wrk, GET"], 0, "", HOW, least),
        Bar("the broker's CPU during the workflow", broker, 1, "cores", HOW),
        Bar("requests a tool says it made and the target counted differ by", unequal, 0.02, "", HOW),
        Bar("requests that failed, in any tool", failed, 0, "requests", HOW, "exactly"),
    ]
