"""The significance of each benchmark, from how many false breaches a day one accepts over all of them together.

A benchmark is looked at several times a second, through windows that overlap, so its looks are far from independent.
How many independent ones they are worth is known for a sliding mean, whose correlation falls linearly over its
length: with *b* the normal quantile of the significance, windows of *w* seconds looked at every *d* seconds pass the
limit in clumps, at ``b² / w · ν(b √(2d/w))`` times the significance a second (Aldous 1989, C5; Siegmund 1985, ν as of
Siegmund and Yakir 2007). ``docs/verdicts.md`` derives it at length; ``bench/validator.py`` measures it.
"""

import math

from scipy.special import ndtr, ndtri

from shared.contracts.benchmarks import Benchmark, Benchmarks, Source

DAY_S = 86_400
LOOK_S = 0.1
"""New data is looked at this often at most. One worker's frames come every 0.2 s, those of several in between."""
READING_S = 1.0
NEWEST_S = 2
SHORT_SHARE = 0.3
SHORT_LEAST_S = 3


def short_seconds(benchmark: Benchmark) -> int:
    """Length of the short window beside a benchmark's own, in whole seconds."""
    return max(SHORT_LEAST_S, round(SHORT_SHARE * benchmark.window))


def independent_looks_per_s(window_s: float, look_s: float, significance: float) -> float:
    """How many independent judgements a second a sliding window is worth at a significance."""
    b = -float(ndtri(significance))
    x = b * math.sqrt(2 * look_s / window_s) / 2
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    overshoot = (float(ndtr(x)) - 0.5) / x / (x * float(ndtr(x)) + density)
    return min(1 / look_s, b * b / window_s * overshoot)


def significance_for(benchmark: Benchmark, false_per_day: float) -> float:
    """The significance at which a benchmark just kept is called broken so often a day, by any of its windows."""
    look_s, windows_s = LOOK_S, [max(1.0, benchmark.window), float(short_seconds(benchmark)), float(NEWEST_S)]
    if benchmark.source is Source.RESOURCE:
        look_s, windows_s = READING_S, windows_s[:1]
    level = 1e-6
    for _ in range(30):
        looks = DAY_S * sum(independent_looks_per_s(window_s, look_s, level) for window_s in windows_s)
        level = min(0.05, false_per_day / looks)
    return level


def derive_levels(benchmarks: Benchmarks) -> dict[tuple[str, str], float]:
    """Significance by system and metric: a benchmark's own where it is written, else from an equal part each."""
    every = [(system, one) for system, owner in benchmarks.systems.items() for one in owner.benchmarks]
    derived = sum(one.significance is None for _, one in every)
    return {
        (system, one.metric): one.significance or significance_for(one, benchmarks.false_breaches_per_day / derived)
        for system, one in every
    }
