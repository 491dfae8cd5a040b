"""Whether ``tidegate compare`` tells runs apart that are not, and finds those that are. Simulated runs, seeded.

A pair is flagged where its verdict is regressed or improved. Other values by ``TIDEGATE_BENCH_SEED``, ``_PAIRS``,
``_RATE`` (requests/s), ``_SECONDS``, ``_SIGMA``, ``_ALIKE`` (AR(1) of the logarithms from request to request),
``_ACTIONS``.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import signal

from bench.bars import Bar
from bench.simulated_runs import Simulated
from services.console.comparing.change_points import find_change_points
from services.console.comparing.measures import measure_all
from services.console.comparing.verdict import ActionKey, Compared, Rules, Verdict, judge
from shared.contracts.timing import Kind


def _number(name: str, default: float) -> float:
    return float(os.environ.get(f"TIDEGATE_BENCH_{name}", default))


SEED, PAIRS, ACTIONS = int(_number("SEED", 1)), int(_number("PAIRS", 500)), int(_number("ACTIONS", 1))
ALIKE = _number("ALIKE", 0.6)
PLAIN = Simulated(_number("RATE", 50), int(_number("SECONDS", 120)), _number("SIGMA", 0.5))
HISTORIES, HISTORY_RUNS, RUN_NOISE = 300, 60, 0.03
HOW = (
    f"{PAIRS} pairs of {PLAIN.duration_s} s at {PLAIN.rate:g} requests/s, lognormal, sigma {PLAIN.sigma:g}, "
    f"{ACTIONS} actions, seed {SEED}; make bench BENCH=compare"
)


@dataclass(frozen=True, slots=True)
class Told:
    """Of many pairs: how many ended with each verdict, and how much CPU time one comparison took."""

    verdicts: dict[Verdict, int]
    seconds: float

    @property
    def flagged(self) -> int:
        return self.verdicts[Verdict.REGRESSED] + self.verdicts[Verdict.IMPROVED]

    @property
    def power(self) -> float:
        return self.verdicts[Verdict.REGRESSED] / sum(self.verdicts.values())


def measure() -> list[Bar]:
    autocorrelated = replace(PLAIN, alike=ALIKE)
    drifts = {
        f"seconds in common, AR(1) {ALIKE:g} by seconds": replace(PLAIN, drifting=1.0, drift_alike=ALIKE),
        "a fifth of the variance drifting, AR(1) 0.9 by seconds": replace(PLAIN, drifting=0.2, drift_alike=0.9),
    }
    with ProcessPoolExecutor() as pool:
        told = partial(_many, pool)
        alarms = {"independent": told(PLAIN, PLAIN), f"AR(1) {ALIKE:g}": told(autocorrelated, autocorrelated)}
        bars = [Bar(f"A/A pairs flagged, {name}", item.flagged, 0.02 * PAIRS, "", HOW) for name, item in alarms.items()]
        bars += [
            Bar(f"A/A pairs flagged, {name} (told, not held)", told(run, run).flagged, PAIRS, "", HOW)
            for name, run in drifts.items()
        ]
        for name, base in (("independent", PLAIN), (f"AR(1) {ALIKE:g}", autocorrelated)):
            whole = told(base, base.slower(1.1)).power
            tail = told(base, replace(base, tail_factor=1.1)).power
            bars.append(Bar(f"+10 % on the whole distribution found, {name}", whole, 0.95, "", HOW, "at least"))
            bars.append(Bar(f"+10 % on the slowest tenth alone found, {name} (told)", tail, 0, "", HOW, "at least"))
        for errors in (0.015, 0.03):
            power = told(PLAIN, replace(PLAIN, errors=errors)).power
            bars.append(Bar(f"errors {PLAIN.errors:.1%} to {errors:.1%} found (told)", power, 0, "", HOW, "at least"))
        same = told(replace(PLAIN, duration_s=5 * PLAIN.duration_s), replace(PLAIN, duration_s=5 * PLAIN.duration_s))
        shown = same.verdicts[Verdict.SAME] / PAIRS
        bars.append(Bar(f"A/A shown the same, {5 * PLAIN.duration_s} s each (told)", shown, 0, "", HOW, "at least"))
        bars.append(
            Bar("one action compared, mean CPU time", 1e3 * alarms["independent"].seconds / ACTIONS, 200, "ms", HOW)
        )
        return bars + _histories(pool)


def _many(pool: ProcessPoolExecutor, base: Simulated, candidate: Simulated) -> Told:
    """The pairs have seeds of their own, so that they are the same on any number of cores."""
    verdicts: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
    seconds = 0.0
    for verdict, took in pool.map(partial(compare_pair, base, candidate), range(PAIRS), chunksize=10):
        verdicts[verdict] += 1
        seconds += took / PAIRS
    print("  ", {verdict.value: count for verdict, count in verdicts.items()}, base, candidate, flush=True)
    return Told(verdicts, seconds)


def compare_pair(base: Simulated, candidate: Simulated, number: int) -> tuple[Verdict, float]:
    """The worst verdict of a pair of runs, and the CPU seconds its comparison took."""
    generator = np.random.default_rng([SEED, number])
    runs = [(base.draw(generator), candidate.draw(generator)) for _ in range(ACTIONS)]
    began = time.process_time()
    compared = [
        Compared(
            ActionKey(Kind.REQUEST, "shop", "story", f"action{index}"), one.total, other.total, measure_all(one, other)
        )
        for index, (one, other) in enumerate(runs)
    ]
    found = {action.verdict for action in judge(compared, Rules())}
    took = time.process_time() - began
    return next(
        v for v in (Verdict.REGRESSED, Verdict.IMPROVED, Verdict.INSUFFICIENT, Verdict.SAME) if v in found
    ), took


def _histories(pool: ProcessPoolExecutor) -> list[Bar]:
    how = (
        f"{HISTORIES} histories of {HISTORY_RUNS} runs, figures scattered by {RUN_NOISE:.0%}, level 0.01; "
        "make bench BENCH=compare"
    )
    bars = []
    for alike, most in ((0.0, 0.02), (0.6, 0.1)):
        seen = list(pool.map(partial(_history, alike, 1.0), range(HISTORIES), chunksize=20))
        found = list(pool.map(partial(_history, alike, 1.1), range(HISTORIES), chunksize=20))
        name = f"runs AR(1) {alike:g}" if alike else "runs independent"
        bars.append(Bar(f"histories without a change that show one, {name}", float(np.mean(seen)), most, "", how))
        bars.append(
            Bar(f"+10 % ten runs before the end found, {name} (told)", float(np.mean(found)), 0, "", how, "at least")
        )
    return bars


def _history(alike: float, factor: float, number: int) -> bool:
    generator = np.random.default_rng([SEED, number])
    noise = generator.standard_normal(HISTORY_RUNS + 100)
    scatter = signal.lfilter([np.sqrt(1 - alike**2)], [1.0, -alike], noise)[100:]
    values = 20.0 * np.exp(RUN_NOISE * scatter) * np.where(np.arange(HISTORY_RUNS) >= HISTORY_RUNS - 10, factor, 1.0)
    return bool(find_change_points(values.tolist(), level=0.01, threshold=0.05))
