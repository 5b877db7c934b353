"""The least duration of slews: haste needs a reason."""

from __future__ import annotations

import pytest

from ntpd_fast.clock.estimate import Estimate
from ntpd_fast.clock.pace import SPAN_SHARE, Pace

ESTIMATE = Estimate(0, 0.0, root_delay_s=0.01, root_dispersion_s=0.001, span_s=8000.0)
DISTANCE_S = 0.006
SPREAD_S = SPAN_SHARE * 3.0 * 8000.0


def choose(
    pace: Pace,
    total_s: float,
    *,
    pending_s: float = 0.0,
    claimed_s: float = 0.0,
    interval_s: float = 1024.0,
    estimate: Estimate = ESTIMATE,
    corrtimeratio: float = 3.0,
) -> float:
    return pace.min_duration_s(
        estimate,
        corrtimeratio,
        total_s=total_s,
        pending_s=pending_s,
        claimed_s=claimed_s,
        interval_s=interval_s,
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_correction_within_half_the_root_distance_takes_a_share_of_the_span(sign: float) -> None:
    assert choose(Pace(), sign * DISTANCE_S * 0.499) == pytest.approx(SPREAD_S)
    assert choose(Pace(), sign * DISTANCE_S * 1.001) == 0.0


def test_a_correction_takes_no_more_than_three_intervals() -> None:
    assert choose(Pace(), 1e-3, interval_s=64.0) == pytest.approx(192.0)
    assert choose(Pace(), 0.05, claimed_s=0.1, interval_s=16.0) == pytest.approx(48.0)


def test_a_correction_of_most_of_the_root_distance_takes_half_an_interval() -> None:
    assert choose(Pace(), DISTANCE_S * 0.501) == choose(Pace(), DISTANCE_S * 0.999) == pytest.approx(512.0)
    assert choose(Pace(), DISTANCE_S * 0.501, interval_s=64.0) == pytest.approx(60.0)
    assert choose(Pace(), DISTANCE_S * 0.501, interval_s=16.0) == pytest.approx(48.0)


def test_corrtimeratio_makes_corrections_slower_or_faster() -> None:
    assert choose(Pace(), 1e-3, corrtimeratio=6.0) == pytest.approx(2.0 * SPREAD_S)
    assert choose(Pace(), 1e-3, corrtimeratio=1.0) == pytest.approx(SPREAD_S / 3.0)


def test_an_estimate_of_one_moment_asks_for_nothing() -> None:
    assert choose(Pace(), 1e-3, estimate=Estimate(0, 0.0, root_delay_s=0.01)) == 0.0


def test_the_first_correction_is_as_hasty_as_any() -> None:
    pace = Pace()
    assert choose(pace, 1e-4, interval_s=0.0, claimed_s=1.0) == 0.0
    # and what is pending of it is no reason for calm
    assert choose(pace, 0.01, pending_s=0.01) == 0.0


def test_a_foreseen_correction_takes_a_minute() -> None:
    assert choose(Pace(), 0.05, claimed_s=0.1) == pytest.approx(60.0)
    assert choose(Pace(), 0.05, claimed_s=0.1, corrtimeratio=1.0) == pytest.approx(20.0)
    assert choose(Pace(), 0.11, claimed_s=0.1) == 0.0
    # but no longer than one that is not significant
    short = Estimate(0, 0.0, span_s=100.0)
    assert choose(Pace(), 0.05, claimed_s=0.1, estimate=short) == pytest.approx(SPAN_SHARE * 3.0 * 100.0)


def test_a_clock_that_does_not_know_foresees_nothing() -> None:
    assert choose(Pace(), 0.05, claimed_s=3.0) == pytest.approx(60.0)
    assert choose(Pace(), 0.05, claimed_s=3.1) == 0.0
    assert choose(Pace(), 1e-3, claimed_s=60.0) == pytest.approx(SPREAD_S)


def test_what_is_left_of_a_foreseen_correction_is_no_surprise() -> None:
    pace = Pace()
    assert choose(pace, 0.05, claimed_s=0.1, interval_s=7200.0) == pytest.approx(60.0)
    # the next measurement comes soon, and the clock claims to be good again
    assert choose(pace, 0.04, pending_s=0.0392, claimed_s=1e-3, interval_s=32.0) == pytest.approx(60.0)
    assert choose(pace, 0.03, pending_s=0.0304, claimed_s=1e-3, interval_s=32.0) == pytest.approx(60.0)
    assert choose(pace, 2e-3, pending_s=0.01, interval_s=32.0) == pytest.approx(96.0)


def test_a_surprise_ends_the_calm() -> None:
    pace = Pace()
    assert choose(pace, 0.05, claimed_s=0.1, interval_s=1000.0) > 0.0
    assert choose(pace, 0.2, pending_s=0.05, claimed_s=1e-3, interval_s=32.0) == 0.0
    assert choose(pace, 0.19, pending_s=0.19, claimed_s=1e-3, interval_s=32.0) == 0.0


def test_a_leap_second_that_is_slewed_is_hasty() -> None:
    pace = Pace()
    assert choose(pace, 1e-3) > 0.0
    assert choose(pace, 0.9, pending_s=0.9, claimed_s=1e-2) == 0.0
