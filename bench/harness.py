"""What benches against peers need: processes on cores of their own, what they used, and paired rounds.

The tool under test has one core for itself, the target and the broker the other; this process sleeps meanwhile.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

TOOL_CORE, TARGET_CORE = 0, 1
ROUNDS = int(os.environ.get("TIDEGATE_BENCH_ROUNDS", "5"))
"""Rounds of which the median counts; ``TIDEGATE_BENCH_ROUNDS`` for fewer while trying something out."""

CACHE = Path(".tidegate/bench")
"""Where peers are installed, once."""


class Counting(Protocol):
    """A target that knows how many requests it has answered."""

    def requests(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen in the middle of a round: rate at the target, CPU (cores) and memory (MB) of the tool.

    ``broker_cpu`` where the tool under test has one. ``accounted``: requests the tool says it made over the whole round
    divided by those the target counted. ``failed``: requests the tool calls failed.
    """

    rate: float
    cpu: float
    memory_mb: float
    broker_cpu: float = 0.0
    accounted: float = 1.0
    failed: int = 0


def pin(pid: int, core: int) -> None:
    """Keep a process, its threads and all it starts from now on to one core (of those this machine has)."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core % (os.cpu_count() or 1)})


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Poll a condition; ends the bench with one line when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


def watch(target: Counting, pid: int, *, settle_s: float, window_s: float, broker: int | None = None) -> Sample:
    """Wait for load to arrive, let it settle, then measure for ``window_s``. Children of ``pid`` count with it."""
    before = target.requests()
    wait_until(lambda: target.requests() > before + 100, "the tool under test sends")
    time.sleep(settle_s)
    began, requests, cpu, broker_cpu = time.monotonic(), target.requests(), cpu_s(pid), cpu_s(broker)
    time.sleep(window_s)
    elapsed = time.monotonic() - began
    return Sample(
        (target.requests() - requests) / elapsed,
        (cpu_s(pid) - cpu) / elapsed,
        memory_mb(pid),
        (cpu_s(broker) - broker_cpu) / elapsed,
    )


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_s(pid: int | None) -> float:
    """CPU seconds a process and its children have used so far."""
    if pid is None:
        return 0.0
    return float(sum(sum(process.cpu_times()[:2]) for process in family(pid)))


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    return float(sum(process.memory_info().rss for process in family(pid)) / 1e6)


def interleaved(tools: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """``ROUNDS`` rounds in which every tool has its turn, so that a slow moment of the machine hits all of them."""
    samples: dict[str, list[Sample]] = {name: [] for name in tools}
    for number in range(ROUNDS):
        for name, measure in tools.items():
            sample = measure()
            samples[name].append(sample)
            print(
                f"  round {number + 1}  {name:<24} {sample.rate:>10,.0f} req/s  {sample.cpu:4.2f} cores  "
                f"{sample.memory_mb:6.0f} MB  accounted {sample.accounted:.4f}  failed {sample.failed}",
                flush=True,
            )
    return samples


def median(samples: list[Sample], field: str = "rate") -> float:
    return float(statistics.median(getattr(sample, field) for sample in samples))
