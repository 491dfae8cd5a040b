"""The histogram: every percentile within one per cent of the nearest-rank truth, merging in any order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.histogram import MAX_US, Histogram, bucket_of, buckets_of, value_us

durations = st.integers(1, MAX_US)


@given(durations)
def test_a_bucket_stands_for_its_values_within_one_per_cent(value: int) -> None:
    assert abs(value_us(bucket_of(value)) - value) <= 0.01 * value


@given(st.lists(durations, min_size=1), st.floats(0.001, 1.0))
def test_percentiles_are_nearest_rank_within_one_per_cent(values: list[int], q: float) -> None:
    truth = sorted(values)[max(1, math.ceil(q * len(values) - 1e-9)) - 1]
    found = Histogram.of(values).percentile_us(q)
    assert found is not None
    assert abs(found - truth) <= 0.01 * truth


@given(st.lists(durations), st.lists(durations))
def test_merging_equals_counting_together(left: list[int], right: list[int]) -> None:
    merged = Histogram.of(left)
    merged.merge(Histogram.of(right))
    assert merged.counts == Histogram.of(left + right).counts
    assert merged.total == len(left) + len(right)


@given(st.lists(st.integers(0, 2 * MAX_US)))
def test_a_whole_column_gets_the_buckets_of_its_values(values: list[int]) -> None:
    assert buckets_of(np.array(values, np.int64)).tolist() == [bucket_of(value) for value in values]


def test_an_empty_histogram_has_no_percentile() -> None:
    assert Histogram().percentile_us(0.95) is None


@pytest.mark.parametrize(("limit_ms", "above"), [(5, 3), (50, 2), (499, 1), (5_000, 0)])
def test_values_above_a_limit_are_counted(limit_ms: float, above: int) -> None:
    assert Histogram.of([10_000, 100_000, 500_000 * 1.03]).above(limit_ms * 1_000) == above
