"""A constant arrival rate over four workers while one is killed, and another stands still for 10 s and goes on.

The rate that was really offered is that of the moments of sending in the store, in windows of a second.
"""

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from bench.bars import Bar
from bench.nginx import Nginx
from bench.stack import Stack, sleep_until, stack

RATE, USERS, DURATION_S = 500, 100, 75
KILL_AT_S, FREEZE_AT_S, FREEZE_S = 15, 35, 10
HOW = (
    f"{RATE} arrivals/s over 4 workers for {DURATION_S} s, one killed at {KILL_AT_S} s and not replaced, another "
    f"stopped for {FREEZE_S} s at {FREEZE_AT_S} s; make bench BENCH=elastic"
)
SCENARIO: dict[str, Any] = {
    "name": "arrivals",
    "system": "target",
    "workflow": False,
    "steps": [{"action": "one", "system": "target", "path": "/one", "expect": {"status": 200}}],
}
_SENT = """
SELECT extract(epoch FROM t.at)::float8 - t.service_us / 1e6 FROM request_timing t JOIN producer p USING (producer_id)
WHERE p.run = %s ORDER BY 1
"""


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        target = Nginx(folder / "nginx")
        target.start()
        try:
            with stack(folder, workers=4) as started:
                return _measure(started, target, folder)
        finally:
            target.stop()


def _measure(started: Stack, target: Nginx, folder: Path) -> list[Bar]:
    scenario, report_file = folder / "arrivals.yaml", folder / "report.json"
    scenario.write_text(yaml.safe_dump(SCENARIO))
    before = target.requests()
    load = ["--rate", f"{RATE}/s", "--users", str(USERS), "--duration", f"{DURATION_S}s"]
    running = started.run(report_file, str(scenario), *load, "--target", f"target={target.url}")
    run, began = started.started()
    with started.keeper_frozen():
        sleep_until(began + KILL_AT_S)
        os.kill(started.worker_pid("w2"), signal.SIGKILL)
        killed = time.time()
        sleep_until(began + FREEZE_AT_S)
        os.kill(started.worker_pid("w3"), signal.SIGSTOP)
        frozen = time.time()
        time.sleep(FREEZE_S)
        os.kill(started.worker_pid("w3"), signal.SIGCONT)
        thawed = time.time()
        running.wait(DURATION_S + 90)
    counted = target.requests() - before
    report = json.loads(report_file.read_text())
    sent = np.array(started.store.execute(_SENT, (run,)).fetchall())[:, 0]
    lost = report["generator_health"]["lost"]
    total = {name: sum(row[name] for row in report["results"]) for name in ("sent", "stored", "missing")}
    held = sum(worker["held_requests"] for worker in lost)
    worst = max(rates(sent, began + 1.0, began + DURATION_S - 1.0)[1])
    return [
        Bar("offered rate back to 99 % after the death", back_after(sent, killed, frozen), 6, "s", HOW),
        Bar("offered rate back to 99 % after the standstill began", back_after(sent, frozen, thawed), 6, "s", HOW),
        Bar("offered rate back to 99 % after it went on", back_after(sent, thawed, began + DURATION_S), 6, "s", HOW),
        Bar("most offered in any second", worst / RATE * 100, 101, "%", HOW),
        Bar(
            "requests sent as acknowledged but not stored", abs(total["sent"] - total["stored"]), 0, "", HOW, "exactly"
        ),
        Bar("requests missing", total["missing"], 0, "", HOW, "exactly"),
        Bar("requests the target counted and nobody stored", counted - total["stored"], held, "requests", HOW),
        Bar("the report's bound of what the lost ones held", max(w["held_ms"] for w in lost), 4_000, "ms", HOW),
    ]


def rates(sent: NDArray[np.float64], begin: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Requests sent in each window of a second, with the moment it ends."""
    ends = np.arange(begin + 1.0, end, 0.1)
    return ends, (np.searchsorted(sent, ends) - np.searchsorted(sent, ends - 1.0)).astype(np.float64)


def back_after(sent: NDArray[np.float64], event: float, until: float) -> float:
    """How long after an event the last second ended in which less than 99 % were offered; 0 without one."""
    ends, counts = rates(sent, event, until - 1.0)
    short = ends[counts < 0.99 * RATE]
    return float(short[-1] - event) if len(short) else 0.0
