"""The schedule is a pure function of elapsed time, and no stripe loses or doubles an arrival."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.curve import (
    active_until_s,
    arrival_s,
    arrivals,
    arrivals_by,
    curve_of,
    next_active_s,
    takeover_delay_s,
    users_last,
    value_at,
)
from shared.contracts.run import ENDLESS_S, Change, Load, Pause, Profile, Stage
from tests.unit.scenarios import scenario


def load(
    profile: Profile = "steady",
    duration_s: float = 60.0,
    ramp_up_s: float = 0.0,
    rate: float | None = None,
    users: int = 10,
    stages: tuple[Stage, ...] = (),
    changes: tuple[Change, ...] = (),
) -> Load:
    return Load(
        scenario=scenario(),
        users=users,
        rate=rate,
        profile=profile,
        duration_s=duration_s,
        ramp_up_s=ramp_up_s,
        stages=stages,
        changes=changes,
    )


loads = st.builds(
    lambda profile, duration, share, rate: load(profile, duration, duration * share, rate),
    st.sampled_from(["steady", "ramp", "spike", "soak", "stress", "canary"]),
    st.floats(1, 3600),
    st.floats(0, 1),
    st.floats(0.5, 5000),
)


@pytest.mark.parametrize(
    ("profile", "elapsed_s", "users"),
    [
        ("steady", -1, 0),
        ("steady", 0, 0),
        ("steady", 10, 5),
        ("steady", 20, 10),
        ("steady", 59.9, 10),
        ("steady", 60, 0),
        ("soak", 30, 10),
        ("canary", 30, 10),
        ("ramp", 30, 5),
        ("spike", 20, 10),
        ("spike", 10, 1),
        ("spike", 50, 2),
    ],
)
def test_profiles_have_their_shape(profile: Profile, elapsed_s: float, users: float) -> None:
    assert value_at(curve_of(load(profile, ramp_up_s=20.0)), elapsed_s) == pytest.approx(users, abs=1e-6)


def test_stages_are_drawn_by_hand_and_the_last_goes_on() -> None:
    stages = (Stage(duration_s=10, level=1), Stage(duration_s=10, level=1), Stage(duration_s=0, level=0.5))
    curve = curve_of(load(stages=stages))
    assert [value_at(curve, at) for at in (5, 10, 19, 20, 59)] == pytest.approx([5, 10, 10, 5, 5])


def test_changes_and_pauses_are_part_of_the_schedule() -> None:
    changed = load(rate=10.0, changes=(Change(at_s=20, rate=30.0), Change(at_s=40, rate=5.0, users=3)))
    curve = curve_of(changed, (Pause(from_s=10, to_s=15), Pause(from_s=50)))
    assert [value_at(curve, at) for at in (9, 12, 15, 20, 40, 55)] == [10, 0, 10, 30, 5, 0]
    assert arrivals_by(curve, 60) == pytest.approx(100 + 50 + 600 + 50)
    # What was due before the pause is due as it was; the first after it comes when it is over.
    assert arrival_s(curve, 99) == pytest.approx(9.9)
    assert arrival_s(curve, 100) == pytest.approx(15)
    assert (changed.users_at_most, users_last(changed)) == (10, 3)
    assert load(changes=(Change(at_s=1, users=20), Change(at_s=2, users=5))).users_at_most == 20


def test_a_ramp_adds_users_one_after_another() -> None:
    curve = curve_of(load(ramp_up_s=10.0))
    assert [next_active_s(curve, user, 0.0) for user in range(10)] == pytest.approx(list(range(10)))
    assert next_active_s(curve, 10, 0.0) is None
    assert next_active_s(curve, 3, 60.0) is None


def test_a_paused_user_is_active_again_when_the_pause_is_over() -> None:
    curve = curve_of(load(), (Pause(from_s=10, to_s=15), Pause(from_s=30)))
    assert [next_active_s(curve, 0, at) for at in (5, 10, 20, 30)] == [5, 15, 20, None]


@given(loads, st.floats(0, 1), st.floats(0, 1))
def test_a_user_that_needs_no_look_is_active_all_along(load: Load, at: float, share: float) -> None:
    curve = curve_of(load)
    user = int(share * max(high for _, _, low, high in curve.segments))
    at_s = at * curve.end_s
    until_s = active_until_s(curve, user, at_s)
    assert until_s >= at_s
    for part in (0.0, 0.5, 0.999):
        moment = at_s + part * (until_s - at_s)
        assert until_s == at_s or next_active_s(curve, user, moment) == pytest.approx(moment)


@given(loads, st.floats(0, 1))
def test_a_user_begins_exactly_when_the_curve_reaches_it(load: Load, at: float) -> None:
    curve = curve_of(load)
    top = max(high for _, _, low, high in curve.segments)
    user = int(at * (top - 1)) if top > 1 else 0
    begin = next_active_s(curve, user, 0.0)
    if begin is not None and begin < curve.end_s - 1e-3:
        slack = top * 1e-5
        assert value_at(curve, begin + 1e-6 * load.duration_s) >= user - slack


@given(loads, st.integers(0, 10_000))
def test_an_arrival_is_due_when_the_integral_of_the_rate_reaches_it(load: Load, number: int) -> None:
    curve = curve_of(load)
    due_s = arrival_s(curve, number)
    if due_s is None:
        assert arrivals_by(curve, curve.end_s) <= number + 1e-6
    else:
        assert arrivals_by(curve, due_s) == pytest.approx(number, abs=1e-3 + 1e-6 * number)


@given(loads, st.integers(1, 32), st.floats(0, 1), st.sampled_from(["even", "poisson"]))
def test_stripes_that_begin_together_share_every_arrival_once(
    load: Load, stripes: int, at: float, spacing: str
) -> None:
    curve = curve_of(load)
    from_s = at * load.duration_s
    drawn = [list(islice(arrivals(curve, spacing, 7, stripe, stripes, from_s), 20)) for stripe in range(stripes)]
    numbers = [number for stripe in drawn for number, _ in stripe]
    assert len(set(numbers)) == len(numbers)
    assert all(number % stripes == stripe for stripe, numbers in enumerate(drawn) for number, _ in numbers)
    # A billionth of an arrival, near the foot of a ramp, is milliseconds.
    assert all(from_s - 0.1 <= due_s <= load.duration_s for stripe in drawn for _, due_s in stripe)
    assert all(times == sorted(times) for times in ([due_s for _, due_s in stripe] for stripe in drawn))


@given(loads, st.integers(1, 8), st.floats(0, 1), st.sampled_from(["even", "poisson"]))
def test_who_takes_a_stripe_over_goes_on_where_the_other_would_have(
    load: Load, stripes: int, at: float, spacing: str
) -> None:
    curve = curve_of(load)
    from_s = at * min(load.duration_s, 2000 / (load.rate or 1))
    whole = list(islice(arrivals(curve, spacing, 3, 0, stripes, 0.0), 3000))
    rest = list(islice(arrivals(curve, spacing, 3, 0, stripes, from_s), 10))
    begins = whole.index(rest[0]) if rest else len(whole)
    assert rest == whole[begins : begins + len(rest)]
    # Where a moment falls on an arrival itself, it may count as past or not; near the foot of a ramp that is vague.
    assert all(due_s >= from_s - 0.1 for _, due_s in rest)
    assert all(due_s <= from_s + 1e-6 for _, due_s in whole[:begins])


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    curve = curve_of(load(rate=100.0, duration_s=1000.0))
    times = sorted(due_s for stripe in range(4) for _, due_s in arrivals(curve, "poisson", 1, stripe, 4, 0.0))
    assert len(times) == pytest.approx(100_000, rel=0.02)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    # Exponential gaps: the deviation is the mean.
    assert variance**0.5 == pytest.approx(mean, rel=0.03)
    # And another seed is another process.
    assert next(arrivals(curve, "poisson", 2, 0, 4, 0.0)) != next(arrivals(curve, "poisson", 1, 0, 4, 0.0))


def test_an_endless_run_is_entered_anywhere_at_no_cost() -> None:
    curve = curve_of(load("canary", duration_s=ENDLESS_S, rate=5.0, ramp_up_s=60.0))
    late_s = 200 * 86_400.0
    for spacing in ("even", "poisson"):
        (number, due_s), *_ = islice(arrivals(curve, spacing, 1, 3, 16, late_s), 2)
        assert late_s <= due_s < late_s + 60
        assert number > 0


def test_users_taken_over_begin_spread_and_not_as_a_storm() -> None:
    delays = [takeover_delay_s(position, 100) for position in range(100)]
    assert delays == sorted(delays)
    assert delays[0] == 0
    assert 0.9 < delays[-1] < 1.0
