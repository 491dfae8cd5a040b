"""The Universal Scalability Law is found again in points made from it, and nothing is claimed that they do not show."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.console.scalability import Point, fit_scaling, predict
from shared.errors import ConfigError

# Throughputs of a load test published with the law (ray tracing, after Gunther 2007, table 4.1), processors and
# rays/s; the coefficients that the R package `usl` and the book give for it.
RAYS = {1: 20, 4: 78, 8: 130, 12: 170, 16: 190, 20: 200, 24: 210, 28: 230, 32: 260, 48: 280, 64: 310}


def law(n: int, per_replica: float, contention: float, coherency: float) -> float:
    return per_replica * n / (1 + contention * (n - 1) + coherency * n * (n - 1))


def made(counts: list[int], *parameters: float, noise: float = 0.0, seed: int = 1) -> list[Point]:
    random = np.random.default_rng(seed)
    return [Point(n, law(n, *parameters) * (1 + noise * float(random.standard_normal()))) for n in counts]


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 1e4), st.floats(0.0, 0.3), st.floats(0.001, 0.05))
def test_exact_points_give_their_own_parameters_back(per_replica: float, contention: float, coherency: float) -> None:
    found = fit_scaling(made([1, 2, 3, 4, 6, 8], per_replica, contention, coherency))
    assert found.per_replica.value == pytest.approx(per_replica, rel=1e-3)
    assert found.contention.value == pytest.approx(contention, abs=1e-3)
    assert found.coherency.value == pytest.approx(coherency, rel=1e-2, abs=1e-5)
    assert found.law == "usl"
    assert found.peak_replicas is not None
    assert found.peak_replicas.value == pytest.approx(math.sqrt((1 - contention) / coherency), rel=0.02)
    assert found.fit > 0.9999


def test_published_points_give_the_published_coefficients() -> None:
    found = fit_scaling([Point(n, float(x)) for n, x in RAYS.items()])
    assert found.contention.value == pytest.approx(0.05, abs=0.015)
    assert found.coherency.value < 1e-4
    assert found.law == "amdahl"
    assert found.ceiling == pytest.approx(found.per_replica.value / found.contention.value)


@pytest.mark.parametrize("seed", range(8))
def test_intervals_hold_the_truth_of_noisy_points(seed: int) -> None:
    found = fit_scaling(made([1, 2, 3, 4, 6, 8, 10], 100.0, 0.05, 0.02, noise=0.02, seed=seed))
    for estimate, truth in ((found.per_replica, 100.0), (found.contention, 0.05), (found.coherency, 0.02)):
        margin = 0.5 * (estimate.high - estimate.low)
        assert estimate.low - margin <= truth <= estimate.high + margin
    assert found.peak_replicas is not None
    assert found.peak_replicas.low <= 7.5
    assert found.peak_replicas.high >= 6.2


def test_no_maximum_is_claimed_where_throughput_grows_in_proportion() -> None:
    found = fit_scaling(made([1, 2, 3, 4, 5], 80.0, 0.0, 0.0, noise=0.01))
    assert found.law == "linear"
    assert found.peak_replicas is None
    assert found.peak_throughput is None


def test_contention_alone_has_a_ceiling_and_no_maximum() -> None:
    found = fit_scaling(made([1, 2, 4, 8, 16], 50.0, 0.1, 0.0, noise=0.005))
    assert found.law == "amdahl"
    assert found.peak_replicas is None
    assert found.ceiling == pytest.approx(500, rel=0.1)


def test_a_maximum_far_beyond_what_was_tried_is_named_so() -> None:
    found = fit_scaling(made([1, 2, 3, 4], 100.0, 0.02, 0.002))
    assert "far beyond the 4 replicas" in found.note


def test_measured_errors_widen_the_intervals() -> None:
    exact = made([1, 2, 3, 4], 100.0, 0.05, 0.02)
    sure = fit_scaling(exact)
    unsure = fit_scaling([Point(p.replicas, p.throughput, 0.05 * p.throughput) for p in exact])
    assert unsure.contention.high - unsure.contention.low > 5 * (sure.contention.high - sure.contention.low)


@pytest.mark.parametrize("counts", [[1, 2, 3], [1, 1, 2, 2, 3, 3]], ids=str)
def test_too_few_replica_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(ConfigError, match="4 different replica counts, and has 3"):
        fit_scaling(made(counts, 100.0, 0.05, 0.01))


def test_a_throughput_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        fit_scaling([Point(n, 0.0) for n in range(1, 6)])


def test_the_fit_is_the_curve() -> None:
    found = fit_scaling(made([1, 2, 3, 4, 8], 100.0, 0.05, 0.02))
    assert predict(found, 5) == pytest.approx(law(5, 100.0, 0.05, 0.02), rel=1e-3)
