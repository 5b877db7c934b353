"""The register of a source."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.regression import distance_weights, student_t_9995
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.sourcestats import (
    MAX_SAMPLES,
    UNKNOWN_SKEW,
    UNKNOWN_STD_DEV_S,
    Accumulated,
    SourceStats,
    StatsOptions,
)
from ntpd_fast.clock.events import ChangeKind, ClockChange

S = 1_000_000_000
BASE = 1_700_000_000 * S
PRECISION_S = 1e-9


def make(t: float, theta: float, delay: float = 1e-3, dispersion: float = 1e-6) -> Sample:
    return Sample(
        BASE + round(t * S), theta, delay, dispersion, root_delay_s=2e-3 + delay, root_dispersion_s=1e-3 + dispersion
    )


def noisy(
    n: int, *, frequency: float = 1e-5, noise: float = 1e-6, seed: int = 1, interval: float = 16.0
) -> SourceStats:
    """Statistics of a clock that gains."""
    rng = random.Random(seed)
    stats = SourceStats(StatsOptions(asymmetry=0.0), PRECISION_S)
    for i in range(n):
        stats.accumulate(make(interval * i, -(frequency * interval * i) + rng.gauss(0.0, noise)))
    return stats


def at(t: float) -> int:
    return BASE + round(t * S)


def test_nothing_is_known_of_an_empty_register() -> None:
    stats = SourceStats(StatsOptions(), PRECISION_S)
    assert stats.n_samples == 0
    assert stats.predict(BASE) == 0.0
    assert stats.delay_test_data(BASE) is None
    assert stats.source_report(BASE) is None
    report = stats.stats_report(BASE)
    assert (report.n_samples, report.std_dev_s, report.skew) == (0, UNKNOWN_STD_DEV_S, UNKNOWN_SKEW)


def test_below_three_samples_the_newest_offset_counts() -> None:
    stats = noisy(0)
    stats.accumulate(make(0.0, 0.25))
    stats.accumulate(make(16.0, -0.5))
    assert not stats.fitted
    assert stats.offset_s == 0.5
    assert stats.predict(at(1000.0)) == 0.5
    assert stats.skew == UNKNOWN_SKEW
    assert stats.offset_sd_s == UNKNOWN_STD_DEV_S
    data = stats.selection_data(at(16.0), 1.0)
    assert not data.available


def test_a_register_that_cannot_hold_three_samples_is_available() -> None:
    stats = SourceStats(StatsOptions(min_samples=1, max_samples=1), PRECISION_S)
    stats.accumulate(make(0.0, 0.25))
    data = stats.selection_data(at(1.0), 0.75)
    assert data.available
    assert data.std_dev_s == 0.75


def test_estimates_frequency_and_offset() -> None:
    stats = noisy(20)
    newest = 16.0 * 19
    assert 15 <= stats.n_samples <= 20
    assert stats.frequency == pytest.approx(1e-5, abs=3e-8)
    assert stats.offset_s == pytest.approx(1e-5 * newest, abs=2e-6)
    assert stats.predict(at(newest + 100.0)) == pytest.approx(stats.offset_s + 100.0 * stats.frequency)
    assert stats.std_dev_s == pytest.approx(1e-6, rel=0.5)


def test_estimates_equal_an_independent_weighted_fit() -> None:
    rng = random.Random(4)
    stats = SourceStats(StatsOptions(min_samples=20, asymmetry=0.0), PRECISION_S)
    samples = [make(10.0 * i, rng.gauss(0.0, 1e-4), 1e-3 + rng.expovariate(1e4), 1e-6) for i in range(20)]
    for sample in samples:
        stats.accumulate(sample)
    x = np.array([(sample.time_ns - samples[-1].time_ns) / S for sample in samples])
    y = np.array([-sample.offset_s for sample in samples])
    w = np.array(distance_weights([s.peer_delay_s / 2 + s.peer_dispersion_s for s in samples], PRECISION_S))
    design = np.stack([np.ones(20), x], axis=1)
    inverse = np.linalg.inv(design.T @ (design / w[:, None]))
    solution = inverse @ (design.T @ (y / w))
    residual = y - design @ solution
    scale = float((residual**2 / w).sum()) / 18
    assert stats.offset_s == pytest.approx(float(solution[0]), rel=1e-9)
    assert stats.frequency == pytest.approx(float(solution[1]), rel=1e-9)
    assert stats.offset_sd_s == pytest.approx(math.sqrt(scale * inverse[0, 0]), rel=1e-9)
    assert stats.skew == pytest.approx(math.sqrt(scale * inverse[1, 1]) * student_t_9995(18), rel=1e-9)
    assert stats.std_dev_s == pytest.approx(math.sqrt(scale * 20 / float((1 / w).sum())), rel=1e-9)


def test_register_is_bounded() -> None:
    stats = noisy(3 * MAX_SAMPLES)
    assert stats.n_samples <= MAX_SAMPLES
    small = SourceStats(StatsOptions(min_samples=4, max_samples=8), PRECISION_S)
    for i in range(40):
        small.accumulate(make(float(i), 0.0))
        assert small.n_samples <= 8


def test_samples_of_another_frequency_are_dropped() -> None:
    stats = noisy(30)
    for i in range(30, 60):
        stats.accumulate(make(16.0 * i, -(1e-5 * 16.0 * 30 - 1e-4 * 16.0 * (i - 30))))
    assert stats.n_samples < 40
    assert stats.frequency == pytest.approx(-1e-4, rel=0.05)


def test_time_that_stands_still_resets_the_register() -> None:
    stats = noisy(10)
    assert stats.accumulate(make(16.0 * 9, 0.0)) is Accumulated.NOT_NEWER
    assert stats.n_samples == 0
    assert stats.accumulate(make(16.0 * 9, 0.0)) is Accumulated.ADDED


def test_adjustments_keep_the_meaning_of_the_register() -> None:
    """Measuring, then changing the clock, gives the same as changing the clock, then measuring."""
    dfreq, doffset, when = 2e-5, 3e-4, 500.0
    before = noisy(20, noise=1e-5)
    before.handle_change(ClockChange(0, at(when), dfreq, doffset, ChangeKind.ADJUST))
    rng = random.Random(1)
    after = SourceStats(StatsOptions(asymmetry=0.0), PRECISION_S)
    for i in range(20):
        t, theta = 16.0 * i, -(1e-5 * 16.0 * i) + rng.gauss(0.0, 1e-5)
        shift = (when - t) * dfreq - doffset
        after.accumulate(make(t + shift, theta - shift))
    assert before.frequency == pytest.approx(after.frequency, abs=1e-11)
    assert before.offset_s == pytest.approx(after.offset_s, abs=1e-11)
    before.accumulate(make(400.0, 0.0))
    after.accumulate(make(400.0, 0.0))
    assert before.frequency == pytest.approx(after.frequency, rel=1e-9)
    assert before.offset_s == pytest.approx(after.offset_s, rel=1e-6)
    assert before.skew == pytest.approx(after.skew, rel=1e-6)


def test_unknown_step_resets_and_leap_changes_nothing() -> None:
    stats = noisy(10)
    offset, n = stats.offset_s, stats.n_samples
    stats.handle_change(ClockChange(0, at(200.0), 0.0, 1.0, ChangeKind.LEAP))
    assert stats.offset_s == offset
    assert stats.n_samples == n > 0
    stats.handle_change(ClockChange(0, at(200.0), 0.0, 0.0, ChangeKind.UNKNOWN_STEP))
    assert stats.n_samples == 0


def test_original_offset_is_reported_unchanged() -> None:
    stats = noisy(3)
    before = stats.source_report(at(40.0))
    assert before is not None
    stats.handle_change(ClockChange(0, at(32.0), 0.0, 0.125, ChangeKind.STEP))
    after = stats.source_report(at(40.0))
    assert after is not None
    assert after.original_offset_s == before.original_offset_s
    assert after.offset_s == pytest.approx(before.offset_s - 0.125)
    # the sample's time moved back with the clock
    assert after.last_sample_ago_s == pytest.approx(before.last_sample_ago_s + 0.125)


def test_dispersion_widens_all_samples() -> None:
    stats = noisy(5)
    before = stats.selection_data(at(64.0), 1.0).root_distance_s
    stats.add_dispersion(0.5)
    assert stats.selection_data(at(64.0), 1.0).root_distance_s == pytest.approx(before + 0.5)


def test_correction_of_the_servers_clock_moves_everything() -> None:
    stats = noisy(5)
    offset = stats.offset_s
    stats.correct_offsets(0.25)
    assert stats.offset_s == pytest.approx(offset + 0.25)
    report = stats.source_report(at(64.0))
    assert report is not None
    assert report.offset_s == pytest.approx(4 * 16e-5 + 0.25, abs=1e-5)


def test_best_sample_is_the_nearest_aged_by_skew() -> None:
    stats = SourceStats(StatsOptions(asymmetry=0.0), PRECISION_S)
    for i, delay in enumerate([5e-3, 1e-3, 5e-3, 5e-3]):
        stats.accumulate(make(16.0 * i, 0.0, delay))
    tracking = stats.tracking_data()
    assert tracking.root_delay_s == pytest.approx(3e-3)
    assert tracking.ref_time_ns == at(48.0)
    assert tracking.root_dispersion_s == pytest.approx(1e-3 + 1e-6 + 32.0 * stats.skew + stats.offset_sd_s)


def test_selection_interval_is_around_the_best_sample() -> None:
    stats = noisy(10)
    data = stats.selection_data(at(150.0), 1.0)
    assert data.available
    middle = (data.offset_lo_s + data.offset_hi_s) / 2
    assert middle == pytest.approx(1e-5 * 150.0, abs=5e-6)
    assert data.offset_hi_s - data.offset_lo_s == pytest.approx(2 * data.root_distance_s)
    assert data.first_sample_ago_s == pytest.approx(150.0 - 16.0 * (10 - stats.n_samples))
    assert data.last_sample_ago_s == pytest.approx(6.0)


def test_delay_tests_need_six_samples() -> None:
    assert noisy(5).delay_test_data(at(100.0)) is None
    data = noisy(6).delay_test_data(at(100.0))
    assert data is not None
    assert data.sample_age_s == pytest.approx(20.0)
    assert data.min_delay_s == 1e-3


def test_minimum_delay_reaches_back_to_dropped_samples() -> None:
    stats = SourceStats(StatsOptions(min_samples=1, max_samples=4, asymmetry=0.0), PRECISION_S)
    for i, delay in enumerate([1e-3, 2e-3, 2e-3, 2e-3, 2e-3, 2e-3]):
        stats.accumulate(make(16.0 * i, 0.0, delay))
    assert stats.n_samples == 4
    assert stats.min_delay_s() == 1e-3


def test_configured_minimum_delay_mirrors_smaller_ones() -> None:
    stats = SourceStats(StatsOptions(min_delay_s=1e-3, asymmetry=0.0), PRECISION_S)
    stats.accumulate(make(0.0, 0.0, 0.8e-3))
    assert stats.min_delay_s() == 1e-3
    assert "1.200000e-03" in stats.dump_lines()[1]


def asymmetric(option: float | None, jitter: float, n: int = 40) -> SourceStats:
    """All extra delay is on one way: the offset follows half of it."""
    rng = random.Random(2)
    stats = SourceStats(StatsOptions(asymmetry=option), PRECISION_S)
    for i in range(n):
        extra = rng.expovariate(1.0 / jitter)
        stats.accumulate(make(16.0 * i, -0.5 * extra, 1e-3 + extra))
    return stats


def test_asymmetry_is_corrected_once_it_has_lasted() -> None:
    corrected = asymmetric(None, 1e-4)
    assert corrected.asymmetry == pytest.approx(0.5, abs=0.02)
    assert asymmetric(None, 1e-4, n=8).asymmetry == 0.0
    plain = asymmetric(0.0, 1e-4)
    assert plain.asymmetry == 0.0
    assert corrected.std_dev_s < plain.std_dev_s / 5


def test_configured_asymmetry_is_used_at_once() -> None:
    stats = asymmetric(0.5, 1e-4, n=5)
    assert stats.asymmetry == 0.5
    assert stats.std_dev_s < 1e-6


def test_dump_and_load() -> None:
    stats = noisy(20, noise=1e-5)
    stats.handle_change(ClockChange(0, at(300.0), 1e-6, 1e-3, ChangeKind.ADJUST))
    lines = stats.dump_lines()
    loaded = SourceStats(StatsOptions(asymmetry=0.0), PRECISION_S)
    assert loaded.load_lines(lines, at(1000.0))
    assert loaded.n_samples == stats.n_samples
    assert loaded.dump_lines() == lines
    # the register restarts its fit from the samples that were left
    assert loaded.frequency == pytest.approx(stats.frequency, abs=5e-8)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["1"],
        ["1 0"],
        ["0 0"],
        ["2 0", "1.5 0 0 0 0 0 0"],
        ["1 0", "1.5 0 0 0 0 0"],
        ["1 0", "1.5 0 0 0 0 0 0 0"],
        ["1 0", "-1.5 0 0 0 0 0 0"],
        ["1 0", "1.5 nan 0 0 0 0 0"],
        ["1 0", "1.5 inf 0 0 0 0 0"],
        ["1 0", "1.5 0 0 -1 0 0 0"],
        ["1 0", "1e9 0 0 0 0 0 0"],
        ["1 0", "99999999999999999999 0 0 0 0 0 0"],
        ["1 1001", "1.5 0 0 0 0 0 0"],
        ["2 0", "2.5 0 0 0 0 0 0", "1.5 0 0 0 0 0 0"],
        ["2 0", "1.5 0 0 0 0 0 0", "1.5 0 0 0 0 0 0"],
        ["1 0", f"{BASE // S + 1}.0 0 0 0 0 0 0"],
        ["65 0", *(f"{i}.5 0 0 0 0 0 0" for i in range(65))],
        ["1 0", "١.5 0 0 0 0 0 0"],
    ],
)
def test_insane_dumps_are_refused(lines: list[str]) -> None:
    stats = SourceStats(StatsOptions(), PRECISION_S)
    assert not stats.load_lines(lines, BASE)
    assert stats.n_samples == 0


def test_largest_dump_is_loaded() -> None:
    stats = SourceStats(StatsOptions(max_samples=10), PRECISION_S)
    assert stats.load_lines(["64 0", *(f"{i}.5 0 0 0 0 0 0" for i in range(64))], BASE)
    assert stats.n_samples <= 10


@given(st.lists(st.text(max_size=60), max_size=70))
def test_any_text_is_loaded_or_refused(lines: list[str]) -> None:
    stats = SourceStats(StatsOptions(), PRECISION_S)
    stats.load_lines(lines, BASE)
    assert stats.n_samples <= MAX_SAMPLES


@given(
    st.lists(
        st.tuples(
            st.floats(1e-3, 1e5),
            st.floats(-(2.0**32), 2.0**32),
            st.floats(1e-9, 1e3),
            st.floats(1e-9, 16.0),
        ),
        min_size=1,
        max_size=80,
    ),
    st.sampled_from([None, 0.0, 0.5]),
)
def test_any_samples_give_finite_estimates(
    steps: list[tuple[float, float, float, float]], asymmetry: float | None
) -> None:
    stats = SourceStats(StatsOptions(asymmetry=asymmetry), PRECISION_S)
    t = 0.0
    for interval, theta, delay, dispersion in steps:
        t += interval
        stats.accumulate(make(t, theta, delay, dispersion))
        tracking = stats.tracking_data()
        assert all(
            math.isfinite(value)
            for value in (
                tracking.offset_s,
                tracking.offset_sd_s,
                tracking.frequency,
                tracking.skew,
                tracking.root_dispersion_s,
            )
        )
        data = stats.selection_data(at(t), 1.0)
        assert data.offset_lo_s <= data.offset_hi_s


@pytest.mark.parametrize("limits", [(0, 4), (5, 4), (1, 65), (1, 0)])
def test_senseless_limits_are_a_bug_of_the_caller(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="limits"):
        StatsOptions(*limits)


def bending(n: int) -> list[SourceStats]:
    """Statistics after each sample of a clock whose frequency changes all the time."""
    rng = random.Random(5)
    stats = SourceStats(StatsOptions(asymmetry=0.0), PRECISION_S)
    history = []
    for i in range(n):
        t = 128.0 * i
        stats.accumulate(make(t, 2e-11 * t * t + rng.gauss(0.0, 1e-5)))
        history.append(copy.deepcopy(stats))
    return history


def test_a_line_that_bends_lets_go_of_two_samples_at_a_time() -> None:
    history = bending(60)
    dropped = [stats.best_start for stats in history]
    # long before the runs test, which drops many at once
    assert dropped.index(2) < next(i for i, count in enumerate(dropped) if count > 2)
    # what was dropped is counted, and the change of the frequency by all fits is told
    after = dropped.index(2)
    before, now = history[after - 1], history[after]
    assert now.n_samples == before.n_samples + 1 - 2
    assert now.stress == pytest.approx(abs(now.frequency - before.frequency) / before.skew)


def test_a_line_that_bends_keeps_minsamples() -> None:
    stats = SourceStats(StatsOptions(min_samples=20, asymmetry=0.0), PRECISION_S)
    for i in range(64):
        stats.accumulate(make(16.0 * i, 1e-6 * i * i))
        assert stats.n_samples >= min(i + 1, 20)
    assert stats.n_samples == 20


def test_a_register_that_is_loaded_is_fitted_as_it_is() -> None:
    stats = bending(60)[-1]
    lines = stats.dump_lines()
    again = SourceStats(StatsOptions(asymmetry=0.0), PRECISION_S)
    assert again.load_lines(lines, at(1e6))
    assert again.n_samples == stats.n_samples
    assert again.frequency == pytest.approx(stats.frequency, rel=1e-3)


def test_the_span_of_an_estimate_is_that_of_its_live_samples() -> None:
    stats = bending(60)[-1]
    assert stats.tracking_data().span_s == pytest.approx(128.0 * (stats.n_samples - 1))
