"""What a worker knows of the difference between its clock and the broker's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generator.broker_clock import Skew, skew_of, surest

MOMENT_US = st.integers(0, 10**9)


@given(ahead_us=st.integers(-(10**9), 10**9), asked_us=MOMENT_US, there_us=MOMENT_US, back_us=MOMENT_US)
def test_the_true_difference_is_within_the_bound(ahead_us: int, asked_us: int, there_us: int, back_us: int) -> None:
    found = skew_of(asked_us, asked_us + there_us + back_us, asked_us + there_us - ahead_us)
    assert abs(found.ahead_us - ahead_us) <= found.bound_us + 1


def test_the_reading_that_was_answered_soonest_counts() -> None:
    assert surest([]) is None
    assert surest([Skew(900, 5_000), Skew(20, 100), Skew(-700, 2_000)]) == Skew(20, 100)


@pytest.mark.parametrize(
    ("skew", "harmful"), [(Skew(-150_000, 1_000), True), (Skew(150_000, 60_000), False), (Skew(90_000, 10), False)]
)
def test_clocks_are_far_apart_when_that_is_certain(skew: Skew, harmful: bool) -> None:
    assert skew.harmful is harmful
