"""Anchors: durations stay monotonic, and a step of the wall clock is noticed."""

import pytest

from shared.clock import Anchor


def test_a_reading_becomes_wall_time_and_back() -> None:
    anchor = Anchor(wall_us=1_000_000, monotonic_us=500)
    assert anchor.to_wall_us(700) == 1_000_200
    assert anchor.to_monotonic_us(1_000_200) == 700


@pytest.mark.parametrize(("wall_us", "stepped"), [(2_000_000, False), (2_100_000, False), (2_100_001, True), (0, True)])
def test_a_step_past_a_tenth_of_a_second_is_noticed(wall_us: int, stepped: bool) -> None:
    assert Anchor(1_000_000, 0).stepped(Anchor(wall_us, 1_000_000)) is stepped
