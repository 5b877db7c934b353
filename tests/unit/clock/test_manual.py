"""Manual input: limits, the line through the entries, and what it does to the clock."""

from __future__ import annotations

import random

import pytest

from ntpd_fast.clock.manual import SAMPLES_MAX, Manual
from ntpd_fast.clock.reference import Reference, ReferenceOptions
from ntpd_fast.config.model import LocalOptions
from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S, World


class Bench:
    """An operator with an exact watch."""

    def __init__(self, *, frequency: float = 0.0, offset_s: float = 0.0, control: bool = True) -> None:
        self.world = World(1)
        self.machine = Machine(self.world, frequency=frequency, offset_s=offset_s)
        self.clock = self.machine.boot(control=control)
        self.reference = Reference(
            self.clock,
            ReferenceOptions(local=LocalOptions(stratum=8)),
            log=self.machine.log,
            random=random.Random(1),
        )
        self.manual = Manual(self.clock, self.reference, enabled=True)


def test_an_entry_corrects_the_offset() -> None:
    bench = Bench(offset_s=3.0)
    result = bench.manual.settime(bench.world.utc_ns())
    assert result is not None
    assert result.offset_s == pytest.approx(3.0)
    assert (result.dfreq_ppm, result.frequency_ppm) == (0.0, 0.0)
    assert abs(bench.machine.cooked_offset_s()) < 2e-9
    served = bench.reference.params(bench.clock.cooked_ns())
    assert served.stratum == 8


@pytest.mark.parametrize("control", [True, False])
def test_entries_find_the_frequency(control: bool) -> None:
    bench = Bench(frequency=100e-6, control=control)
    for _ in range(6):
        result = bench.manual.settime(bench.world.utc_ns())
        assert result is not None
        bench.world.run(600.0)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(99.99, abs=0.01)
    assert abs(bench.machine.cooked_offset_s()) < 1e-5
    assert max(abs(sample.residual_s) for sample in bench.manual.samples) < 1e-5


def test_a_bad_entry_does_not_move_the_line_much() -> None:
    bench = Bench(frequency=100e-6)
    for index in range(8):
        wrong = 5 * NS_PER_S if index == 4 else 0
        assert bench.manual.settime(bench.world.utc_ns() + wrong) is not None
        bench.world.run(3600.0)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(100.0, abs=30.0)


def test_deleting_an_entry_uses_the_line_through_the_others() -> None:
    bench = Bench(frequency=50e-6)
    for index in range(4):
        assert bench.manual.settime(bench.world.utc_ns() + (2 * NS_PER_S if index == 3 else 0)) is not None
        bench.world.run(100.0)
    assert not bench.manual.delete(4)
    assert not bench.manual.delete(-1)
    assert bench.manual.delete(3)
    assert len(bench.manual.samples) == 3
    assert abs(bench.machine.cooked_offset_s()) < 1e-3
    for _ in range(3):
        assert bench.manual.delete(0)
    assert bench.manual.samples == ()


def test_entries_need_a_second_between_them_and_a_possible_time() -> None:
    bench = Bench()
    assert bench.manual.settime(bench.world.utc_ns()) is not None
    bench.world.run(0.9)
    assert bench.manual.settime(bench.world.utc_ns()) is None
    bench.world.run(0.2)
    assert bench.manual.settime(-5 * NS_PER_S) is None
    assert bench.manual.settime((1 << 33) * NS_PER_S) is None
    assert bench.manual.settime(bench.world.utc_ns()) is not None
    assert len(bench.manual.samples) == 2


def test_the_oldest_entries_leave_when_there_are_too_many() -> None:
    bench = Bench()
    for _ in range(SAMPLES_MAX + 5):
        assert bench.manual.settime(bench.world.utc_ns()) is not None
        bench.world.run(10.0)
    assert len(bench.manual.samples) <= SAMPLES_MAX
    bench.manual.reset()
    assert bench.manual.samples == ()


def test_entries_follow_the_clock_and_a_jump_forgets_them() -> None:
    bench = Bench()
    bench.manual.settime(bench.world.utc_ns() - NS_PER_S)
    sample = bench.manual.samples[0]
    assert sample.original_offset_s == pytest.approx(1.0)
    assert sample.offset_s == pytest.approx(0.0, abs=1e-9)
    bench.clock.step(10.0)
    assert bench.manual.samples[0].offset_s == pytest.approx(-10.0)
    bench.machine.clock.step(bench.world.now_ns, 3600 * NS_PER_S)
    bench.machine.scheduler.begin_event()
    assert bench.manual.samples == ()
