"""The median filter."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from ntpd_fast.client.samplefilter import (
    NTP_COMBINE_RATIO,
    NTP_MAX_VARIANCE,
    REFCLOCK_COMBINE_RATIO,
    Sample,
    SampleFilter,
)
from ntpd_fast.clock.events import ChangeKind, ClockChange

S = 1_000_000_000
BASE = 1_700_000_000 * S


def sample(t: int, offset: float, dispersion: float = 1e-6) -> Sample:
    return Sample(BASE + t * S, offset, 1e-3, dispersion, 2e-3, 2 * dispersion)


def filled(offsets: list[float], ratio: float = NTP_COMBINE_RATIO, size: int = 16) -> SampleFilter:
    made = SampleFilter(size, ratio, NTP_MAX_VARIANCE)
    for t, offset in enumerate(offsets):
        assert made.accumulate(sample(t, offset))
    return made


def test_takes_the_median_and_drops_the_samples() -> None:
    combined = filled([0.0, 5.0, 0.1, 0.2, -7.0])
    result = combined.result()
    assert result is not None
    assert result.offset_s == pytest.approx(0.1)
    assert result.time_ns == BASE + 2 * S
    assert result.peer_delay_s == 1e-3
    assert result.root_delay_s == 2e-3
    assert combined.result() is None
    assert len(combined) == 0


def test_even_number_averages_the_two_in_the_middle() -> None:
    result = filled([0.0, 1.0, 2.0, 10.0]).result()
    assert result is not None
    assert result.offset_s == pytest.approx(1.5)


def test_refclocks_combine_the_middle_sixty_percent() -> None:
    result = filled([0.1 * k for k in range(10)], REFCLOCK_COMBINE_RATIO).result()
    assert result is not None
    # two of ten are dropped at each end
    assert result.offset_s == pytest.approx(sum(0.1 * k for k in range(2, 8)) / 6)


@pytest.mark.parametrize("count", [1, 2])
def test_few_samples_are_all_used(count: int) -> None:
    result = filled([1.0, 3.0][:count]).result()
    assert result is not None
    assert result.offset_s == pytest.approx(sum([1.0, 3.0][:count]) / count)


def test_dispersion_covers_the_scatter() -> None:
    result = filled([1.0, 3.0]).result()
    assert result is not None
    assert result.peer_dispersion_s == pytest.approx(math.sqrt(2.0))
    assert result.root_dispersion_s == pytest.approx(math.sqrt(2.0))


def test_small_scatter_is_not_taken_for_precision() -> None:
    rng = random.Random(1)
    combined = SampleFilter(16, REFCLOCK_COMBINE_RATIO, 0.0)
    t = 0
    for _ in range(20):
        for _ in range(16):
            combined.accumulate(sample(t, rng.gauss(0.0, 1e-3)))
            t += 1
        combined.result()
    usual = combined.average_variance
    for _ in range(16):
        combined.accumulate(sample(t, 0.0 + 1e-9 * (t % 2)))
        t += 1
    result = combined.result()
    assert result is not None
    # ten of sixteen combined: standard error of the usual scatter, not of the accidental one
    assert result.peer_dispersion_s == pytest.approx(math.sqrt(usual / 10), rel=0.4)


def test_too_large_scatter_gives_nothing() -> None:
    assert filled([-40.0, 40.0]).result() is None
    unlimited = SampleFilter(4, NTP_COMBINE_RATIO, 0.0)
    unlimited.accumulate(sample(0, -40.0))
    unlimited.accumulate(sample(1, 40.0))
    assert unlimited.result() is not None


def test_imprecise_samples_are_left_out_while_enough_remain() -> None:
    combined = SampleFilter(8, NTP_COMBINE_RATIO, 0.0)
    for t in range(4):
        combined.accumulate(sample(t, 0.0))
    for t in range(4, 8):
        combined.accumulate(sample(t, 1.0, dispersion=1e-3))
    result = combined.result()
    assert result is not None
    assert result.offset_s == 0.0


def test_times_must_increase() -> None:
    combined = filled([0.0, 0.0])
    assert not combined.accumulate(sample(1, 0.0))
    assert not combined.accumulate(sample(0, 0.0))
    assert combined.accumulate(sample(2, 0.0))


def test_keeps_no_more_than_its_size() -> None:
    combined = filled([100.0, 100.0, 1.0, 2.0, 3.0], size=3)
    assert len(combined) == 3
    result = combined.result()
    assert result is not None
    assert result.offset_s == 2.0


def test_follows_the_clock() -> None:
    combined = filled([0.5])
    change = ClockChange(0, BASE + 10 * S, 1e-3, 0.25, ChangeKind.ADJUST)
    combined.handle_change(change)
    combined.add_dispersion(1e-4)
    result = combined.result()
    assert result is not None
    shift = 10.0 * 1e-3 - 0.25
    assert result.offset_s == pytest.approx(0.5 - shift)
    assert result.time_ns == BASE + round(shift * S)
    assert result.peer_dispersion_s == pytest.approx(1e-6 + 1e-4)
    assert combined.last is not None
    assert combined.last.time_ns == result.time_ns


def test_forgets_at_an_unknown_step() -> None:
    combined = filled([0.5])
    combined.handle_change(ClockChange(0, BASE, 0.0, 0.0, ChangeKind.UNKNOWN_STEP))
    assert len(combined) == 0
    assert combined.last is None
    assert combined.accumulate(replace(sample(0, 0.0), time_ns=BASE - S))
