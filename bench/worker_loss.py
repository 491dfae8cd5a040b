"""200 users of the cross-system scenario for 60 s on two workers, one killed with SIGKILL at 30 s.

The other must carry its users within 6 s; every acknowledged event must be stored; and what the dead one may have
sent unrecorded is bounded by the report, which the systems' own counts check. The worker is not replaced: its keeper
would start it again within two seconds and hide whether the other carries its users.
"""

import json
import os
import signal
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.bars import Bar
from bench.stack import Stack, sleep_until, stack

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
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        with stack(folder, workers=2) as started:
            return _measure(started, folder / "report.json")


def _measure(started: Stack, report_file: Path) -> list[Bar]:
    load = ["--users", str(USERS), "--duration", f"{DURATION_S}s", "--ramp-up", "5s"]
    running = started.run(report_file, "cross_system_integration", *load)
    run, started_at = started.started()
    sleep_until(started_at + KILL_AT_S)
    with started.keeper_frozen():
        os.kill(started.worker_pid("w2"), signal.SIGKILL)
        killed = time.time()
        running.wait(DURATION_S + 90)
    carried, last = started.store.execute(_CARRIED, {"run": run, "killed": killed}).fetchone() or (0, 0.0)
    report = json.loads(report_file.read_text())
    counted = sum(sum(actions.values()) for actions in _counts(started, run).values())
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


def _counts(started: Stack, run: str) -> dict[str, dict[str, int]]:
    url = f"{started.state['platform']['supervisor_url']}/counts?run={run}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, dict[str, int]] = json.load(answer)
    return found
