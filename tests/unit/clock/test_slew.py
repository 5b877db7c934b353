"""The slew engine's invariants: cooked time is continuous, the pending offset goes to zero in time."""

from __future__ import annotations

import random

import pytest

from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.slew import MAX_SLEW_RATE_PPM
from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S, World


def boot(
    *, frequency: float = 0.0, control: bool = True, slew_ppm: float = MAX_SLEW_RATE_PPM
) -> tuple[World, Machine, LocalClock]:
    world = World(1)
    machine = Machine(world, frequency=frequency)
    return world, machine, machine.boot(control=control, max_slew_rate_ppm=slew_ppm)


@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_cooked_time_moves_only_by_what_was_asked(seed: int, control: bool) -> None:
    rng = random.Random(seed)
    world, _, local = boot(frequency=rng.uniform(-1e-4, 1e-4), control=control)
    for _ in range(200):
        world.run(rng.choice([0.0, 1e-6, 0.3, 5.0, 100.0, 3000.0]))
        before = local.cooked_ns()
        offset = rng.choice([0.0, 1e-9, 1e-6, 0.1, -3.0, rng.gauss(0, 1e-3)])
        if rng.random() < 0.3:
            local.set_absolute_frequency_ppm(rng.uniform(-500, 500))
            offset = 0.0
        elif rng.random() < 0.3 and control:
            assert local.step(offset)
        else:
            assert local.adjust(rng.gauss(0, 1e-6), offset, rng.choice([0.0, 1.0, 100.0]))
        assert abs(local.cooked_ns() - before + offset * 1e9) <= 1.0


@pytest.mark.parametrize("seed", range(4))
def test_the_rate_of_cooked_time_does_not_depend_on_the_slew(seed: int) -> None:
    rng = random.Random(seed)
    frequency = rng.uniform(-5e-5, 5e-5)
    world, _, local = boot(frequency=frequency)
    local.set_absolute_frequency_ppm(frequency / (1 + frequency) * 1e6)
    for _ in range(50):
        local.accumulate_offset(rng.gauss(0, 0.01), 1.0)
        before, start = local.cooked_ns(), world.now_ns
        world.run(rng.uniform(0.5, 200.0))
        elapsed = world.now_ns - start
        assert abs(local.cooked_ns() - before - elapsed) <= 3 + 1e-11 * elapsed


@pytest.mark.parametrize("offset", [1e-6, 0.1, -0.1, 5.0])
def test_an_offset_goes_at_the_greatest_rate_when_no_area_is_asked(offset: float) -> None:
    world, machine, local = boot()
    local.accumulate_offset(offset, 0.0)
    # a twelfth of the clock's own time
    seconds = max((12 if offset < 0 else 13) * abs(offset), 1.0)
    world.run(seconds * 0.9)
    assert abs(machine.offset_s() - machine.cooked_offset_s()) > 0.02 * abs(offset)
    world.run(seconds * 0.2 + 2.0)
    assert abs(local.correction_s()) < 2e-9
    world.run(3600.0)
    assert abs(local.correction_s()) < 2e-9


@pytest.mark.parametrize(("offset", "area"), [(1e-3, 0.1), (-1e-3, 1.0), (1e-5, 0.01), (1e-6, 1e-4)])
def test_the_area_under_the_offset_follows_the_wanted_one(offset: float, area: float) -> None:
    """A linear decay of `offset` within area / |offset| seconds encloses half of that product."""
    world, _, local = boot()
    local.accumulate_offset(offset, area)
    step, total = 0.25, 0.0
    duration = min(area / abs(offset), 1e4)
    for _ in range(int(duration * 1.5 / step)):
        total += abs(local.correction_s()) * step
        world.run(step)
    assert total == pytest.approx(area / 2, rel=0.05)
    assert abs(local.correction_s()) < 0.05 * abs(offset)


def test_the_slew_rate_is_limited() -> None:
    world, machine, local = boot(slew_ppm=1000.0)
    local.accumulate_offset(1.0, 0.0)
    before = machine.offset_s()
    world.run(100.0)
    assert machine.offset_s() - before == pytest.approx(-100.0 * 1000e-6, rel=2e-3)


def test_the_default_slew_rate_is_a_twelfth() -> None:
    world, machine, local = boot()
    local.accumulate_offset(-100.0, 0.0)
    before = machine.offset_s()
    world.run(12.0)
    # the clock runs a twelfth faster
    assert machine.offset_s() - before == pytest.approx(1.0, rel=1e-3)


def test_closing_returns_the_clock_to_its_base_frequency() -> None:
    world, machine, local = boot()
    local.set_absolute_frequency_ppm(12.5)
    local.accumulate_offset(1.0, 0.0)
    world.run(1.0)
    assert machine.kernel.frequency_ppm < -1000
    cooked = local.cooked_ns()
    local.close()
    assert machine.kernel.frequency_ppm == pytest.approx(-12.5, abs=1e-4)
    assert abs(local.cooked_ns() - cooked) <= 1
    world.run(100.0)
    assert machine.kernel.frequency_ppm == pytest.approx(-12.5, abs=1e-4)


def test_a_late_timer_makes_the_next_slews_gentler() -> None:
    """After a wake-up 2 s late the same offset is removed over at least five times that."""
    world, machine, local = boot()
    local.accumulate_offset(1e-6, 0.0)
    machine.scheduler.sleep()
    machine.clock.sleep(world.now_ns, 0)
    world.run(3.0)
    machine.scheduler.wake()
    world.run(0.001)
    local.accumulate_offset(1e-3, 0.0)
    # five times the lateness of about 2 s, less the decay: some 9 s
    assert abs(local.mapping().rate) == pytest.approx(1e-3 / 9.0, rel=0.3)


def test_the_mapping_error_is_known_while_a_frequency_change_takes_effect() -> None:
    world, machine, local = boot()
    told: list[float] = []
    local.add_dispersion_handler(told.append)
    local.accumulate_offset(0.1, 0.0)
    expected = abs(local.mapping().rate) * machine.driver.limits.frequency_change_delay_s
    assert told == [pytest.approx(expected)]
    assert local.cook(local.raw_ns())[1] == pytest.approx(expected)
    world.run(0.01)
    assert local.cook(local.raw_ns())[1] == 0.0


def test_with_x_the_machine_is_left_alone() -> None:
    world, machine, local = boot(frequency=20e-6, control=False)
    calls = machine.kernel.calls
    local.set_absolute_frequency_ppm(20.0)
    assert local.adjust(0.0, 0.5, 10.0)
    assert not local.step(1.0)
    assert machine.lines("Could not step system clock")
    assert local.correction_s() == pytest.approx(-0.5)
    before = local.cooked_ns()
    world.run(5000.0)
    elapsed = local.cooked_ns() - before
    assert elapsed == pytest.approx(5000 * NS_PER_S, abs=5000 * 1e-9 * NS_PER_S)
    assert machine.kernel.calls == calls
    assert machine.clock.steered == 0.0
    local.close()
