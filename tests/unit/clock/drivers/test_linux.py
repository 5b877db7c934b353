"""The Linux driver against a model of the kernel: algebra of tick and frequency, steps, status, leap."""

from __future__ import annotations

import calendar
import random

import pytest

from ntpd_fast._clock import adjtimex
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.drivers.linux import ClockDriverError, LinuxDriver, kernel_release
from ntpd_fast.clock.drivers.timex import (
    ADJ_FREQUENCY,
    ADJ_STATUS,
    ADJ_TIMECONST,
    STA_INS,
    STA_PLL,
    STA_UNSYNC,
    TIME_ERROR,
    TIME_OK,
    TIME_OOP,
    TIME_WAIT,
    Timex,
)
from tests.sim.kernel import USER_HZ
from tests.sim.machine import KERNEL_RELEASE, Machine
from tests.sim.world import NS_PER_S, World

NEW_YEAR_2017_S = calendar.timegm((2017, 1, 1, 0, 0, 0))


def drive(machine: Machine, *, rtcsync: bool = True, release: str = KERNEL_RELEASE) -> LinuxDriver:
    return LinuxDriver(machine.log, rtcsync=rtcsync, adjtimex=machine.kernel.adjtimex, user_hz=USER_HZ, release=release)


@pytest.fixture
def machine() -> Machine:
    return Machine(World(1))


@pytest.mark.parametrize(
    "ppm", [0.0, 1e-5, -1e-5, 12.345, -49.9, 50.1, -50.1, 499.0, 83333.3, -83333.3, 99999.9, 1e5, -1e5]
)
def test_a_frequency_is_set_to_a_rounding_of_the_kernel(machine: Machine, ppm: float) -> None:
    driver = drive(machine)
    effective = driver.set_frequency_ppm(ppm)
    assert abs(effective - ppm) <= 0.5 / 65536 + 1e-9
    # the clock really runs at it: slower where it was called fast
    assert machine.clock.rate == pytest.approx(-effective * 1e-6, abs=1e-15)
    assert driver.read_frequency_ppm() == effective


def test_frequencies_are_split_into_ticks_of_user_hz_and_a_small_rest(machine: Machine) -> None:
    driver = drive(machine)
    seen: list[Timex] = []

    def spy(request: Timex) -> int:
        seen.append(Timex(modes=request.modes, tick=request.tick, freq=request.freq))
        return machine.kernel.adjtimex(request)

    driver._adjtimex = spy
    driver.set_frequency_ppm(12345.0)
    # a positive frequency makes the clock slower: shorter ticks
    assert (seen[0].tick, seen[0].freq) == (10_000 - 123, -45 * 65536)
    rng = random.Random(1)
    for _ in range(500):
        driver.set_frequency_ppm(rng.uniform(-1e5, 1e5))
        assert abs(seen[-1].freq) <= 50 * 65536
        assert 9000 <= seen[-1].tick <= 11000


def test_taking_over_ends_slews_and_the_pll_but_keeps_the_frequency(machine: Machine) -> None:
    kernel = machine.kernel
    kernel.interfere(Timex(modes=ADJ_FREQUENCY | ADJ_STATUS, freq=-7 * 65536, status=STA_PLL))
    kernel.singleshot_us = 400_000
    kernel.pll_offset = 1234
    driver = drive(machine)
    assert kernel.singleshot_us == 0
    assert kernel.pll_offset == 0
    assert not kernel.status & STA_PLL
    assert driver.read_frequency_ppm() == 7.0


@pytest.mark.parametrize("offset", [0.0, 1e-9, -1e-9, 0.25, -0.25, 1000.000000001, -1e9, 123456.789])
def test_a_step_is_exact_to_the_nanosecond(machine: Machine, offset: float) -> None:
    before = machine.kernel.read()
    assert drive(machine).step(offset) == 0.0
    assert machine.kernel.read() == before - round(offset * NS_PER_S)


def test_a_step_the_kernel_refuses_is_told_and_changes_nothing(machine: Machine) -> None:
    driver = drive(machine)
    before = machine.kernel.read()
    assert driver.step(1e10) is None
    assert machine.kernel.read() == before
    assert machine.lines("Could not step the clock : Invalid argument")


def test_without_the_privilege_the_clock_cannot_be_taken_over(machine: Machine) -> None:
    machine.kernel.privileged = False
    with pytest.raises(ClockDriverError, match="Operation not permitted"):
        drive(machine)


@pytest.mark.parametrize(
    ("release", "numbers"),
    [
        ("6.18.2-rc1", (6, 18, 2)),
        ("4.18.0-553.el8_10.x86_64", (4, 18, 0)),
        ("5.14", (5, 14, 0)),
        ("7", (7, 0, 0)),
        ("strange", (0, 0, 0)),
        ("", (0, 0, 0)),
        ("6.x.3", (6, 0, 3)),
    ],
)
def test_kernel_releases_are_read(release: str, numbers: tuple[int, int, int]) -> None:
    assert kernel_release(release) == numbers


def test_old_kernels_are_slower_or_refused(machine: Machine) -> None:
    assert drive(machine).limits.frequency_change_delay_s == pytest.approx(11e-6)
    assert drive(machine, release="4.18.0").limits.frequency_change_delay_s == pytest.approx(11e-3)
    with pytest.raises(ClockDriverError, match="too old"):
        drive(machine, release="2.6.32")


def test_the_sync_status_reaches_the_kernel(machine: Machine) -> None:
    driver = drive(machine)
    driver.set_sync_status(True, 1e-3, 5e-3)
    answer = Timex()
    assert machine.kernel.adjtimex(answer) == TIME_OK
    assert (answer.esterror, answer.maxerror) == (1000, 5000)
    assert machine.kernel.synchronised
    driver.set_sync_status(False, 1e9, float("inf"))
    answer = Timex()
    assert machine.kernel.adjtimex(answer) == TIME_ERROR
    assert (answer.esterror, answer.maxerror) == (16_000_000, 16_000_000)
    assert not machine.kernel.synchronised


@pytest.mark.parametrize(("rtcsync", "max_error"), [(False, 0.1), (True, 16.0), (True, 1e6)])
def test_the_kernel_stays_unsynchronised_without_rtcsync_or_with_a_large_error(
    machine: Machine, rtcsync: bool, max_error: float
) -> None:
    drive(machine, rtcsync=rtcsync).set_sync_status(True, 0.0, max_error)
    assert machine.kernel.status & STA_UNSYNC


def test_a_refused_status_is_told_once_and_counted(machine: Machine) -> None:
    driver = drive(machine)
    machine.kernel.privileged = False
    for _ in range(3):
        driver.set_sync_status(True, 0.0, 0.0)
    assert driver.status_failures == 3
    assert len(machine.lines("Could not set the synchronisation status")) == 1


@pytest.mark.parametrize(
    "intruder",
    [
        Timex(modes=ADJ_FREQUENCY, freq=99),
        Timex(modes=ADJ_TIMECONST, constant=7),
        Timex(modes=ADJ_STATUS, status=STA_PLL),
    ],
)
def test_another_program_steering_the_clock_is_told_once(machine: Machine, intruder: Timex) -> None:
    driver = drive(machine)
    driver.set_frequency_ppm(3.0)
    for _ in range(3):
        driver.set_sync_status(True, 0.0, 0.0)
    assert driver.interference_count == 0
    for _ in range(2):
        # status bits of ours are put back by the same call that would show them
        if intruder.modes == ADJ_STATUS:
            driver._adjtimex = lambda request: with_status(machine, request, STA_PLL)
        else:
            machine.kernel.interfere(intruder)
        driver.set_sync_status(True, 0.0, 0.0)
    assert driver.interference_count >= 1
    assert machine.lines() == ["System clock interference detected (another NTP client?)"]
    driver._adjtimex = machine.kernel.adjtimex
    driver.set_frequency_ppm(3.0)
    driver.set_sync_status(True, 0.0, 0.0)
    before = driver.interference_count
    driver.set_sync_status(True, 0.0, 0.0)
    assert driver.interference_count == before


def with_status(machine: Machine, request: Timex, status: int) -> int:
    """The kernel's answer as if another program had set a bit in between."""
    state = machine.kernel.adjtimex(request)
    request.status |= status
    return state


def test_errors_grown_by_the_kernel_are_no_interference(machine: Machine) -> None:
    driver = drive(machine)
    driver.set_sync_status(True, 0.0, 1.0)
    machine.world.run(40_000)
    assert machine.kernel.adjtimex(Timex()) != TIME_OK
    driver.set_sync_status(True, 0.0, 1.0)
    assert driver.interference_count == 0


@pytest.mark.parametrize(("leap", "state", "jump"), [(Leap.INSERT, TIME_OOP, -1), (Leap.DELETE, TIME_WAIT, 1)])
def test_the_kernel_makes_the_leap_and_the_driver_tells(leap: Leap, state: int, jump: int) -> None:
    world = World(1, epoch_s=NEW_YEAR_2017_S - 3600)
    machine = Machine(world)
    driver = drive(machine)
    driver.set_leap(leap, 36)
    driver.set_leap(leap, 36)
    assert machine.kernel.tai == 36
    world.run(3600.5)
    assert machine.kernel.read() - world.utc_ns() == jump * NS_PER_S
    assert machine.kernel.state == state
    world.run(2.0)
    driver.set_leap(Leap.NORMAL, 36 - jump)
    assert machine.kernel.state == TIME_OK
    assert machine.kernel.tai == 36 - jump
    assert machine.lines() == [
        "System clock TAI offset set to 36 seconds",
        f"System clock status set to {leap.name.lower()} leap second",
        "System clock status reset after leap second",
    ]


def test_a_leap_taken_back_in_time_never_happens() -> None:
    world = World(1, epoch_s=NEW_YEAR_2017_S - 3600)
    machine = Machine(world)
    driver = drive(machine)
    driver.set_leap(Leap.INSERT, None)
    world.run(1800)
    assert machine.kernel.status & STA_INS
    driver.set_leap(Leap.UNSYNCHRONISED, None)
    world.run(3600)
    assert machine.offset_s() == 0.0
    assert machine.lines()[-1] == "System clock status set to not insert/delete leap second"


def test_status_updates_keep_the_leap_armed(machine: Machine) -> None:
    driver = drive(machine)
    driver.set_leap(Leap.INSERT, None)
    driver.set_sync_status(True, 0.0, 0.0)
    assert machine.kernel.status & STA_INS


def test_the_real_call_reads_without_a_privilege() -> None:
    request = Timex()
    state = adjtimex(request)
    assert 0 <= state <= TIME_ERROR
    assert 9000 <= request.tick <= 11000
    assert request.time_sec > 1_600_000_000
