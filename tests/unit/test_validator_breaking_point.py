"""Where a limit is reached is found from noisy margins, and one step that lies does not carry it away."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.validator.breaking_point import Sighting, locate
from services.validator.stress_margin import drifting, likeness_of, mean_margin, share_margin, sum_variance


def sightings(point: float, slope: float, levels: list[float], error: float, seed: int) -> tuple[Sighting, ...]:
    random = np.random.default_rng(seed)
    return tuple(
        Sighting(level, slope * math.log(level / point) + error * float(random.standard_normal()), error)
        for level in levels
    )


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 1e5), st.floats(4, 40), st.integers(0, 10_000))
def test_the_interval_is_about_the_point_and_narrows_with_what_is_seen(point: float, slope: float, seed: int) -> None:
    shares = [0.7, 0.9, 0.97, 1.03, 1.1, 1.3]
    few = locate(sightings(point, slope, [point * 0.5, point * 2], 0.2, seed), point / 8, point * 8)
    many = locate(sightings(point, slope, [point * share for share in shares], 0.2, seed), point / 8, point * 8)
    assert few.low <= few.level <= few.high
    assert few.low <= point <= few.high
    assert many.precision < max(few.precision, 0.3)
    assert abs(math.log(many.level / point)) < max(0.08, 4 * 0.2 / slope)


@pytest.mark.parametrize("lie_at", [0.5, 1.5], ids=["broken below", "kept above"])
def test_one_step_that_lies_does_not_carry_the_point_away(lie_at: float) -> None:
    seen = sightings(100.0, 10.0, [40, 80, 90, 97, 103, 110, 120, 150, 200], 0.2, 1)
    lie = Sighting(100.0 * lie_at, 3.0 if lie_at < 1 else -3.0, 0.2)
    assert locate((*seen, lie), 10, 1000).level == pytest.approx(100, rel=0.03)


def test_a_step_that_was_cut_short_says_on_which_side_it_was_and_no_more() -> None:
    mild, wild = (locate((Sighting(50, -2, 0.3), Sighting(120, m, 0.3, bound=True)), 5, 1000) for m in (3.0, 9.0))
    assert mild == wild
    assert mild.level < 120


def test_margins_of_shares_are_log_odds_and_independent_seconds_count_fully() -> None:
    random = np.random.default_rng(3)
    counts = np.full(200, 100.0)
    margin = share_margin(counts, random.binomial(100, 0.05, 200).astype(float), 0.05)
    assert abs(margin.margin) < 3 * margin.error
    assert margin.effective == pytest.approx(20_000, rel=0.35)
    assert margin.error == pytest.approx(1 / math.sqrt(20_000 * 0.05 * 0.95), rel=0.25)


def test_samples_that_come_in_crowds_count_for_fewer() -> None:
    random = np.random.default_rng(4)
    busy = np.repeat(random.random(40) < 0.1, 10)
    margin = share_margin(np.full(400, 100.0), np.array([50.0 * one for one in busy.tolist()]), 0.05)
    assert margin.effective < 40_000 / 50
    assert margin.lasting_s > 4


def test_none_beyond_is_no_certainty_and_likeness_stands_in_for_what_is_not_seen() -> None:
    counts, none = np.full(20, 50.0), np.zeros(20)
    alone, alike = share_margin(counts, none, 0.05), share_margin(counts, none, 0.05, likeness=20.0)
    assert alone.margin < -3
    assert alone.error > 1
    assert alike.effective == pytest.approx(alone.effective / 20)
    assert alike.margin > alone.margin


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_variance_of_a_sum_of_an_autoregressive_series_is_about_its_own(seed: int) -> None:
    """AR(1) with 0.7: the variance of a sum of n is n/(1 − 0.7)² in the long run."""
    random, series = np.random.default_rng(seed), [0.0]
    for noise in random.standard_normal(800):
        series.append(0.7 * series[-1] + float(noise))
    variance, lasting = sum_variance(np.array(series[1:]) - np.mean(series[1:]))
    assert 0.2 < variance / (800 / 0.09) < 4
    assert 2 < lasting < 25


def test_a_mean_is_held_against_its_limit_by_its_logarithm() -> None:
    counts = np.full(60, 10.0)
    sums = 10 * np.random.default_rng(5).normal(50, 5, 60)
    margin = mean_margin(counts, sums, 100.0)
    assert margin.margin == pytest.approx(math.log(0.5), abs=0.05)
    assert margin.error == pytest.approx(5 / 50 / math.sqrt(60), rel=0.6)


def test_likeness_is_one_of_independent_times() -> None:
    times = np.random.default_rng(6).exponential(20.0, (100, 50))
    alike = likeness_of(np.full(100, 50.0), times.sum(axis=1), float((times**2).sum()))
    assert alike == pytest.approx(1.0, abs=0.8)


def test_a_rise_is_told_from_noise() -> None:
    noise = np.random.default_rng(7).standard_normal(40)
    assert abs(drifting(noise.tolist(), 1.0)) < 3.5
    assert drifting((noise + np.linspace(0, 8, 40)).tolist(), 1.0) > 3.5
