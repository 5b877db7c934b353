"""A few rows of the accuracy table with a few seeds, and the table itself; `make sim` runs all of it."""

from __future__ import annotations

import pytest

from tests.sim.accuracy import ROWS, Result, judge, run_row

FAST_ROWS = ("9", "12", "17", "20", "21", "22")
SEEDS = 3


@pytest.mark.parametrize("number", FAST_ROWS)
def test_every_seed_keeps_the_bounds_and_the_median_is_near_chronys(number: str) -> None:
    row = next(row for row in ROWS if row.number == number)
    verdict = judge(run_row(row, seed) for seed in range(SEEDS))[0]
    # the median of three seeds scatters by half
    assert verdict.failures(ratio=2.0) == []


def test_a_median_or_a_seed_that_is_too_bad_fails_a_row() -> None:
    row = ROWS[0]
    good = Result(row.number, 0, row.chrony_offset_rms_s, 0.0, row.chrony_frequency_rms, 0.0, 1.0)
    assert judge([good] * 3)[0].failures() == []
    slow = Result(row.number, 7, row.chrony_offset_rms_s * 1.4, 0.0, row.chrony_frequency_rms, 0.0, 1.0)
    assert judge([good, slow, slow])[0].failures() == ["row 1: median offset RMS 6.30e-09 > 1.3 × 4.50e-09"]
    wild = Result(row.number, 7, row.chrony_offset_rms_s, 0.0, row.bound_frequency_rms * 1.1, 0.0, 1.0)
    assert judge([good, good, wild])[0].failures() == ["row 1 seed 7: frequency RMS 5.50e-09"]
