"""200 users of the cross-system scenario for 60 s on two workers, one killed with SIGKILL at 30 s.

The other must carry its users within 6 s; every acknowledged event must be stored; and what the dead one may have
sent unrecorded is bounded by the report, which the systems' own counts check. The worker is not replaced: its keeper
would start it again within two seconds and hide whether the other carries its users.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg

from bench.bars import Bar

USERS, DURATION_S, KILL_AT_S = 200, 60, 30
HOW = f"{USERS} users, {DURATION_S} s, 2 workers, one killed at {KILL_AT_S} s; make bench BENCH=worker-loss"
_CARRIED = """
SELECT coalesce(sum((worker->>'users')::int), 0)
FROM run, jsonb_array_elements(state->'workers') AS worker WHERE run = %s AND worker->>'worker' = %s
"""


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        data = Path(folder) / "data"
        tidegate("up", "--data", str(data), "--workers", "2")
        try:
            return _measure(data, Path(folder) / "report.json")
        finally:
            tidegate("down", "--data", str(data))


def tidegate(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "services.console", *arguments], check=True, stdout=subprocess.DEVNULL)


def _measure(data: Path, report_file: Path) -> list[Bar]:
    stack = json.loads((data / "stack.json").read_text())
    command = ["run", "cross_system_integration", "--users", str(USERS), "--duration", f"{DURATION_S}s"]
    files = ["--ramp-up", "5s", "--data", str(data), "--json", str(report_file)]
    running = subprocess.Popen([sys.executable, "-m", "services.console", *command, *files])
    with psycopg.connect(stack["store_dsn"], autocommit=True) as store:
        run, started_at = _started(store)
        _sleep_until(started_at + KILL_AT_S)
        pid = stack["services"]["generator-w2"]["pid"]
        # The keeper must not replace it: frozen, it does not see the death until the run is over.
        os.kill(stack["keeper_pid"], signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            takeover_s = _taken_over(store, run, killed)
            running.wait(DURATION_S + 90)
        finally:
            os.kill(stack["keeper_pid"], signal.SIGCONT)
    report = json.loads(report_file.read_text())
    counted = sum(sum(actions.values()) for actions in _counts(stack, run).values())
    (lost,) = report["generator_health"]["lost"]
    stored = sum(row["stored"] for row in report["results"])
    missing = sum(row["missing"] for row in report["results"])
    return [
        Bar("the other worker carries all users after", takeover_s, 6, "s", HOW),
        Bar("acknowledged events that are not stored", missing, 0, "events", HOW, "exactly"),
        Bar("requests the systems counted and nobody stored", counted - stored, lost["held_requests"], "requests", HOW),
        Bar("the report's bound of what the dead one held", lost["held_ms"], 4_000, "ms", HOW),
    ]


def _started(store: psycopg.Connection[Any]) -> tuple[str, float]:
    for _ in range(300):
        row = store.execute("SELECT run, extract(epoch FROM started_at)::float FROM run").fetchone()
        if row and row[1]:
            return row[0], row[1]
        time.sleep(0.1)
    raise SystemExit("the run did not start")


def _sleep_until(wall_s: float) -> None:
    time.sleep(max(0.0, wall_s - time.time()))


def _taken_over(store: psycopg.Connection[Any], run: str, killed: float) -> float:
    while time.monotonic() - killed < 20:
        row = store.execute(_CARRIED, (run, "w1")).fetchone()
        if row and row[0] >= USERS:
            return time.monotonic() - killed
        time.sleep(0.05)
    return float("inf")


def _counts(stack: dict[str, Any], run: str) -> dict[str, dict[str, int]]:
    url = f"{stack['platform']['supervisor_url']}/counts?run={run}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, dict[str, int]] = json.load(answer)
    return found
