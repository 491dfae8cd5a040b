"""Pacing: the schedule is a pure function, and no stripe loses or doubles an arrival."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.pacing import (
    Shape,
    arrival_s,
    arrivals_by,
    first_arrival,
    next_active_s,
    shape_of,
    takeover_delay_s,
)
from shared.contracts.run import Load, Profile
from tests.unit.scenarios import scenario


def load(profile: Profile = "steady", duration_s: float = 60.0, ramp_up_s: float = 0.0) -> Load:
    return Load(scenario=scenario(), users=10, profile=profile, duration_s=duration_s, ramp_up_s=ramp_up_s)


def level_at(shape: Shape, elapsed_s: float) -> float:
    """Level at a moment, at a step the later one: what the schedule is held against."""
    if elapsed_s < shape.points[0][0] or elapsed_s >= shape.end_s:
        return 0.0
    level = 0.0
    for (t0, l0), (t1, l1) in pairwise(shape.points):
        if t0 <= elapsed_s <= t1:
            level = l1 if t1 == t0 else l0 + (l1 - l0) * (elapsed_s - t0) / (t1 - t0)
    return level


loads = st.builds(
    lambda profile, duration, share: load(profile, duration, duration * share),
    st.sampled_from(["steady", "ramp", "spike", "soak"]),
    st.floats(1, 3600),
    st.floats(0, 1),
)
rates = st.floats(0.5, 5000)


@pytest.mark.parametrize(
    ("profile", "elapsed_s", "level"),
    [
        ("steady", -1, 0),
        ("steady", 0, 0),
        ("steady", 10, 0.5),
        ("steady", 20, 1),
        ("steady", 59.9, 1),
        ("steady", 60, 0),
        ("soak", 30, 1),
        ("ramp", 30, 0.5),
        ("spike", 20, 1),
        ("spike", 10, 0.1),
        ("spike", 50, 0.2),
    ],
)
def test_profiles_have_their_shape(profile: Profile, elapsed_s: float, level: float) -> None:
    assert level_at(shape_of(load(profile, ramp_up_s=20.0)), elapsed_s) == pytest.approx(level, abs=1e-6)


def test_a_ramp_adds_users_one_after_another() -> None:
    shape = shape_of(load(ramp_up_s=10.0))
    begins = [next_active_s(shape, 10, user, 0.0) for user in range(10)]
    assert begins == pytest.approx(list(range(10)))


@given(loads, st.integers(1, 500), st.floats(0, 1))
def test_a_user_begins_exactly_when_the_level_reaches_it(load: Load, users: int, at: float) -> None:
    shape = shape_of(load)
    user = int(at * (users - 1))
    begin = next_active_s(shape, users, user, 0.0)
    if begin is not None and begin < shape.end_s - 1e-3:
        assert level_at(shape, begin + 1e-6 * load.duration_s) * users >= user - 1e-3


@given(loads, rates, st.integers(0, 10_000))
def test_an_arrival_is_due_when_the_integral_of_the_rate_reaches_it(load: Load, rate: float, number: int) -> None:
    shape = shape_of(load)
    due_s = arrival_s(shape, rate, number)
    if due_s is None:
        assert arrivals_by(shape, rate, shape.end_s) <= number + 1e-6
    else:
        assert arrivals_by(shape, rate, due_s) == pytest.approx(number, abs=1e-3 + 1e-6 * number)


@given(loads, rates, st.integers(1, 32), st.floats(0, 1))
def test_stripes_that_begin_together_share_every_arrival_once(load: Load, rate: float, stripes: int, at: float) -> None:
    shape = shape_of(load)
    elapsed_s = at * load.duration_s
    due = math.ceil(arrivals_by(shape, rate, elapsed_s) - 1e-9)
    firsts = [first_arrival(shape, rate, stripe, stripes, elapsed_s) for stripe in range(stripes)]
    assert sorted(firsts) == list(range(due, due + stripes))
    assert all(first % stripes == stripe for stripe, first in enumerate(firsts))


def test_users_taken_over_begin_spread_and_not_as_a_storm() -> None:
    delays = [takeover_delay_s(position, 100) for position in range(100)]
    assert delays == sorted(delays)
    assert delays[0] == 0
    assert 0.9 < delays[-1] < 1.0
