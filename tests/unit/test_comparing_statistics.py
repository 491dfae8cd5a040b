"""The statistics of a comparison, against references that were computed otherwise, and by simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from bench.simulated_runs import Simulated
from services.console.comparing.dependence import FEWEST_BLOCKS, block_length, long_run_variance, spread_of_mean
from services.console.comparing.measures import Measure, Name, _fisher, measure_all, newcombe
from services.console.comparing.slots import Slots, align, locate, to_ms
from services.console.comparing.two_runs import difference_of_scores, quantile_of_t, resample
from shared.histogram import BASE, buckets_of

RUN = Simulated(rate=50, duration_s=60, sigma=0.5)


def slots_of(times_us: NDArray[np.float64], slots: int = 60, failed: NDArray[np.int64] | None = None) -> Slots:
    """Requests in the order of time, as many in each slot."""
    count = len(times_us)
    errors = np.zeros(count, np.int64) if failed is None else failed
    place = np.arange(count) * slots // count
    return Slots.of(place, buckets_of(times_us).astype(np.int64), np.ones(count, np.int64), errors, slots=slots)


def by_name(base: Slots, candidate: Slots) -> dict[Name, Measure]:
    return {measure.name: measure for measure in measure_all(base, candidate)}


def autoregression(count: int, alike: float, seed: int) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).standard_normal(count + 100)
    series = np.zeros(count + 100)
    for index in range(1, count + 100):
        series[index] = alike * series[index - 1] + noise[index]
    return series[100:]


@given(st.lists(st.floats(100, 1e6), min_size=3, max_size=40), st.lists(st.floats(100, 1e6), min_size=3, max_size=40))
@settings(max_examples=50, deadline=None)
def test_the_statistic_is_that_of_mann_and_whitney(one: list[float], other: list[float]) -> None:
    base, candidate = (slots_of(np.asarray(values), slots=3) for values in (one, other))
    x, y, _ = align(base, candidate)
    of_x, of_y = x.sum(axis=0), y.sum(axis=0)
    below_y = (of_y.cumsum() - of_y / 2) / of_y.sum()
    below_x = (of_x.cumsum() - of_x / 2) / of_x.sum()
    found = (1 + difference_of_scores(x, y, below_y, below_x).value) / 2
    u = stats.mannwhitneyu(buckets_of(np.asarray(other)), buckets_of(np.asarray(one)), method="asymptotic").statistic
    assert found == pytest.approx(u / (len(one) * len(other)))


def test_its_p_is_near_that_for_independent_requests() -> None:
    """Brunner and Munzel's, which knows no order of time; ours may only be less sure."""
    generator = np.random.default_rng(7)
    for factor in (1.0, 1.02, 1.04):
        one, other = (20_000 * np.exp(0.5 * generator.standard_normal(3_000)) for _ in range(2))
        reference = stats.brunnermunzel(buckets_of(one), buckets_of(other * factor)).pvalue
        found = by_name(slots_of(one), slots_of(other * factor))[Name.CENTRE].p
        assert found is not None
        assert reference / 2 < found < max(40 * reference, 0.2) or found > 0.2


def test_the_shift_is_the_median_of_all_ratios() -> None:
    generator = np.random.default_rng(3)
    one, other = (20_000 * np.exp(0.5 * generator.standard_normal(800)) for _ in range(2))
    other *= 1.07
    found = by_name(slots_of(one), slots_of(other))[Name.CENTRE]
    brute = float(np.median(other[:, None] / one[None, :])) - 1
    assert found.change == pytest.approx(brute, abs=0.003)
    assert found.base == pytest.approx(float(np.median(one)) / 1e3, rel=0.005)


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_of_the_centre_holds_no_change_where_its_test_finds_none(seed: int) -> None:
    generator = np.random.default_rng(seed)
    measure = by_name(RUN.draw(generator), RUN.slower(1.02).draw(generator))[Name.CENTRE]
    assert measure.p is not None
    assert measure.low is not None
    assert measure.high is not None
    if abs(measure.p - 0.05) > 0.002:
        assert (measure.low <= 0 <= measure.high) == (measure.p > 0.05)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles_lie_where_those_of_the_values_do(q: float) -> None:
    values = np.random.default_rng(1).lognormal(10, 0.5, 20_000)
    slots = slots_of(values)
    found = to_ms(float(locate(slots.counts.sum(axis=0).astype(float), q)[0]), slots.first_bucket)
    assert found == pytest.approx(float(np.quantile(values, q)) / 1e3, rel=0.004)


def test_a_place_at_the_ends_and_of_nothing_stays_within() -> None:
    counts = np.array([[0.0, 2.0, 0.0, 2.0], [4.0, 0.0, 0.0, 0.0]])
    assert locate(counts, 0.5).tolist() == [2.0, 0.5]
    assert (locate(counts, 1.0) <= 4).all()
    assert locate(np.zeros((1, 4)), 0.5).tolist() == [0.0]


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.6, 0.8])
def test_the_long_run_variance_is_that_of_an_autoregression_and_rather_more(alike: float) -> None:
    truth = 1 / (1 - alike) ** 2
    found = []
    for seed in range(100):
        series = autoregression(120, alike, seed)
        deviations = series - series.mean()
        found.append(long_run_variance(deviations, block_length(deviations)) / truth)
    assert 0.9 < float(np.mean(found)) < 1.4


def test_slots_that_alternate_are_not_taken_for_surer_than_independent_ones() -> None:
    deviations = np.tile([1.0, -1.0], 60)
    assert long_run_variance(deviations, block_length(deviations)) == pytest.approx(1.0)


def test_blocks_grow_with_what_slots_have_in_common_and_leave_enough_of_them() -> None:
    lengths = {
        alike: np.mean([block_length(autoregression(600, alike, seed)) for seed in range(20)])
        for alike in (0, 0.6, 0.9)
    }
    assert 9 <= lengths[0] < lengths[0.6] < lengths[0.9] <= 600 / FEWEST_BLOCKS
    assert block_length(np.zeros(40)) >= 1
    assert block_length(np.cumsum(np.ones(40)) - 20.5) == 40 // FEWEST_BLOCKS


def test_a_mean_of_independent_slots_is_as_sure_as_the_standard_error_says() -> None:
    found = []
    for seed in range(200):
        values = np.random.default_rng(seed).standard_normal(100)
        spread = spread_of_mean(values, np.ones(100))
        found.append(spread.variance / (values.var() / 100))
    assert 1.0 <= float(np.mean(found)) < 1.3


def test_a_draw_has_as_many_slots_as_the_run_and_is_it_on_average() -> None:
    counts = np.arange(40.0)[:, None] * np.array([1.0, 2.0])
    for block in (1, 3, 7, 40):
        whole = resample(np.ones((40, 1)), block, 50, np.random.default_rng(1))
        assert (whole == 40).all()
        drawn = resample(counts, block, 4_000, np.random.default_rng(1))
        assert drawn.mean(axis=0) == pytest.approx(counts.sum(axis=0), rel=0.03)


@pytest.mark.parametrize("alike", [0.0, 0.6], ids=["independent", "alike"])
def test_intervals_cover_the_true_change_as_often_as_they_say(alike: float) -> None:
    run, covered = replace(RUN, alike=alike), {Name.CENTRE: 0, Name.P95: 0, Name.P99: 0}
    for seed in range(60):
        generator = np.random.default_rng([5, seed])
        measures = by_name(run.draw(generator), run.slower(1.1).draw(generator))
        for name in covered:
            low, high = measures[name].low, measures[name].high
            assert low is not None
            assert high is not None
            covered[name] += low <= 0.1 <= high
    assert all(count >= 53 for count in covered.values()), covered


def test_the_interval_of_two_shares_is_the_published_one() -> None:
    """Newcombe 1998, table II, 56/70 less 48/80, method 10."""
    low, high = newcombe(48 / 80, 80, 56 / 70, 70)
    assert [low, high] == pytest.approx([0.0524, 0.3339], abs=5e-5)


@pytest.mark.parametrize("counts", [(0, 300, 5, 300), (3, 1000, 12, 800), (5, 100, 5, 100), (0, 60, 0, 60)])
def test_the_exact_test_is_fishers(counts: tuple[int, int, int, int]) -> None:
    failed_x, total_x, failed_y, total_y = counts
    table = [[failed_y, total_y - failed_y], [failed_x, total_x - failed_x]]
    tails = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    assert _fisher(*counts) == pytest.approx(min(1.0, 2 * min(tails)))


def test_failures_in_one_burst_are_not_many_failures() -> None:
    generator = np.random.default_rng(2)
    times = 20_000 * np.exp(0.5 * generator.standard_normal(3_000))
    spread, burst = np.zeros(3_000, np.int64), np.zeros(3_000, np.int64)
    spread[::100] = 1
    burst[1_000:1_030] = 1
    of_spread = by_name(slots_of(times), slots_of(times, failed=spread))[Name.ERRORS]
    of_burst = by_name(slots_of(times), slots_of(times, failed=burst))[Name.ERRORS]
    assert of_spread.change == of_burst.change == pytest.approx(0.01)
    assert of_spread.p is not None
    assert of_burst.p is not None
    assert of_spread.p < 1e-4 < 0.05 < of_burst.p
    assert of_burst.low is not None
    assert of_burst.low < 0


def test_what_never_varies_is_the_same_or_is_not() -> None:
    still = slots_of(np.full(3_000, 20_000.0))
    same, moved = by_name(still, still), by_name(still, slots_of(np.full(3_000, 20_000 * BASE**5)))
    assert all(measure.change == 0 for measure in same.values())
    assert all(measure.p == 1 for measure in same.values())
    assert moved[Name.CENTRE].p == 0
    assert moved[Name.CENTRE].change == pytest.approx(BASE**5 - 1, abs=0.02)


def test_what_is_too_little_is_said_and_not_tested() -> None:
    generator = np.random.default_rng(1)
    few, short = replace(RUN, rate=0.5), replace(RUN, duration_s=15)
    for run, said in ((few, "50 are needed"), (short, "15 steps of 1 s after ramp-up, 20 are needed")):
        measures = by_name(run.draw(generator), RUN.draw(generator))
        assert all(measure.p is None for measure in measures.values())
        assert said in measures[Name.CENTRE].note
    small = replace(RUN, rate=8)
    measures = by_name(small.draw(generator), small.draw(generator))
    assert measures[Name.P99].p is None
    assert "1,000 are needed" in measures[Name.P99].note
    assert measures[Name.P95].p is not None


def test_the_same_runs_give_the_same_figures_in_either_order_of_their_columns() -> None:
    one, other = (RUN.draw(np.random.default_rng(seed)) for seed in (1, 2))
    assert measure_all(one, other) == measure_all(one, other)


def test_runs_in_other_steps_are_comparable() -> None:
    run = replace(RUN, duration_s=600)
    base, candidate = (run.draw(np.random.default_rng(seed)) for seed in (1, 2))
    coarse = candidate.counts.reshape(60, 10, -1).sum(axis=1)
    errors = candidate.failed.reshape(60, 10).sum(axis=1)
    ten = Slots(10.0, candidate.first_bucket, coarse, errors, (0, 60))
    fine, coarser = by_name(base, candidate), by_name(base, ten)
    for name in Name:
        assert coarser[name].change == pytest.approx(fine[name].change)
        assert coarser[name].candidate == pytest.approx(fine[name].candidate)


def test_students_quantile_becomes_the_normal_one() -> None:
    assert quantile_of_t(math.inf, 0.95) == pytest.approx(1.95996, abs=1e-5)
    assert quantile_of_t(10, 0.95) == pytest.approx(float(stats.t.ppf(0.975, 10)))
