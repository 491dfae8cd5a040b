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
# When the last of the dead worker's users had its first answer from the other one.
_CARRIED = """
WITH timing AS (
  SELECT user_no, worker, t.at FROM request_timing t JOIN producer p USING (producer_id) WHERE p.run = %(run)s
)
SELECT count(*), extract(epoch FROM max(first))::float FROM (
  SELECT user_no, min(at) FILTER (WHERE worker = 'w1' AND at > to_timestamp(%(killed)s)) AS first
  FROM timing GROUP BY user_no HAVING bool_or(worker = 'w2')
) AS users WHERE first IS NOT NULL
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
            killed = time.time()
            running.wait(DURATION_S + 90)
        finally:
            os.kill(stack["keeper_pid"], signal.SIGCONT)
        carried, last = store.execute(_CARRIED, {"run": run, "killed": killed}).fetchone() or (0, 0.0)
    report = json.loads(report_file.read_text())
    counted = sum(sum(actions.values()) for actions in _counts(stack, run).values())
    (lost,) = report["generator_health"]["lost"]
    stored = sum(row["stored"] for row in report["results"])
    missing = sum(row["missing"] for row in report["results"])
    return [
        Bar("the last of the dead one's users is answered by the other after", last - killed, 6, "s", HOW),
        Bar("users of the dead one that the other carries", carried, USERS / 2 - 4, "users", HOW, "at least"),
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


def _counts(stack: dict[str, Any], run: str) -> dict[str, dict[str, int]]:
    url = f"{stack['platform']['supervisor_url']}/counts?run={run}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, dict[str, int]] = json.load(answer)
    return found
