"""Whether the latency that is reported is what users had: a target that freezes, and its own log as the truth.

Arrivals at a constant rate; the target logs when it replied to which. The truth of arrival n is that moment minus the
moment the schedule wanted it, ``start + n / rate``. k6 and Locust stand beside it with what they report of their own.
"""

import asyncio
import json
import re
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.bars import Bar
from bench.harness import TARGET_CORE, TOOL_CORE, pin, wait_until
from bench.peers import Peers
from bench.workers import Bench, Outcome, bench
from deploy.embedded.ports import LOOPBACK, choose_port
from deploy.embedded.process import Child, start_child
from services.generator.coordinator import Plans

USERS, DURATION_S = 50, 32.0
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
ARRIVALS: dict[str, Any] = {
    "name": "arrivals",
    "system": "target",
    "workflow": False,
    "steps": [{"action": "one", "system": "target", "path": "/one?n=${arrival}", "expect": {"status": 200}}],
}
HOW = f"{USERS} users, {DURATION_S:g} s, tool on one core, target on the other; make bench BENCH=latency"


class FreezingTarget:
    """The server of ``freezing_server`` as a child on the target's core."""

    def __init__(self, folder: Path) -> None:
        self.port = choose_port("freezing", None)
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._log = folder / f"replies-{self.port}.npy"
        self._child = self._start(folder)
        pin(self._child.pid, TARGET_CORE)
        wait_until(self._answers, "the target answers")

    def requests(self) -> int:
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as answer:
            return int(answer.read())

    def replies(self) -> NDArray[np.int64]:
        """Stops it; (number, monotonic µs) of every reply."""
        self._child.stop()
        found: NDArray[np.int64] = np.load(self._log)
        return found

    def _start(self, folder: Path) -> Child:
        command = [sys.executable, "-m", "bench.freezing_server", self.port, self._log]
        return start_child("freezing", [str(part) for part in command], folder / "freezing.log")

    def _answers(self) -> bool:
        try:
            return self.requests() >= 0
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Compared:
    """Percentiles in ms, as reported and by the target's log; arrivals that are nowhere; the rate offered."""

    reported: list[float]
    truth: list[float]
    unaccounted: int
    offered: float
    dispatch: list[float]


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        bars = []
        for rate in (500.0, 5_000.0):
            found = asyncio.run(_ours(folder, rate))
            bars += _bars(found, rate)
        _print_peers(folder)
        return bars


async def _ours(folder: Path, rate: float) -> Compared:
    async with bench(folder / f"at-{rate:g}") as ours:
        await ours.workers(TOOL_CORE)
        target = FreezingTarget(folder)
        run = ours.wanted(target.url, ARRIVALS, users=USERS, rate=rate, duration_s=DURATION_S)
        await ours.fleet.ask(run)
        outcome = await ours.outcome(run)
        return compare(outcome, await _start_us(ours, run.run), rate, target.replies())


async def _start_us(ours: Bench, run: str) -> int:
    plan = await Plans(await ours.fleet.js.key_value(ours.fleet.subjects.bucket("shards"))).read(run)
    if plan is None:
        raise SystemExit(f"run {run} has no plan")
    return plan.start_us


def compare(outcome: Outcome, start_us: int, rate: float, replies: NDArray[np.int64]) -> Compared:
    """What the frames say of each arrival against what the target's log says of it."""
    rows = outcome.rows
    frame = outcome.frames[0]
    to_wall_us = frame.anchor_wall_us - frame.anchor_monotonic_us
    due = int(np.ceil(rate * DURATION_S - 1e-6))
    number = np.rint((rows["intended_us"] - start_us) * rate / 1e6).astype(np.int64)
    in_time = np.abs(start_us + number * 1e6 / rate - rows["intended_us"]) < 1_000
    accounted = np.intersect1d(number[in_time], np.arange(due))
    replied = dict(replies.tolist())
    lateness = [replied[n] + to_wall_us - (start_us + n * 1e6 / rate) for n in range(due) if n in replied]
    response = rows["dispatch_us"].astype(np.int64) + rows["service_us"]
    sent = np.sort(rows["intended_us"] + rows["dispatch_us"])
    return Compared(
        _percentiles(response),
        _percentiles(np.array(lateness)),
        (due - len(accounted)) + (due - len(lateness)) + (len(rows) - due),
        float(len(sent) / ((sent[-1] - sent[0]) / 1e6 + 1 / rate)),
        _percentiles(rows["dispatch_us"]),
    )


def _percentiles(values: NDArray[Any]) -> list[float]:
    return [float(value) / 1000 for value in np.percentile(values, PERCENTILES, method="inverted_cdf")]


def _bars(found: Compared, rate: float) -> list[Bar]:
    bars = []
    for percentile, reported, truth in zip(PERCENTILES, found.reported, found.truth, strict=True):
        allowed = max(2.0, 0.01 * truth) if rate <= 500 else 0.02 * truth
        how = f"reported {reported:.2f} ms, truth {truth:.2f} ms; {rate:g}/s, {HOW}"
        off = abs(reported - truth)
        bars.append(Bar(f"p{percentile:g} at {rate:,.0f}/s is off by", off, round(allowed, 3), "ms", how))
    how = f"{rate:g}/s, {HOW}"
    bars.append(Bar(f"arrivals unaccounted for at {rate:,.0f}/s", found.unaccounted, 0, "arrivals", how, "exactly"))
    bars.append(Bar(f"offered rate at {rate:,.0f}/s is off by", abs(found.offered / rate - 1) * 100, 0.2, "%", how))
    return bars


def _print_peers(folder: Path) -> None:
    """What k6 and Locust report of 500 arrivals/s against the same target."""
    for peer in ("k6", "locust"):
        target = FreezingTarget(folder)
        peers = Peers(target, target.url, folder, seconds=DURATION_S - 4.0)
        sample = peers.k6("one", USERS, 500) if peer == "k6" else peers.locust("one", USERS, 500)
        target.replies()
        reported = _of_k6(folder) if peer == "k6" else _of_locust(folder)
        print(f"  {peer:<8} {sample.rate:7.1f}/s of 500 offered; reports {reported}")


def _of_k6(folder: Path) -> str:
    metrics = json.loads((folder / "k6.json").read_text())["metrics"]
    duration = metrics["http_req_duration"]
    names = ("p(50)", "p(90)", "p(95)", "p(99)", "p(99.9)")
    text = "  ".join(f"{name} {duration[name]:.1f}" for name in names)
    return f"{text} ms; dropped {metrics.get('dropped_iterations', {}).get('count', 0)} arrivals"


def _of_locust(folder: Path) -> str:
    rows = re.findall(r"^ *Aggregated +((?:\d+ +)+\d+) *$", (folder / "locust.log").read_text(), re.MULTILINE)
    values = rows[-1].split()
    names = {"p(50)": 0, "p(90)": 4, "p(95)": 5, "p(99)": 7, "p(99.9)": 8}
    return "  ".join(f"{name} {values[at]}" for name, at in names.items()) + " ms"
