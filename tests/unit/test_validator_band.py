"""Bands from past days hold the probability they are asked for, whatever the shape of the past."""

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from services.validator.band import ALIKE, LEAST_WEEKS, SIMULATED, Band, FailureBand, Past, _pasts


def pasts(days: int, weeks: bool, seed: int, trials: int, alike: float = ALIKE) -> list[tuple[Past, float]]:
    """Past days of a standard normal, each like the day before, and one day more."""
    drawn = np.random.default_rng(seed).standard_normal((trials, days + 1))
    for day in range(1, days + 1):
        drawn[:, day] = alike * drawn[:, day - 1] + np.sqrt(1 - alike**2) * drawn[:, day]
    weekdays = tuple(day % 7 if weeks else 0 for day in range(days + 1))
    return [(Past(tuple(one[:-1].tolist()), weekdays[:-1], weekdays[-1]), float(one[-1])) for one in drawn]


@pytest.mark.parametrize("days", [14, 35], ids=str)
def test_days_that_are_not_alike_lie_beyond_it_less_often(days: int) -> None:
    beyond = [value > Band.of(past, 1e-9).upper(0.01) for past, value in pasts(days, days > 30, 1, 4_000, alike=0.0)]
    assert sum(beyond) < 4_000 * 0.012


@pytest.mark.parametrize("alpha", [0.05, 0.005])
@pytest.mark.parametrize(("days", "weeks"), [(7, False), (14, False), (28, False), (35, True), (56, True)], ids=str)
def test_one_more_day_lies_beyond_the_band_as_often_as_asked(days: int, weeks: bool, alpha: float) -> None:
    trials = 4_000
    beyond = [value > Band.of(past, 1e-9).upper(alpha) for past, value in pasts(days, weeks, days, trials)]
    # Four standard errors of so many trials, and the error of the simulated pasts.
    assert abs(sum(beyond) / trials - alpha) < 4 * np.sqrt(alpha / trials) + 0.05 * alpha


def test_probabilities_are_even_and_mirror_each_other() -> None:
    told = [(Band.of(past, 1e-9), value) for past, value in pasts(21, False, 5, 1_000)]
    above = np.array([band.above(value) for band, value in told])
    assert np.histogram(above, bins=10, range=(0, 1))[0] == pytest.approx(100, abs=45)
    band = told[0][0]
    assert band.above(band.usual + 2) == pytest.approx(band.below(band.usual - 2))
    assert band.above(band.upper(1e-4)) == pytest.approx(1e-4, rel=0.01)
    assert band.below(band.lower(1e-4)) == pytest.approx(1e-4, rel=0.01)


def test_a_few_bad_days_hardly_move_the_band() -> None:
    rng = np.random.default_rng(1)
    days = rng.standard_normal(28)
    good = Band.of(Past(tuple(days), (0,) * 28, 0), 1e-9)
    days[[3, 11, 19]] = 50.0
    bad = Band.of(Past(tuple(days), (0,) * 28, 0), 1e-9)
    assert bad.usual == pytest.approx(good.usual, abs=0.3)
    assert bad.scale == pytest.approx(good.scale, rel=0.35)


def test_days_are_compared_with_their_own_weekday_once_there_are_enough_of_them() -> None:
    weekdays = tuple(day % 7 for day in range(7 * LEAST_WEEKS))
    values = tuple(10.0 * weekday + week * 0.1 for week, weekday in enumerate(weekdays))
    band = Band.of(Past(values, weekdays, 6), 1e-9)
    assert band.usual == pytest.approx(60, abs=5)
    assert band.scale < 5
    few = Band.of(Past(values[:-7], weekdays[:-7], 6), 1e-9)
    assert few.scale > 10


def test_a_band_of_equal_days_has_the_floor_as_scale() -> None:
    band = Band.of(Past((1.0,) * 20, (0,) * 20, 0), 0.01)
    assert (band.usual, band.scale) == (1.0, 0.01)


def test_failures_of_like_days_are_held_by_the_binomial_and_the_doubt_about_its_mean() -> None:
    past = [(int(k), 3_600) for k in np.random.default_rng(3).binomial(3_600, 0.002, 40)]
    band = FailureBand.of(3_600, past)
    mean = (sum(k for k, _ in past) + 0.5) / (40 * 3_600 + 1)
    assert band.above(0) == pytest.approx(1)
    # The binomial of the very mean is the limit of it; the doubt makes the tail a little longer.
    assert 1 < band.above(18) / binom.sf(17, 3_600, mean) < 2
    assert band.above(band.limit(1e-4)) < 1e-4 <= band.above(band.limit(1e-4) - 1)


def test_failures_of_days_that_differ_take_their_spread_into_account() -> None:
    rng = np.random.default_rng(4)
    rates = rng.beta(2, 500, 400)
    past = [(int(rng.binomial(3_600, rate)), 3_600) for rate in rates]
    band = FailureBand.of(3_600, past)
    assert band.above(40) == pytest.approx(betabinom.sf(39, 3_600, 2, 500), rel=0.25)
    later = [int(rng.binomial(3_600, rate)) for rate in rng.beta(2, 500, 4_000)]
    assert sum(failed >= band.limit(0.01) for failed in later) / 4_000 == pytest.approx(0.01, abs=0.007)


def test_a_past_without_a_failure_bears_a_few_and_not_many() -> None:
    band = FailureBand.of(3_600, [(0, 3_600)] * 14)
    assert 2 <= band.limit(1e-4) <= 5
    assert FailureBand.of(5, [(0, 5)] * 7).limit(1e-9) == 6


def test_what_is_remembered_of_a_simulated_past_is_no_more_than_what_is_used_of_it() -> None:
    for remembered in (*_pasts((28,)), *_pasts((4, 4))):
        assert remembered.base is None
        assert remembered.shape == (SIMULATED,)
