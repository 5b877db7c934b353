"""Percentiles and sums of the generator's distributions, against the values themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import _numbers
from loadtest.histogram import Histogram, bucket_bounds

VALUES = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=200)


def counted(values: list[int]) -> Histogram:
    positive, negative = [0] * _numbers.BUCKETS, [0] * _numbers.BUCKETS
    for value in values:
        (positive if value >= 0 else negative)[_numbers.bucket(abs(value))] += 1
    below = sum(value for value in values if value < 0)
    return Histogram(tuple(positive), tuple(negative), len(values), sum(values), below, min(values), max(values))


@given(st.integers(0, 2**42 - 1))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    low, high = bucket_bounds(_numbers.bucket(value))
    assert low <= value < high
    assert high - low <= max(1, low / 32)


def test_buckets_follow_each_other_without_gap() -> None:
    for index in range(_numbers.BUCKETS - 1):
        assert bucket_bounds(index)[1] == bucket_bounds(index + 1)[0]


@given(VALUES, st.integers(1, 100))
def test_a_percentile_is_right_within_a_bucket(values: list[int], percent: int) -> None:
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    assert abs(counted(values).percentile(percent) - exact) <= abs(exact) / 32 + 1


@given(VALUES, VALUES)
def test_histograms_of_runs_add_up(first: list[int], second: list[int]) -> None:
    assert counted(first) + counted(second) == counted(first + second)


@given(VALUES)
def test_magnitudes_are_those_of_the_absolute_values(values: list[int]) -> None:
    found, expected = counted(values).magnitudes(), counted([abs(value) for value in values])
    assert (found.positive, found.count, found.sum, found.maximum) == (
        expected.positive,
        expected.count,
        expected.sum,
        expected.maximum,
    )
    assert found.mean == expected.mean


def test_an_empty_histogram_has_no_values_and_adds_nothing() -> None:
    empty = Histogram.empty()
    assert empty.mean == 0
    assert empty.percentile(99) == 0
    assert empty + counted([5]) == counted([5]) == counted([5]) + empty


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_percentile_lies_between_0_and_100(percent: float) -> None:
    with pytest.raises(ValueError):
        counted([1]).percentile(percent)
