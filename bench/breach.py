"""From a fault in the system under test to the breach at a subscriber, on the whole embedded stack; k6 beside it.

A real worker calls AutoMatrix at an even rate. A fault (slow, or errors) is switched on in the stand-in, and off once a
plain nats-py subscriber of the stream has the breach; the same subscriber waits for its end. At last k6 runs for
ten quiet minutes beside the load, with thresholds that abort it, and both meet the same fault at the same moment.
"""

import asyncio
import contextlib
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import aiohttp
import nats
import numpy as np
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from bench.bars import Bar
from bench.peers import installed
from bench.stack import Stack, stack
from shared.contracts.breach import Breach, BreachEvent, BreachStatus
from shared.subjects import Subjects

TRIALS = int(os.environ.get("TIDEGATE_BENCH_TRIALS", "20"))
RATE = int(os.environ.get("TIDEGATE_BENCH_RATE", "100"))
QUIET_S = float(os.environ.get("TIDEGATE_BENCH_QUIET_S", "600"))
"""How long k6 runs before its fault; 0 leaves it out."""
K6_RATE = int(os.environ.get("TIDEGATE_BENCH_K6_RATE", "50"))
SEED = int(os.environ.get("TIDEGATE_BENCH_SEED", "1"))
FAULTS = {
    "api_response_time": {"kind": "slow", "factor": 100.0},
    "error_rate": {"kind": "errors", "rate": 0.5},
}
"""The metric that each fault breaks; a light call takes 4 ms, so 400 against a target of 200."""
SETTLE_S = 12.0
PATIENCE_S = 30.0
K6_PATIENCE_S = 300.0
SYSTEM, SERVICE = "autmatrix", "autmatrix-backend"
HERE = Path(__file__).parent


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        with stack(folder, workers=1) as started:
            lasts_s = TRIALS * (SETTLE_S + 2 * PATIENCE_S) + QUIET_S + K6_PATIENCE_S + 120
            load = ["--rate", f"{RATE}/s", "--users", "200", "--duration", f"{lasts_s:.0f}s"]
            running = started.run(folder / "report.json", str(HERE / "breach.yaml"), *load)
            try:
                started.started()
                return asyncio.run(_measure(started))
            finally:
                running.terminate()
                running.wait(60)


@dataclass
class Subscriber:
    """What a plain subscriber has heard of AutoMatrix, with when (s, monotonic)."""

    heard: list[tuple[float, Breach]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, breach: Breach) -> None:
        if breach.system == SYSTEM:
            self.heard.append((time.monotonic(), breach))
            self.news.set()

    async def first(self, metric: str, status: BreachStatus, since: float, patience_s: float = PATIENCE_S) -> float:
        """When the first such event after ``since`` was heard."""
        async with asyncio.timeout(patience_s):
            while True:
                self.news.clear()
                for at, breach in self.heard:
                    if at > since and breach.metric == metric and breach.status is status:
                        return at
                await self.news.wait()


async def _measure(started: Stack) -> list[Bar]:
    async with _subscribed(started) as subscriber, aiohttp.ClientSession() as session:
        chance = random.Random(SEED)
        opened: dict[str, list[float]] = {metric: [] for metric in FAULTS}
        resolved: dict[str, list[float]] = {metric: [] for metric in FAULTS}
        for number in range(TRIALS):
            metric = list(FAULTS)[number % len(FAULTS)]
            await asyncio.sleep(SETTLE_S + chance.uniform(0, 2))
            on = await _fault(started, session, FAULTS[metric])
            heard = await subscriber.first(metric, BreachStatus.OPENED, on)
            off = await _fault(started, session, {"kind": "none"})
            ended = await subscriber.first(metric, BreachStatus.RESOLVED, heard)
            opened[metric].append(heard - on)
            resolved[metric].append(ended - off)
            print(
                f"  trial {number + 1}  {metric:<18} opened {heard - on:5.2f} s  resolved {ended - off:5.2f} s",
                flush=True,
            )
        bars = _bars(opened, resolved)
        return bars + (await _beside_k6(started, session, subscriber) if QUIET_S else [])


def _bars(opened: dict[str, list[float]], resolved: dict[str, list[float]]) -> list[Bar]:
    how = f"{TRIALS} trials at {RATE} requests/s, slow and errors in turn; make bench BENCH=breach"
    all_opened, all_resolved = [*chain(*opened.values())], [*chain(*resolved.values())]
    return [
        Bar("fault on to breach opened at a subscriber, p95", _p95(all_opened), 3, "s", how),
        Bar("fault off to breach resolved at a subscriber, worst", max(all_resolved), 5, "s", how),
        *(Bar(f"{metric}: opened, p95", _p95(times), 3, "s", how) for metric, times in opened.items() if times),
        *(Bar(f"{metric}: resolved, p95", _p95(times), 5, "s", how) for metric, times in resolved.items() if times),
    ]


async def _beside_k6(started: Stack, session: aiohttp.ClientSession, subscriber: Subscriber) -> list[Bar]:
    password = json.loads((started.data / "secrets.json").read_text())["platform"]
    environment = {
        **os.environ,
        "TARGET": started.state["platform"]["targets"][SYSTEM],
        "PASSWORD": password,
        "RATE": str(K6_RATE),
        "DURATION": f"{QUIET_S + K6_PATIENCE_S:.0f}s",
    }
    k6 = await asyncio.create_subprocess_exec(
        *(str(installed() / "k6"), "run", "--quiet", "--no-usage-report", "--no-summary", str(HERE / "breach.js")),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.sleep(QUIET_S)
        if k6.returncode is not None:
            raise SystemExit(f"k6 ended before the fault, code {k6.returncode}")
        on = await _fault(started, session, FAULTS["api_response_time"])
        ours = await subscriber.first("api_response_time", BreachStatus.OPENED, on) - on
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(k6.wait(), K6_PATIENCE_S)
        theirs = time.monotonic() - on
    finally:
        await _fault(started, session, {"kind": "none"})
        if k6.returncode is None:
            k6.kill()
            await k6.wait()
    ended = f"k6 at {K6_RATE} requests/s, abortOnFail on p(95)<200 and rate<0.01, {QUIET_S:g} s before the fault"
    print(f"  beside k6: ours {ours:.2f} s, k6's abort {theirs:.1f} s ({ended})", flush=True)
    return [Bar("the same fault: our breach, as a share of k6's time to its abort", ours / theirs, 0.5, "", ended)]


@contextlib.asynccontextmanager
async def _subscribed(started: Stack) -> AsyncIterator[Subscriber]:
    names, subscriber = Subjects(started.state["environment"]), Subscriber()
    client = await nats.connect(started.state["nats_url"])

    async def hear(message: Msg) -> None:
        subscriber.hear(BreachEvent.model_validate_json(message.data).data)
        await message.ack()

    await client.jetstream().subscribe(
        names.breach(SYSTEM, "*", "*"),
        stream=names.stream("BREACHES"),
        durable="bench",
        deliver_policy=DeliverPolicy.NEW,
        manual_ack=True,
        cb=hear,
    )
    try:
        yield subscriber
    finally:
        await client.close()


async def _fault(started: Stack, session: aiohttp.ClientSession, fault: dict[str, object]) -> float:
    """Switch it; when the first replica may have had it (s, monotonic), so that ours is never the shorter time."""
    url = f"{started.state['platform']['supervisor_url']}/faults"
    at = time.monotonic()
    async with session.post(url, json={"service": SERVICE, **fault}) as answer:
        answer.raise_for_status()
    return at


def _p95(times: list[float]) -> float:
    return float(np.percentile(times, 95, method="inverted_cdf"))
