"""How long a newcomer waits: a fresh clone, ``make demo``, ``make test``; and what the demo's report says."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from bench.bars import Bar

ROOT = Path(__file__).parents[1]


def measure() -> list[Bar]:
    """Clone what is committed into a private folder and do what the README says, from nothing."""
    with tempfile.TemporaryDirectory(prefix="tidegate-newcomer-") as folder:
        clone = Path(folder) / "tidegate"
        began = time.monotonic()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        demo = subprocess.run(["make", "demo"], cwd=clone, check=False)
        demo_s = time.monotonic() - began
        report = json.loads((clone / ".tidegate/demo/report.json").read_text())
        began = time.monotonic()
        test = subprocess.run(["make", "test"], cwd=clone, check=False)
        test_s = time.monotonic() - began
        left = subprocess.run(["git", "status", "--short"], cwd=clone, check=True, capture_output=True, text=True)
    missing = sum(row["missing"] for row in report["results"])
    unequal = sum(row["sent"] != row["stored"] for row in report["results"])
    resolved = sum(breach["status"] == "resolved" for breach in report["breaches"])
    return [
        Bar("git clone to the end of make demo", demo_s, 240, "s", "git clone; make demo"),
        Bar("make demo ended 0: its story happened", demo.returncode, 0, "", "make demo", "exactly"),
        Bar("demo: requests missing", missing, 0, "requests", "report.json", "exactly"),
        Bar("demo: actions whose sent and stored differ", unequal, 0, "actions", "report.json", "exactly"),
        Bar("demo: breaches opened and resolved", resolved, 1, "breaches", "report.json", "at least"),
        Bar("make test after it", test_s, 360, "s", "make test"),
        Bar("make test ended 0", test.returncode, 0, "", "make test", "exactly"),
        Bar("files left in the clone", len(left.stdout.splitlines()), 0, "files", "git status --short", "exactly"),
    ]
