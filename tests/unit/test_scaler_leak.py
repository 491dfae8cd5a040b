"""Leaks: what is told of series whose truth is known, and that decisions are made of the last life alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.leak_series import DRIFTING, DRIVEN, STEADY, Shape, draw_points, draw_shape, leaking
from bench.leaks import count_false_alarms, count_found
from services.scaler.resources.leak import Leak, Verdict, find_leaks, judge
from services.scaler.resources.lives import last_life
from shared.store.figures import MemoryPoint


def points_of(shape: Shape, seed: int = 1, minutes: float = 60.0) -> list[MemoryPoint]:
    return draw_points(np.random.default_rng(seed), shape, minutes)


def told(shape: Shape, seed: int = 1) -> Leak:
    return judge(points_of(shape, seed))


def test_few_alarms_are_false() -> None:
    alarms = count_false_alarms(140)
    assert sum(alarms.values()) <= 4, alarms


@pytest.mark.parametrize("kind", ["steady", "teeth", "noise 15 MB", "restart"])
def test_most_leaks_of_2_mb_a_minute_are_found_within_an_hour(kind: str) -> None:
    assert count_found(kind, 20) >= 16


def test_a_leak_is_told_with_its_growth_and_the_time_that_is_left() -> None:
    points = [replace(point, memory_ratio=point.memory_mb / 1000) for point in points_of(leaking(Shape()))]
    leak = judge(points)
    assert (leak.verdict, leak.severity) == (Verdict.LEAK, "critical")
    assert (leak.growth_low or 0) < 2.0 < (leak.growth_high or 0)
    assert 0 <= (leak.p_value or 0) < 0.01
    assert leak.limit_mb == pytest.approx(1000)
    assert leak.hours_to_limit == pytest.approx((1000 - 620) / 2 / 60, rel=0.2)


@pytest.mark.parametrize(
    ("ratio", "severity"), [(1 / 1_000_000, "warning"), (None, "warning"), (1 / 1000, "critical")],
    ids=["a limit far away", "no limit known", "a limit that is near"],
)  # fmt: skip
def test_the_time_to_the_limit_sets_the_severity_alone(ratio: float | None, severity: str) -> None:
    points = [
        replace(point, memory_ratio=None if ratio is None else point.memory_mb * ratio)
        for point in points_of(leaking(Shape()))
    ]
    leak = judge(points)
    assert (leak.verdict, leak.severity) == (Verdict.LEAK, severity)


def test_memory_that_follows_a_rising_load_is_no_leak() -> None:
    leaks = [told(Shape(load="ramp", load_mb=200.0), seed).verdict for seed in range(20)]
    assert leaks.count(Verdict.LEAK) <= 1


def test_a_cache_that_fills_is_no_leak() -> None:
    filling = [
        replace(point, memory_mb=point.memory_mb - 300 * float(np.exp(-number / 60)))
        for number, point in enumerate(points_of(Shape(noise_mb=5.0)))
    ]
    leak = judge(filling)
    assert leak.verdict is Verdict.NONE
    assert "growth ends" in leak.reason


def test_flat_memory_is_no_leak() -> None:
    flat = [replace(point, memory_mb=500.0, load=None) for point in points_of(Shape())]
    assert judge(flat).verdict is Verdict.NONE


@pytest.mark.parametrize("minutes", [0.5, 10.0, 24.0])
def test_too_little_is_insufficient_and_says_what_is_missing(minutes: float) -> None:
    leak = judge(points_of(leaking(Shape()), minutes=minutes))
    assert (leak.verdict, leak.severity, leak.growth_mb_per_min) == (Verdict.INSUFFICIENT, None, None)
    assert "needs 25 min and 60 samples" in leak.reason


def test_a_restart_begins_a_life_anew() -> None:
    points = points_of(leaking(Shape(noise_mb=5.0, restart_s=1_800.0), 5.0))
    life = last_life(points)
    assert life[0].at - points[0].at == timedelta(seconds=1_800)
    assert judge(points).since == life[0].at


def test_a_source_that_was_away_begins_nothing() -> None:
    points = points_of(leaking(Shape(noise_mb=5.0)))
    gap = [point for point in points if not 1_000 <= (point.at - points[0].at).total_seconds() < 1_200]
    marked = [replace(point, began=number == 100) for number, point in enumerate(gap)]
    assert len(last_life(marked)) == len(gap)
    assert judge(marked).verdict is Verdict.LEAK


def test_a_deep_fall_that_nothing_makes_up_for_begins_a_life() -> None:
    points = points_of(Shape(noise_mb=5.0))
    fallen = [replace(point, memory_mb=point.memory_mb + (800 if n < 100 else 0)) for n, point in enumerate(points)]
    assert len(last_life(fallen)) == len(points) - 100


def test_garbage_collection_begins_nothing() -> None:
    points = points_of(Shape(noise_mb=5.0, teeth_mb=600.0, teeth_s=400.0))
    assert len(last_life(points)) == len(points)


def test_each_instance_is_judged_by_itself_whatever_the_order() -> None:
    leaky = [replace(point, instance="relaycore-2") for point in points_of(leaking(Shape()), 3)]
    found = find_leaks([*leaky, *points_of(Shape())][::-1])
    assert [(leak.instance, leak.verdict) for leak in found] == [
        ("relaycore-1", Verdict.NONE),
        ("relaycore-2", Verdict.LEAK),
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([*STEADY, *DRIVEN, *DRIFTING]), st.floats(0.5, 4.0), st.booleans())
def test_the_unit_of_memory_does_not_matter(seed: int, load: str, scale: float, leaks: bool) -> None:
    drawn: Callable[[Shape], Shape] = leaking if leaks else lambda shape: shape
    points = draw_points(np.random.default_rng(seed), drawn(draw_shape(np.random.default_rng(seed), load, teeth=False)))
    scaled = [replace(point, memory_mb=point.memory_mb * scale) for point in points]
    first, second = judge(points), judge(scaled)
    assert first.verdict is second.verdict
    assert (first.growth_mb_per_min or 0) * scale == pytest.approx(second.growth_mb_per_min or 0, abs=1e-9)
