"""How often the judge is wrong and how soon it is right, over simulated load; and how fast one validator process is.

Times are lognormal, arrivals Poisson, readings of resources an AR(1) of lognormals. ``TIDEGATE_BENCH_HOURS``,
``_TRIALS``, ``_RATE``, ``_SIGMA``, ``_READING_SIGMA``, ``_SHARE`` (of the target), ``_STEP`` (of the target), ``_SEED``
and ``_BENCHMARKS`` (a file) change what is simulated.
"""

import os
import statistics
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from bench.bars import Bar
from bench.simulation import LATE_S, Setting, in_readings, only, simulate
from bench.streams import Change, Floats
from bench.validator_speed import measure_speed
from services.validator.levels import LOOK_S
from shared.contracts.benchmarks import Benchmark, Benchmarks, Source
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.breach import Breach, BreachStatus
from shared.settings import PROJECT_ROOT

HOURS = float(os.environ.get("TIDEGATE_BENCH_HOURS", "24"))
TRIALS = int(os.environ.get("TIDEGATE_BENCH_TRIALS", "100"))
RATE = float(os.environ.get("TIDEGATE_BENCH_RATE", "100"))
SIGMA = float(os.environ.get("TIDEGATE_BENCH_SIGMA", "0.5"))
READING_SIGMA = float(os.environ.get("TIDEGATE_BENCH_READING_SIGMA", "0.1"))
SHARE = float(os.environ.get("TIDEGATE_BENCH_SHARE", "0.95"))
STEP = float(os.environ.get("TIDEGATE_BENCH_STEP", "1.5"))
SEED = int(os.environ.get("TIDEGATE_BENCH_SEED", "1"))
FILE = Path(os.environ.get("TIDEGATE_BENCH_BENCHMARKS", str(PROJECT_ROOT / "config" / "benchmarks.yaml")))
PROCESSES = 2
SETTLED_S = 20.0
HOW = f"{RATE:g} requests/s, sigma {SIGMA:g}, seed {SEED}; make bench BENCH=validator"


@dataclass(frozen=True, slots=True)
class Steady:
    """What a steady run told: breaches opened by metric, and how resident memory (MB) grew after its first eighth."""

    opened: dict[str, int]
    grown_mb: float


def measure() -> list[Bar]:
    benchmarks = in_readings(load_benchmarks(FILE, "bench").benchmarks)
    setting = Setting(benchmarks, SEED, share=SHARE, rate=RATE, sigma=SIGMA, reading_sigma=READING_SIGMA)
    with ProcessPoolExecutor(PROCESSES) as pool:
        parts = [(replace(setting, seed=SEED + 10 * part), HOURS / PROCESSES) for part in range(PROCESSES)]
        steady = list(pool.map(_steady, *zip(*parts, strict=True)))
        bars = _steady_bars(steady)
        resources = only(benchmarks, Source.RESOURCE)
        for correlation in (0.0, 0.6, 0.9):
            readings = replace(setting, benchmarks=resources, correlation=correlation, rate=RATE / 100)
            halves = [(replace(readings, seed=SEED + part), HOURS / PROCESSES) for part in range(PROCESSES)]
            opened = sum(sum(half.opened.values()) for half in pool.map(_steady, *zip(*halves, strict=True)))
            what = f"false breaches of resources in {HOURS:g} h, neighbouring readings correlated {correlation:g}"
            bars.append(Bar(what, opened, 1, "", f"readings at {SHARE:.0%}, sigma {READING_SIGMA:g}; {HOW}"))
        bars += [bar for benchmark in _timed(benchmarks) for bar in _trials(pool, setting, *benchmark)]
        near = list(pool.map(_episodes_an_hour, [setting, setting], [1.0, 1.05]))
    bars += [
        Bar(f"episodes an hour at {share:g} x target, all latencies", value, limit, "", HOW)
        for (share, limit), value in zip(((1.0, 0.5), (1.05, 10)), near, strict=True)
    ]
    return [*bars, *measure_speed()]


def _steady_bars(parts: list[Steady]) -> list[Bar]:
    opened = Counter[str]()
    for part in parts:
        opened.update(part.opened)
    print("  false breaches:", dict(opened) or "none", flush=True)
    how = f"all benchmarks at {SHARE:.0%} of their targets, readings correlated 0.6; {HOW}"
    return [
        Bar(
            f"false breaches in {HOURS:g} simulated hours, all benchmarks", opened.total(), max(1, HOURS / 24), "", how
        ),
        Bar("resident memory grew after the first eighth by", max(part.grown_mb for part in parts), 10, "MB", how),
    ]


def _steady(setting: Setting, hours: float) -> Steady:
    process, memory = psutil.Process(), []

    def look() -> None:
        memory.append(process.memory_info().rss / 1e6)

    told = [breach for _, breach in simulate(setting, hours * 3600, every_stretch=look)]
    opened = Counter(f"{one.system} {one.metric}" for one in told if one.status is BreachStatus.OPENED)
    eighth = max(1, len(memory) // 8)
    return Steady(
        dict(opened), statistics.median(memory[-eighth:]) - statistics.median(memory[eighth : 2 * eighth] or memory)
    )


def _timed(benchmarks: Benchmarks) -> Iterable[tuple[str, Benchmark]]:
    for system, owner in benchmarks.systems.items():
        yield from ((system, one) for one in owner.benchmarks if one.source is Source.RESPONSE_TIME)


def _trials(pool: ProcessPoolExecutor, setting: Setting, system: str, benchmark: Benchmark) -> list[Bar]:
    """A step from the steady share and from half of the target, a hang, and one slow request, many times."""
    alone = replace(setting, benchmarks=_alone(only(setting.benchmarks, benchmark.source), system, benchmark.metric))
    name, seeds = f"{system} {benchmark.metric}", range(SEED, SEED + TRIALS)
    bars = []
    for before in (SHARE, 0.5):
        taken = list(pool.map(_step, [replace(alone, seed=seed, share=before) for seed in seeds], chunksize=5))
        late = float(np.quantile([3600.0 if one is None else one for one in taken], 0.95))
        what = f"{name}: p95 until a step from {before:g} to {STEP:g} x target opens"
        limit = 3 if before == SHARE else 3.5
        bars.append(Bar(what, late, limit, "s", f"{TRIALS} trials, lateness included; {HOW}"))
    settings, limits = [replace(alone, seed=seed) for seed in seeds], [benchmark.critical] * TRIALS
    hangs = [3600.0 if one is None else one for one in pool.map(_hang, settings, limits, chunksize=5)]
    single = sum(pool.map(_single, settings, chunksize=5))
    how = f"{TRIALS} trials; {HOW}"
    return [
        *bars,
        Bar(f"{name}: longest until a hang opens, after critical is exceeded in flight", max(hangs), 2, "s", how),
        Bar(f"{name}: breaches by a single request of 100 x critical", single, 0, "", how, "exactly"),
    ]


def _alone(benchmarks: Benchmarks, system: str, metric: str) -> Benchmarks:
    owner = benchmarks.systems[system]
    kept = tuple(one for one in owner.benchmarks if one.metric == metric)
    return benchmarks.model_copy(update={"systems": {system: owner.model_copy(update={"benchmarks": kept})}})


def _moment(setting: Setting) -> tuple[float, float]:
    """When a trial's change comes, and how long after a frame is cut it is judged: it travels, the judge rests."""
    rng = np.random.default_rng(setting.seed + 77)
    return SETTLED_S + float(rng.uniform(0, 1)), LATE_S + float(rng.uniform(0, LOOK_S))


def _first(setting: Setting, change: Change, until_s: float, phase_s: float) -> tuple[float, Breach] | None:
    told = simulate(replace(setting, change=change), until_s, phase_s)
    return next(((at_s, one) for at_s, one in told if one.status is BreachStatus.OPENED and at_s > SETTLED_S), None)


def _step(setting: Setting) -> float | None:
    """Seconds from the step to its breach."""
    at_s, phase_s = _moment(setting)

    def change(sent: Floats) -> Floats:
        return np.where(sent >= at_s, STEP / setting.share, 1.0)

    opened = _first(setting, change, SETTLED_S + 20, phase_s)
    return None if opened is None else opened[0] - at_s


def _hang(setting: Setting, critical_ms: float) -> float | None:
    """Seconds from when the first request that hangs has waited beyond the critical limit."""
    at_s, phase_s = _moment(setting)

    def change(sent: Floats) -> Floats:
        return np.where(sent >= at_s, np.inf, 1.0)

    opened = _first(setting, change, SETTLED_S + critical_ms / 1e3 + 20, phase_s)
    return None if opened is None else opened[0] - at_s - critical_ms / 1e3


def _single(setting: Setting) -> int:
    """Breaches by one request that takes a hundred times the critical limit."""
    at_s, phase_s = _moment(setting)

    def change(sent: Floats) -> Floats:
        factors = np.ones(len(sent))
        after = np.flatnonzero(sent >= at_s)
        if len(after) and at_s - sent[after].min() > -0.5:
            factors[after[sent[after].argmin()]] = 5_000.0
        return factors

    return int(_first(setting, change, SETTLED_S + 40, phase_s) is not None)


def _episodes_an_hour(setting: Setting, share: float) -> float:
    """Breaches opened an hour by all latencies at a share of their targets."""
    timed = only(setting.benchmarks, Source.RESPONSE_TIME)
    hours = max(0.5, HOURS / 6)
    return sum(_steady(replace(setting, benchmarks=timed, share=share), hours).opened.values()) / hours
