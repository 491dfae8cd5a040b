"""Leaks: how often one is told where there is none, and how many of 2 MB/min are found within an hour of samples.

Every series is seeded: noise that remembers (AR(1) 0.8), load that waves, bursts, ramps, steps and walks with memory
following it, teeth of garbage collection, restarts; 200 MB to 4 GB, a sample each 1 to 15 s, noise of 5 to 50 MB.
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from bench.bars import Bar
from bench.leak_series import DRIFTING, DRIVEN, STEADY, Shape, draw_points, draw_shape, leaking
from services.scaler.resources.leak import Verdict, judge

SERIES, SEED = 1_000, 20_260_301
LOADS = (*STEADY, *DRIVEN, *DRIFTING)
NOISES_MB = (5.0, 15.0, 30.0, 50.0)
RESTART_S = (120.0, 900.0)


def _told(rng: np.random.Generator, shape: Shape) -> bool:
    return judge(draw_points(rng, shape)).verdict is Verdict.LEAK


def count_false_alarms(series: int = SERIES) -> Counter[str]:
    """By kind, leaks told of series without any; half of them with teeth."""
    told: Counter[str] = Counter()
    for number in range(series):
        rng = np.random.default_rng((SEED, 1, number))
        load = LOADS[number % len(LOADS)]
        teeth = number // len(LOADS) % 2 == 1
        told[load + (" with teeth" if teeth else "")] += _told(rng, draw_shape(rng, load, teeth=teeth))
    return told


def count_found(kind: str, series: int) -> int:
    """Leaks found of so many with 2 MB/min, of one noise level, one load, with teeth, or restarted on the way."""
    found = 0
    for number in range(series):
        rng = np.random.default_rng((SEED, 2, *kind.encode(), number))
        shape = draw_shape(rng, kind if kind in LOADS else "steady", teeth=kind == "teeth")
        if kind.startswith("noise"):
            shape = replace(shape, noise_mb=float(kind.split()[1]))
        if kind == "restart":
            shape = replace(shape, restart_s=float(rng.uniform(*RESTART_S)))
        found += _told(rng, leaking(shape))
    return found


def measure() -> list[Bar]:
    how = "seeded series of an hour; make bench BENCH=leaks"
    told = count_false_alarms()
    print("false alarms:", ", ".join(f"{kind} {count}" for kind, count in sorted(told.items()) if count) or "none")
    kinds = ("steady", *(f"noise {noise:g} MB" for noise in NOISES_MB), *DRIVEN, "teeth", "restart")
    each = SERIES // len(kinds)
    found = {kind: count_found(kind, each) for kind in kinds}
    drifting = {kind: count_found(kind, each // 2) for kind in DRIFTING}
    print("found:", ", ".join(f"{kind} {count / each:.0%}" for kind, count in found.items()))
    print("found while the load drifts:", ", ".join(f"{kind} {n / (each // 2):.0%}" for kind, n in drifting.items()))
    return [
        Bar("false alarms in 1,000 series without a leak", sum(told.values()), 17, "series", how),
        Bar(
            "leaks of 2 MB/min found within an hour",
            sum(found.values()) / (each * len(kinds)),
            0.9,
            "",
            how,
            "at least",
        ),
    ]
