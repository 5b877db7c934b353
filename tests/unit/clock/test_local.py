"""What the local clock tells its handlers, and how it notices that somebody else set the clock."""

from __future__ import annotations

import pytest

from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.local import LocalClock
from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S, World


def boot(*, control: bool = True) -> tuple[World, Machine, LocalClock, list[ClockChange]]:
    world = World(1)
    machine = Machine(world)
    local = machine.boot(control=control)
    changes: list[ClockChange] = []
    local.add_handler(changes.append)
    world.run(100.0)
    return world, machine, local, changes


def test_an_adjustment_is_told_with_its_effective_frequency() -> None:
    _, _, local, changes = boot()
    cooked = local.cooked_ns()
    assert local.adjust(1e-5, 0.25, 1.0)
    assert changes == [ClockChange(local.raw_ns(), cooked, changes[0].dfreq, 0.25, ChangeKind.ADJUST)]
    assert changes[0].dfreq == pytest.approx(1e-5, rel=1e-6)
    assert local.absolute_frequency_ppm == pytest.approx(10.0, abs=1e-4)


def test_frequency_is_limited_and_the_handlers_told_what_took_effect() -> None:
    world = World(1)
    machine = Machine(world)
    machine.boot()
    local = LocalClock(machine.driver, machine.scheduler, precision_s=1e-9, log=machine.log, max_drift_ppm=50.0)
    changes: list[ClockChange] = []
    local.add_handler(changes.append)
    local.adjust(1e-4, 0.0, 0.0)
    assert local.absolute_frequency_ppm == 50.0
    assert changes[0].dfreq == pytest.approx(50e-6)


def test_stored_times_keep_their_meaning_over_a_change() -> None:
    change = ClockChange(0, 1000 * NS_PER_S, 1e-6, 0.5, ChangeKind.ADJUST)
    assert change.shift_s(1000 * NS_PER_S) == -0.5
    assert change.slewed_ns(900 * NS_PER_S) == 900 * NS_PER_S - 500_000_000 + 100_000
    leap = ClockChange(0, 1000 * NS_PER_S, 0.0, 1.0, ChangeKind.LEAP)
    assert leap.slewed_ns(900 * NS_PER_S) == 900 * NS_PER_S


def test_a_step_moves_clock_and_cooked_time_and_is_announced_before() -> None:
    _, machine, local, changes = boot()
    seen: list[tuple[bool, int, int]] = []
    local.add_step_observer(lambda on: seen.append((on, local.raw_ns(), len(changes))))
    raw, cooked = local.raw_ns(), local.cooked_ns()
    assert local.step(3.5)
    assert local.raw_ns() == raw - 3_500_000_000
    assert local.cooked_ns() == cooked - 3_500_000_000
    assert [c.kind for c in changes] == [ChangeKind.STEP]
    assert seen == [(True, raw, 0), (False, raw - 3_500_000_000, 1)]
    assert machine.offset_s() == pytest.approx(-3.5)


def test_observers_of_the_mapping_are_called_once_after_the_handlers() -> None:
    world, _, local, changes = boot()
    calls: list[int] = []
    local.add_mapping_observer(lambda: calls.append(len(changes)))
    local.adjust(1e-6, 0.1, 0.0)
    assert calls == [1]
    world.run(30.0)
    # the end of the slew
    assert len(calls) >= 2
    assert len(changes) == 1


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), 5e9, 2e9, -3e9])
def test_a_correction_out_of_the_era_is_refused(offset: float) -> None:
    _, _, local, changes = boot()
    assert not local.adjust(0.0, offset, 0.0)
    assert not local.accumulate_offset(offset, 0.0)
    assert not local.step(offset)
    assert changes == []


@pytest.mark.parametrize("step", [100, -100, 10])
def test_a_jump_from_outside_is_noticed_at_the_next_event(step: int) -> None:
    world, machine, local, changes = boot()
    local.adjust(0.0, 0.5, 0.0)
    dispersions: list[float] = []
    local.add_dispersion_handler(dispersions.append)
    world.run(0.5)
    changes.clear()
    pending = local.correction_s()
    machine.clock.step(world.now_ns, step * NS_PER_S)
    machine.scheduler.begin_event()
    assert [c.kind for c in changes] == [ChangeKind.UNKNOWN_STEP]
    assert dispersions == [pytest.approx(abs(step))]
    # the slew in progress went on as before
    assert local.correction_s() == pytest.approx(pending, abs=1e-9)
    direction = "Forward" if step > 0 else "Backward"
    assert machine.lines("time jump") == [f"{direction} time jump detected!"]
    assert local.interference_count == 1
    machine.scheduler.begin_event()
    assert len(changes) == 1


def test_small_jumps_and_our_own_steps_are_no_interference() -> None:
    world, machine, local, changes = boot()
    for _ in range(5):
        machine.clock.step(world.now_ns, 9 * NS_PER_S)
        machine.scheduler.begin_event()
    assert changes == []
    assert local.step(-1000.0)
    machine.scheduler.begin_event()
    assert [c.kind for c in changes] == [ChangeKind.STEP]
    assert local.interference_count == 0


def test_a_suspended_machine_is_a_jump() -> None:
    world, machine, _, changes = boot()
    machine.scheduler.sleep()
    world.run(3600.0)
    machine.clock.sleep(world.now_ns, 3600 * NS_PER_S)
    machine.scheduler.wake()
    machine.scheduler.begin_event()
    assert [c.kind for c in changes] == [ChangeKind.UNKNOWN_STEP]
    assert abs(machine.offset_s()) < 1e-6


@pytest.mark.parametrize("step", [True, False])
def test_a_leap_moves_cooked_time_but_not_stored_times(step: bool) -> None:
    world, machine, local, changes = boot()
    cooked = local.cooked_ns()
    assert local.leap(1, step=step)
    assert local.cooked_ns() == cooked - NS_PER_S
    assert [c.kind for c in changes] == [ChangeKind.LEAP]
    assert changes[0].doffset_s == 1
    assert machine.offset_s() == pytest.approx(-1.0 if step else 0.0)
    world.run(13.0)
    assert machine.offset_s() == pytest.approx(-1.0, abs=1e-6)


def test_the_kernels_leap_is_told_when_it_was_made_and_only_then() -> None:
    world, machine, local, changes = boot()
    local.expect_kernel_leap()
    assert not local.finish_kernel_leap(1)
    local.expect_kernel_leap()
    machine.clock.step(world.now_ns, -NS_PER_S)
    machine.scheduler.begin_event()
    cooked = local.cooked_ns()
    assert local.finish_kernel_leap(1)
    assert abs(local.cooked_ns() - cooked) <= 1
    assert [c.kind for c in changes] == [ChangeKind.LEAP]
    assert not local.finish_kernel_leap(1)


def test_temperature_compensation_changes_the_hardware_and_nothing_else() -> None:
    _, machine, local, changes = boot()
    local.set_absolute_frequency_ppm(20.0)
    changes.clear()
    assert local.set_temperature_compensation_ppm(3.0)
    assert changes == []
    assert local.absolute_frequency_ppm == pytest.approx(20.0, abs=1e-9)
    # positive compensation lets the clock run faster
    assert machine.kernel.frequency_ppm == pytest.approx(-20.0 * (1 - 3e-6) + 3.0, abs=1e-4)
    assert local.base_frequency_ppm == pytest.approx(20.0 * (1 - 3e-6) - 3.0)
    for bad in (10.1, -10.1, float("nan")):
        assert not local.set_temperature_compensation_ppm(bad)
    assert local.set_temperature_compensation_ppm(0.0)
    assert machine.kernel.frequency_ppm == pytest.approx(-20.0, abs=1e-4)


def test_handlers_can_leave() -> None:
    _, _, local, changes = boot()
    local.remove_handler(changes.append)
    local.adjust(0.0, 0.1, 0.0)
    assert changes == []
    with pytest.raises(ValueError):
        local.remove_handler(changes.append)


@pytest.mark.parametrize("precision", [0.0, 2.0, float("nan")])
def test_precision_must_be_possible(precision: float) -> None:
    world = World(1)
    machine = Machine(world)
    machine.boot()
    with pytest.raises(ValueError):
        LocalClock(machine.driver, machine.scheduler, precision_s=precision, log=machine.log)


def test_precision_is_rounded_to_a_power_of_two() -> None:
    world = World(1)
    machine = Machine(world)
    assert machine.boot(precision_s=1e-9).precision_log2 == -30
    assert machine.boot(precision_s=25e-9).precision_log2 == -25
    assert machine.boot(precision_s=1.0).precision_log2 == 0
