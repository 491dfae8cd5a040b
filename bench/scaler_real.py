"""The scaler on the whole embedded stack: RelayCore's load grows fourfold at one moment, and at another it is gone.

The shipped rules with what a replica can do (``sizing``), and with the time of idleness and the stabilization window
shortened so that the way down is seen too.
Times count from the moments of the load's own shape; response times are those of the generator, from the intended
moment of sending, by the second a request ended in.
"""

import itertools
import json
import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.bars import Bar
from bench.stack import Stack, sleep_until, stack

RATE = int(os.environ.get("TIDEGATE_BENCH_RATE", "240"))
"""Requests/s after the step; a quarter of it before. Two replicas carry about 166 a second, four 332."""
BEFORE_S, AFTER_S = 20, 45
TARGET_MS = 200.0
"""The platform's target for the response time of its API."""
WITHIN_S = 20.0
IDLE_FOR_S, STABLE_S = 15, 15
SETTLED_S = 5.0
"""So long the p95 must stay under its target to be back."""
SERVICE = "relaycore"
SIZING = {"concurrency": 1, "start_up": "3s", "drain": "5s"}
"""What is known of a replica: one router, up within seconds. So one step reaches the right size."""
HOW = (
    f"embedded stack, {RATE // 4} → {RATE} requests/s at RelayCore from 2 replicas; rules as shipped with sizing, "
    f"idle_for {IDLE_FOR_S} s and stabilization down {STABLE_S} s; make bench BENCH=scaling"
)
SCENARIO: dict[str, Any] = {
    "name": "routing",
    "system": SERVICE,
    "workflow": False,
    "steps": [
        {
            "action": "authenticate", "system": SERVICE, "method": "POST", "path": "/api/auth/login",
            "body": {"username": "user-${user}", "password": "${secret.platform_password}"},
            "capture": {"token": "$.access_token"}, "expect": {"status": 200}, "once": True,
            "valid_for": "$.expires_in",
        },
        {
            "action": "send_ai_request", "system": SERVICE, "method": "POST", "path": "/api/ai/requests",
            "headers": {"Authorization": "Bearer ${token}"},
            "body": {"prompt": "How long", "strategy": "latency", "max_tokens": 8}, "expect": {"status": 202},
        },
    ],
}  # fmt: skip
_TIMES = """
SELECT extract(epoch FROM t.at)::float8, (t.dispatch_us + t.service_us) / 1e3, t.error <> 0
FROM request_timing t JOIN producer p USING (producer_id) WHERE p.run = %s ORDER BY 1
"""
_MOVES = """
SELECT extract(epoch FROM at)::float8, record ->> 'action', (record ->> 'target')::int FROM scaling_record
WHERE service = %s AND kind = 'decision' AND record ->> 'action' <> 'no_action' ORDER BY sequence
"""


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        with _short_rules(folder), stack(folder, workers=1) as started:
            return _measure(started, folder)


@dataclass
class Watch:
    """What the supervisor told of the service: (s since the Unix epoch, wanted, ready, unhealthy)."""

    url: str
    seen: list[tuple[float, int, int, int]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(0.2):
            with urllib.request.urlopen(f"{self.url}/services/{SERVICE}", timeout=5) as answer:
                told = json.load(answer)
            unhealthy = sum(one["state"] == "unhealthy" for one in told["instances"])
            self.seen.append((time.time(), told["desired"], told["ready"], unhealthy))

    def first(self, since_s: float, replicas: int) -> float:
        """When so many were wanted and ready after a moment; endless if never."""
        return next((at for at, *two, _ in self.seen if at >= since_s and two == [replicas, replicas]), float("inf"))


def _measure(started: Stack, folder: Path) -> list[Bar]:
    scenario = folder / "routing.yaml"
    scenario.write_text(yaml.safe_dump(SCENARIO))
    watch = Watch(started.state["platform"]["supervisor_url"])
    watching = threading.Thread(target=watch.run, daemon=True)
    watching.start()
    shape = f"0s:0.25,{BEFORE_S}s:0.25,0s:1,{AFTER_S}s:1"
    load = ["--rate", f"{RATE}/s", "--users", "48", "--stages", shape]
    running = started.run(folder / "report.json", str(scenario), *load)
    run, began = started.started()
    stepped, gone = began + BEFORE_S, began + BEFORE_S + AFTER_S
    running.wait(BEFORE_S + AFTER_S + 120)
    sleep_until(gone + IDLE_FOR_S + STABLE_S + 30)
    watch.over.set()
    watching.join(10)
    moves = started.store.execute(_MOVES, (SERVICE,)).fetchall()
    ended, took_ms, failed = (np.array(column) for column in zip(*started.store.execute(_TIMES, (run,)), strict=True))
    ups = [(at, count) for at, action, count in moves if action == "scale_up" and stepped <= at < gone]
    for at, action, count in moves:
        print(f"  {at - stepped:+6.1f} s  {action} to {count}", flush=True)
    back_s = back_under(ended, took_ms, stepped, gone) - stepped
    ready_s = watch.first(ups[-1][0] if ups else stepped, ups[-1][1] if ups else 2) - stepped
    minimum_s = watch.first(gone, 2) - gone
    unhealthy = max(one[3] for one in watch.seen)
    return [
        Bar("load ×4: all replicas ready after the step", ready_s, WITHIN_S, "s", HOW),
        Bar(f"load ×4: p95 back under {TARGET_MS:g} ms after the step", back_s, WITHIN_S, "s", HOW),
        Bar("load ×4: scaling actions", len(ups), 2, "moves", HOW),
        Bar("load gone: back at the minimum after", minimum_s, IDLE_FOR_S + STABLE_S + 15, "s", HOW),
        Bar("unhealthy replicas on the way, at most", unhealthy, 0, "replicas", HOW),
        Bar("requests that failed on the way", int(np.sum(failed)), 0, "requests", HOW),
    ]


def back_under(ended: Any, took_ms: Any, stepped: float, gone: float) -> float:
    """From when on the p95 of every second stays under its target, for ``SETTLED_S`` at least; endless if never."""
    over = stepped
    for second in itertools.takewhile(lambda at: at + 1 <= gone, itertools.count(stepped)):
        within = took_ms[(ended >= second) & (ended < second + 1)]
        if len(within) == 0 or np.percentile(within, 95, method="inverted_cdf") > TARGET_MS:
            over = second + 1
        elif second + 1 - over >= SETTLED_S:
            return over
    return float("inf")


@contextmanager
def _short_rules(folder: Path) -> Iterator[None]:
    """The shipped configuration with a short way down, for what this process starts."""
    config = folder / "config"
    config.mkdir()
    for file in Path("config").glob("*.yaml"):
        (config / file.name).write_text(file.read_text())
    rules = yaml.safe_load((config / "scaling.yaml").read_text())
    rules["tuning"]["stabilization"]["down"] = f"{STABLE_S}s"
    rules["services"][SERVICE]["down"]["idle_for"] = f"{IDLE_FOR_S}s"
    rules["services"][SERVICE]["sizing"] = SIZING
    (config / "scaling.yaml").write_text(yaml.safe_dump(rules))
    before = os.environ.get("TIDEGATE_CONFIG_DIR")
    os.environ["TIDEGATE_CONFIG_DIR"] = str(config)
    try:
        yield
    finally:
        os.environ.pop("TIDEGATE_CONFIG_DIR")
        if before is not None:
            os.environ["TIDEGATE_CONFIG_DIR"] = before
