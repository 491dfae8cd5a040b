"""Derived significances against simulated windows; what readings with memory may break."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from services.validator.levels import LOOK_S, derive_levels, independent_looks_per_s, significance_for
from services.validator.significance import scatter_of, scattered
from shared.contracts.benchmarks import Benchmark
from shared.contracts.benchmarks_file import load_benchmarks
from shared.settings import PROJECT_ROOT

SHIPPED = load_benchmarks(PROJECT_ROOT / "config" / "benchmarks.yaml", "test").benchmarks


@pytest.mark.parametrize("window_s", [3.0, 10.0, 30.0])
def test_a_sliding_window_passes_its_limit_as_often_as_said(window_s: float) -> None:
    level, looks, rng = 1e-3, 3_000_000, np.random.default_rng(7)
    wide = round(window_s / LOOK_S)
    sums = np.cumsum(rng.standard_normal(looks + wide))
    over = (sums[wide:] - sums[:-wide]) / np.sqrt(wide) > norm.isf(level)
    # A passage is a clump: it begins where nothing was over for a whole window.
    at = np.flatnonzero(over)
    clumps = 1 + int((np.diff(at) > wide).sum())
    said = looks * LOOK_S * independent_looks_per_s(window_s, LOOK_S, level) * level
    assert clumps == pytest.approx(said, rel=0.25)


def test_levels_share_what_is_accepted_and_a_written_one_stands() -> None:
    levels = derive_levels(SHIPPED)
    every = [(system, one) for system, owner in SHIPPED.systems.items() for one in owner.benchmarks]
    assert set(levels) == {(system, one.metric) for system, one in every}
    for system, one in every:
        if one.significance is not None:
            assert levels[system, one.metric] == one.significance
        else:
            assert 1e-9 < levels[system, one.metric] < 1e-5


def test_more_that_is_accepted_and_fewer_looks_ask_for_less() -> None:
    fast = Benchmark(metric="t", target=200, critical=500, unit="ms", better="lower", source="response_time")
    slow = fast.model_copy(update={"window": 60.0})
    assert significance_for(fast, 0.1) < significance_for(fast, 1.0) < significance_for(fast, 50.0)
    assert significance_for(fast, 0.1) < significance_for(slow, 0.1)
    assert significance_for(fast, 1e9) == 0.05


def autoregressive(rng: np.random.Generator, count: int, correlation: float) -> NDArray[np.float64]:
    steps = rng.standard_normal(count) * np.sqrt(1 - correlation**2)
    values = np.empty(count)
    values[0] = rng.standard_normal()
    for at in range(1, count):
        values[at] = correlation * values[at - 1] + steps[at]
    return values


@pytest.mark.parametrize(("correlation", "inflation"), [(0.0, 1.0), (0.6, 4.0), (0.9, 19.0)])
def test_correlation_is_learned_on_the_safe_side_and_a_step_is_none(correlation: float, inflation: float) -> None:
    rng = np.random.default_rng(3)
    found, stepped, deviations = [], [], []
    for _ in range(200):
        values = autoregressive(rng, 150, correlation)
        one = scatter_of(values.tolist())
        found.append(one.inflation)
        deviations.append(one.variance)
        stepped.append(scatter_of((values + 30 * (np.arange(150) > 90)).tolist()).inflation)
    assert inflation * 0.75 < float(np.median(found)) < max(2.0, inflation * 2.5)
    assert float(np.quantile(found, 0.1)) > inflation * 0.5
    assert float(np.median(stepped)) < max(2.0, inflation * 4)
    assert 0.6 < float(np.median(deviations)) < 1.7


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_mean_of_readings_with_memory_is_judged_no_oftener_than_the_level(correlation: float) -> None:
    rng, level, trials = np.random.default_rng(11), 0.01, 1_500
    broken = 0
    for _ in range(trials):
        values = autoregressive(rng, 150, correlation)
        broken += scattered(float(values[-10:].mean()), 10, 0.0, scatter_of(values.tolist())).worse < level
    assert broken <= trials * level + 3 * (trials * level) ** 0.5


def test_constant_readings_are_certain() -> None:
    scatter = scatter_of((0.5,) * 20)
    assert (scattered(0.5, 10, 0.4, scatter).worse, scattered(0.5, 10, 0.6, scatter).better) == (0.0, 0.0)
    assert scatter_of((1.0,)).variance == 0.0
