"""The precision found in made-up and in real readings."""

from __future__ import annotations

import time
from itertools import accumulate

import pytest

from ntpd_fast._clock import monotonic_raw_readings, realtime_readings
from ntpd_fast.clock.precision import measure_precision_s, read_time_s, resolution_s


def test_read_time_is_the_smallest_positive_difference() -> None:
    assert read_time_s([0, 40, 75, 75, 120]) == pytest.approx(35e-9)
    assert read_time_s([5, 5, 5]) == 1.0
    assert read_time_s([9, 5]) == 1.0


def test_resolution_is_the_gap_between_differences_of_the_lower_half() -> None:
    # a counter of 10 ns, readings that take 30, 40, … with interruptions on top
    differences = [30, 40, 50, 60, 70, 80, 90, 100, 1003, 5001, 9002, 40_000, 50_000, 60_000]
    assert resolution_s(list(accumulate(differences, initial=0))) == pytest.approx(10e-9)


def test_gaps_of_a_nanosecond_are_rounding_and_too_few_tell_nothing() -> None:
    assert resolution_s(list(accumulate([30, 31, 40, 41, 41, 53, 54, 55, 56, 57], initial=0))) is None
    assert resolution_s([1, 2]) is None
    assert resolution_s([]) is None


def test_a_coarse_clock_is_seen_as_coarse() -> None:
    def realtime(count: int) -> list[int]:
        return [index // 50 * 1_000_000 for index in range(count)]

    assert measure_precision_s(realtime, lambda count: [0] * count, time.monotonic_ns) == 1e-3


def test_a_clock_that_stands_still_while_we_look_does_not_hang_us() -> None:
    assert measure_precision_s(lambda count: [7] * count, lambda count: [7] * count, lambda: 7) == 1.0


def test_this_machine_has_a_sane_precision() -> None:
    precision = measure_precision_s(realtime_readings, monotonic_raw_readings, time.monotonic_ns)
    assert 1e-9 <= precision < 1e-4


@pytest.mark.parametrize("count", [0, -1, 257])
def test_runs_of_readings_are_bounded(count: int) -> None:
    with pytest.raises(ValueError):
        realtime_readings(count)
