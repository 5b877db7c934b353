"""Smoothing: continuity, limits and convergence of served time, and the recipe for a leap smear."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.smoothing import Smoothing, SmoothingState, plan_stages
from ntpd_fast.system.messages import Severity

NS = 1_000_000_000
PPM = 1e-6


class Bench:
    """A smoothing process fed by hand; time is cooked time."""

    def __init__(self, max_freq: float, max_wander: float, *, leap_only: bool = False, skew: float = 0.0) -> None:
        self.now_ns = 1_700_000_000 * NS
        self.skew = skew
        self.lines: list[str] = []
        self.smoothing = Smoothing(max_freq, max_wander, leap_only=leap_only, skew=lambda: self.skew, log=self._log)

    def _log(self, severity: Severity, text: str) -> None:
        self.lines.append(text)

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * NS)

    def change(self, doffset: float = 0.0, dfreq: float = 0.0, kind: ChangeKind = ChangeKind.ADJUST) -> None:
        self.smoothing.handle_change(ClockChange(0, self.now_ns, dfreq, doffset, kind))
        self.now_ns -= round(doffset * NS)

    def served_offset(self) -> float:
        return self.smoothing.state.offset_at_s(self.now_ns)


@pytest.mark.parametrize("seed", range(6))
def test_planning_again_every_16_s_converges(seed: int) -> None:
    rng = random.Random(seed)
    wander, limit = 1e-8, 3e-4
    offset, freq = rng.uniform(-0.5, 0.5), rng.uniform(-5e-4, 5e-4)
    for _ in range(10_000):
        stages = plan_stages(offset, freq, limit, wander)
        offset, freq, w = SmoothingState(0, offset, freq, stages).at(16.0)
        if abs(offset) < 1e-12 and abs(freq) < 1e-12 and abs(w) < 1e-12:
            return
    pytest.fail(f"still {offset} s, {freq} after 10000 steps")


@pytest.mark.parametrize("seed", range(6))
def test_frequency_keeps_its_limit_and_wander_is_constant(seed: int) -> None:
    rng = random.Random(seed)
    wander, limit = 1e-8, 3e-4
    offset = rng.uniform(-0.5, 0.5)
    stages = plan_stages(offset, 0.0, limit, wander)
    state = SmoothingState(0, offset, 0.0, stages)
    total = sum(length for _, length in stages)
    assert all(length >= 0 for _, length in stages)
    frequencies = [state.at(total * i / 1000)[1] for i in range(1001)]
    assert max(map(abs, frequencies)) <= limit * (1 + 1e-9)
    steps = [abs(b - a) for a, b in pairwise(frequencies)]
    assert max(steps) <= wander * total / 1000 * (1 + 1e-6)
    end = state.at(total)
    assert end[0] == pytest.approx(0.0, abs=1e-12)
    assert end[1] == pytest.approx(0.0, abs=1e-15)
    assert state.at(total + 1e6)[0] == pytest.approx(0.0, abs=1e-6)


def test_the_recipe_for_a_leap_smear() -> None:
    """smoothtime 400 0.001024 takes 62500 s for a second, with a peak of 32 ppm in the middle."""
    bench = Bench(400.0, 0.001024, leap_only=True)
    bench.change()
    bench.change(1.0, kind=ChangeKind.LEAP)
    assert bench.served_offset() == pytest.approx(1.0)
    report = bench.smoothing.report(bench.now_ns)
    assert report.remaining_s == pytest.approx(62_500, rel=1e-6)
    bench.wait(31_250)
    report = bench.smoothing.report(bench.now_ns)
    assert report.offset_s == pytest.approx(0.5, rel=1e-6)
    assert report.frequency_ppm == pytest.approx(-32.0, rel=1e-6)
    assert report.last_update_ago_s == 31_250
    bench.wait(31_250)
    assert bench.served_offset() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_served_time_and_its_rate_are_continuous_over_adjustments(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench(500.0, 0.01)
    bench.change()
    for _ in range(200):
        bench.wait(rng.uniform(0.1, 500.0))
        doffset, dfreq = rng.gauss(0, 1e-3), rng.gauss(0, 1e-6)
        cooked, offset = bench.now_ns, bench.served_offset()
        rate = -bench.smoothing.report(bench.now_ns).frequency_ppm * PPM
        bench.change(doffset, dfreq)
        before = offset
        after = (bench.now_ns - cooked) / NS + bench.served_offset()
        assert after == pytest.approx(before, abs=2e-9)
        # the rate of served time against the old cooked time: (1 − rate) = (1 − dfreq)(1 − new rate)
        new_rate = -bench.smoothing.report(bench.now_ns).frequency_ppm * PPM
        assert (1 - dfreq) * (1 - new_rate) == pytest.approx(1 - rate, abs=1e-12)


def test_it_waits_for_the_clock_to_settle() -> None:
    bench = Bench(400.0, 0.001, skew=1e-4)
    bench.change(0.1)
    assert not bench.smoothing.active
    # skew / wander (s⁻¹) has to be below 10000 s
    bench.skew = 0.99e-5
    bench.change(0.2)
    assert bench.smoothing.active
    assert bench.lines == ["Activated time smoothing"]
    # the adjustment that unlocked it is not smoothed
    assert bench.served_offset() == 0.0
    bench.change(0.3)
    assert bench.served_offset() == pytest.approx(0.3)


def test_leap_only_ignores_adjustments() -> None:
    bench = Bench(400.0, 0.001, leap_only=True, skew=1.0)
    bench.change(0.5)
    assert bench.lines == ["Activated time smoothing (leap seconds only)"]
    bench.change(0.5, 1e-6)
    assert bench.served_offset() == 0.0


@pytest.mark.parametrize("kind", [ChangeKind.STEP, ChangeKind.UNKNOWN_STEP])
def test_a_step_is_not_smoothed(kind: ChangeKind) -> None:
    bench = Bench(400.0, 0.001)
    bench.change()
    bench.change(0.5)
    bench.change(0.0 if kind is ChangeKind.UNKNOWN_STEP else 3.0, kind=kind)
    assert bench.served_offset() == 0.0
    assert bench.smoothing.report(bench.now_ns).remaining_s == 0.0


def test_commands_activate_and_reset() -> None:
    bench = Bench(400.0, 0.001, skew=1.0)
    bench.change(0.5)
    assert bench.smoothing.report(bench.now_ns).active is False
    bench.smoothing.activate(bench.now_ns)
    bench.smoothing.activate(bench.now_ns)
    bench.change(0.5)
    assert bench.served_offset() == pytest.approx(0.5)
    bench.smoothing.reset(bench.now_ns)
    assert bench.served_offset() == 0.0
    assert bench.lines == ["Activated time smoothing", "Reset time smoothing"]


@pytest.mark.parametrize("limits", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_limits_must_be_positive(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError):
        Bench(*limits)
