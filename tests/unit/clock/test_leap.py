"""Leap seconds in every mode: when the clock moves, what is served meanwhile, and what is told."""

from __future__ import annotations

import calendar
import random

import pytest

from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.estimate import Estimate, Update
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.leapdb import LeapDb, LeapTable
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceOptions
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.config.model import LeapSecMode, SmoothTime
from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S, World
from tests.unit.clock.test_leapdb import HISTORY, Scripted

LEAD_S = 600
NEW_YEAR_S = calendar.timegm((2017, 1, 1, 0, 0, 0))

JUMPS = {Leap.INSERT: -1, Leap.DELETE: 1}


class Bench:
    """A synchronised clock ten minutes before midnight of a leap day."""

    def __init__(
        self,
        mode: LeapSecMode,
        leap: Leap = Leap.INSERT,
        *,
        midnight_s: int = NEW_YEAR_S,
        control: bool = True,
        smoothtime: SmoothTime | None = None,
        leap_db: LeapDb | None = None,
        offset_s: float = 0.0,
    ) -> None:
        self.world = World(1, epoch_s=midnight_s - LEAD_S)
        seconds = LEAD_S - (leap is Leap.DELETE)
        self.event_ns = seconds * NS_PER_S
        if leap in JUMPS:
            self.world.insert_leap(self.event_ns, -JUMPS[leap])
        self.machine = Machine(self.world, offset_s=offset_s)
        self.clock = self.machine.boot(control=control)
        self.changes: list[ClockChange] = []
        self.pages: list[tuple[int, int, ServedReference]] = []
        """True time and system clock at each publication."""
        self.reference = Reference(
            self.clock,
            ReferenceOptions(leapsecmode=mode, smoothtime=smoothtime),
            log=self.machine.log,
            random=random.Random(1),
            outlets=Outlets(on_publish=self._published),
            leap_db=leap_db,
        )
        self.clock.add_handler(self.changes.append)

    def _published(self, page: ServedReference) -> None:
        self.pages.append((self.world.now_ns, self.clock.raw_ns(), page))

    def served_error_s(self, true_ns: int, raw_ns: int, page: ServedReference) -> float:
        """How far smoothed time is from time without leap seconds."""
        cooked_ns = page.mapping.cooked_ns(raw_ns)
        served_ns = cooked_ns + round(smoothed_s(page, cooked_ns) * NS_PER_S)
        return (served_ns - self.world.epoch_ns - true_ns) / NS_PER_S

    def update(self, leap: Leap = Leap.INSERT, offset_s: float | None = None) -> None:
        offset = self.machine.cooked_offset_s() if offset_s is None else offset_s
        self.reference.update(Update(Estimate(self.clock.cooked_ns(), offset, skew=1e-9, offset_sd_s=1e-9), 1, leap, 7))

    def to_event(self, seconds: float) -> None:
        """Run to so many seconds after the leap."""
        self.world.run_until(self.event_ns + round(seconds * NS_PER_S))

    def served_leap(self) -> Leap:
        return self.reference.params(self.clock.cooked_ns()).leap


@pytest.mark.parametrize("leap", [Leap.INSERT, Leap.DELETE])
def test_the_kernel_makes_the_leap_in_system_mode(leap: Leap) -> None:
    bench = Bench(LeapSecMode.SYSTEM, leap)
    bench.update(leap)
    assert bench.served_leap() is leap
    bench.to_event(-0.6)
    assert bench.served_leap() is leap
    bench.to_event(-0.4)
    assert bench.served_leap() is Leap.UNSYNCHRONISED
    bench.to_event(0.3)
    assert abs(bench.machine.offset_s()) < 1e-6
    assert abs(bench.machine.cooked_offset_s()) < 1e-6
    bench.to_event(1.4)
    assert bench.served_leap() is Leap.UNSYNCHRONISED
    bench.to_event(1.6)
    assert bench.served_leap() is Leap.NORMAL
    kinds = [change.kind for change in bench.changes if change.kind is not ChangeKind.ADJUST]
    assert kinds == [ChangeKind.LEAP]
    assert bench.changes[-1].doffset_s == -JUMPS[leap]
    assert bench.machine.lines() == [
        f"System clock status set to {leap.name.lower()} leap second",
        "System clock status reset after leap second",
    ]


@pytest.mark.parametrize("leap", [Leap.INSERT, Leap.DELETE])
@pytest.mark.parametrize("control", [True, False])
def test_step_mode_steps_at_the_event(leap: Leap, control: bool) -> None:
    bench = Bench(LeapSecMode.STEP, leap, control=control)
    bench.update(leap)
    bench.to_event(-0.1)
    assert bench.served_leap() is leap
    assert abs(bench.machine.cooked_offset_s()) < 1e-6
    bench.to_event(0.1)
    assert bench.served_leap() is Leap.UNSYNCHRONISED
    assert abs(bench.machine.cooked_offset_s()) < 1e-6
    if control:
        assert abs(bench.machine.offset_s()) < 1e-6
        assert bench.machine.lines() == ["System clock was stepped for leap second"]
    else:
        assert bench.machine.lines() == ["Adjusting system clock for leap second"]
    bench.to_event(2.1)
    assert bench.served_leap() is Leap.NORMAL
    assert [c.kind for c in bench.changes if c.kind is not ChangeKind.ADJUST] == [ChangeKind.LEAP]


@pytest.mark.parametrize("leap", [Leap.INSERT, Leap.DELETE])
def test_slew_mode_takes_twelve_seconds(leap: Leap) -> None:
    bench = Bench(LeapSecMode.SLEW, leap)
    bench.update(leap)
    bench.to_event(0.1)
    assert abs(bench.machine.cooked_offset_s()) < 1e-6
    assert abs(bench.machine.offset_s()) == pytest.approx(1.0, abs=0.02)
    bench.to_event(11.0)
    assert abs(bench.machine.offset_s()) > 0.05
    bench.to_event(14.0)
    assert abs(bench.machine.offset_s()) < 1e-6
    assert bench.machine.lines() == ["Adjusting system clock for leap second"]


def test_ignore_mode_leaves_the_clock_to_the_sources() -> None:
    bench = Bench(LeapSecMode.IGNORE)
    bench.update()
    assert bench.served_leap() is Leap.INSERT
    bench.to_event(0.1)
    assert bench.machine.cooked_offset_s() == pytest.approx(1.0)
    assert bench.machine.lines() == ["Ignoring leap second"]
    bench.to_event(2.1)
    assert bench.served_leap() is Leap.NORMAL


def test_system_mode_steps_where_the_driver_cannot() -> None:
    bench = Bench(LeapSecMode.SYSTEM, control=False)
    bench.update()
    bench.to_event(0.1)
    assert abs(bench.machine.cooked_offset_s()) < 1e-6


@pytest.mark.parametrize("mode", list(LeapSecMode))
def test_announcements_do_not_count_on_other_days(mode: LeapSecMode) -> None:
    bench = Bench(mode, Leap.NORMAL, midnight_s=calendar.timegm((2017, 3, 1, 0, 0, 0)))
    bench.update(Leap.INSERT)
    assert bench.served_leap() is Leap.NORMAL
    bench.to_event(30.0)
    assert bench.machine.offset_s() == pytest.approx(0.0, abs=1e-6)
    assert bench.machine.lines() == []


def test_an_announcement_can_be_taken_back() -> None:
    bench = Bench(LeapSecMode.SYSTEM, Leap.NORMAL)
    bench.update(Leap.INSERT)
    bench.world.run(64.0)
    bench.update(Leap.NORMAL)
    assert bench.served_leap() is Leap.NORMAL
    bench.to_event(30.0)
    assert abs(bench.machine.offset_s()) < 1e-6
    assert bench.machine.lines()[-1] == "System clock status set to not insert/delete leap second"


def test_votes_are_frozen_around_the_event() -> None:
    bench = Bench(LeapSecMode.STEP)
    bench.update()
    bench.to_event(-4.9)
    assert bench.reference.is_leap_close(bench.clock.cooked_ns())
    bench.update(Leap.NORMAL)
    bench.to_event(4.0)
    assert abs(bench.machine.cooked_offset_s()) < 1e-6
    assert bench.reference.is_leap_close(bench.clock.cooked_ns())
    # a server that is slow to forget
    bench.update(Leap.INSERT)
    assert bench.served_leap() is Leap.NORMAL
    bench.to_event(6.1)
    assert not bench.reference.is_leap_close(bench.clock.cooked_ns())
    bench.update(Leap.INSERT)
    assert bench.served_leap() is Leap.NORMAL
    bench.world.run(90_000.0)
    assert abs(bench.machine.cooked_offset_s()) < 1e-6


@pytest.mark.parametrize("mode", [LeapSecMode.STEP, LeapSecMode.SLEW])
def test_the_event_is_met_whatever_is_slewed_meanwhile(mode: LeapSecMode) -> None:
    bench = Bench(mode, offset_s=20.0)
    bench.update()
    for second in range(10, LEAD_S - 20, 10):
        bench.world.run_until(second * NS_PER_S)
        bench.update()
    bench.to_event(-0.001)
    assert not bench.machine.lines("leap second")
    bench.to_event(0.001)
    assert bench.machine.lines("leap second")
    assert abs(bench.machine.cooked_offset_s()) < 1e-6


def test_the_database_knows_leap_seconds_that_nobody_announces() -> None:
    leap_db = LeapDb(Scripted(LeapTable(tuple(HISTORY))), lambda severity, text: None)
    leap_db.reload()
    bench = Bench(LeapSecMode.SYSTEM, leap_db=leap_db)
    bench.update(Leap.NORMAL)
    assert bench.served_leap() is Leap.INSERT
    assert bench.machine.kernel.tai == 36
    bench.to_event(3.0)
    assert abs(bench.machine.offset_s()) < 1e-6
    assert bench.machine.kernel.tai == 37
    assert bench.machine.lines("TAI") == ["System clock TAI offset set to 36 seconds"]
    bench.world.run(60.0)
    bench.update(Leap.NORMAL)
    assert bench.machine.kernel.tai == 37
    assert bench.served_leap() is Leap.NORMAL


def test_losing_the_reference_disarms_the_kernel() -> None:
    bench = Bench(LeapSecMode.SYSTEM, Leap.NORMAL)
    bench.update(Leap.INSERT)
    bench.world.run(10.0)
    bench.reference.set_unsynchronised()
    bench.to_event(5.0)
    assert abs(bench.machine.offset_s()) < 1e-6


def test_a_jump_from_outside_disarms_everything() -> None:
    bench = Bench(LeapSecMode.STEP, Leap.NORMAL)
    bench.update(Leap.INSERT)
    bench.machine.clock.step(bench.world.now_ns, -300 * NS_PER_S)
    bench.machine.scheduler.begin_event()
    bench.to_event(400.0)
    assert bench.machine.lines("leap") == []


def test_a_kernel_that_did_not_make_its_leap_is_told() -> None:
    bench = Bench(LeapSecMode.SYSTEM)
    bench.update()
    bench.to_event(-10.0)
    bench.machine.kernel.status = 0
    bench.machine.kernel._next_leap_ns = None
    bench.to_event(3.0)
    assert bench.machine.lines("Leap second was not made by the system clock")
    assert not [c for c in bench.changes if c.kind is ChangeKind.LEAP]


@pytest.mark.parametrize("leap", [Leap.INSERT, Leap.DELETE])
@pytest.mark.parametrize("leap_only", [True, False])
@pytest.mark.parametrize("mode", [LeapSecMode.SYSTEM, LeapSecMode.STEP, LeapSecMode.SLEW])
def test_smoothed_time_glides_over_the_leap(mode: LeapSecMode, leap_only: bool, leap: Leap) -> None:
    bench = Bench(mode, leap, smoothtime=SmoothTime(400.0, 0.001024, leap_only))
    bench.update(leap, offset_s=0.0)
    assert bench.pages[-1][2].smoothing
    assert bench.served_leap() is Leap.NORMAL
    bench.world.run(1.0)
    bench.pages.clear()
    bench.to_event(5.0)
    assert any(page.stepping for _, _, page in bench.pages)
    for true_ns, raw_ns, page in bench.pages:
        assert page.stepping or abs(bench.served_error_s(true_ns, raw_ns, page)) < 1e-7
    present = (bench.world.now_ns, bench.clock.raw_ns(), bench.reference.page())
    # the smear has begun: 0.001024 ppm/s for 5 s
    assert abs(bench.served_error_s(*present)) < 2e-8
    assert abs(bench.machine.cooked_offset_s()) < 1e-6
    bench.world.run(62_500.0)
    page = bench.reference.page()
    assert abs(smoothed_s(page, bench.clock.cooked_ns())) < 1e-9


def smoothed_s(page: ServedReference, cooked_ns: int) -> float:
    """S(t) as the data plane computes it from the page."""
    elapsed = (cooked_ns - page.smooth_origin_ns) / NS_PER_S
    offset, freq = page.smooth_offset_s, page.smooth_freq
    for wander, length in page.smooth_stages:
        part = min(length, elapsed)
        offset -= part * (2 * freq + wander * part) / 2
        freq += wander * part
        elapsed -= part
    return offset - elapsed * freq
