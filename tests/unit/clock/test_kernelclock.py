"""What a server beside the keeper of the clock makes of the kernel's word; the kernel is a model."""

from __future__ import annotations

import calendar
import errno
import random

import pytest

from ntpd_fast._clock import adjtimex as real_adjtimex
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.drivers.timex import (
    ADJ_ESTERROR,
    ADJ_MAXERROR,
    ADJ_STATUS,
    ADJ_TAI,
    STA_DEL,
    STA_INS,
    STA_UNSYNC,
    TIME_WAIT,
    Timex,
)
from ntpd_fast.clock.kernelclock import ERROR_RATE, INTERVAL_S, KernelClock, KernelState, read_state
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceOptions
from ntpd_fast.clock.served import Served, ServedReference
from ntpd_fast.config.model import KernelClockOptions, LocalOptions
from tests.sim.machine import Machine
from tests.sim.world import EPOCH_S, NS_PER_S, World

NEW_YEAR_S = calendar.timegm((2017, 1, 1, 0, 0, 0))
KEPT = ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR


class Bench:
    """A machine whose clock somebody else keeps, and our server on it."""

    def __init__(
        self, options: KernelClockOptions | None = None, local: LocalOptions | None = None, epoch_s: int = EPOCH_S
    ) -> None:
        self.world = World(1, epoch_s=epoch_s)
        self.machine = Machine(self.world)
        self.clock = self.machine.boot(control=False)
        self.pages: list[ServedReference] = []
        self.reference = Reference(
            self.clock,
            ReferenceOptions(local=local),
            log=self.machine.log,
            random=random.Random(1),
            outlets=Outlets(on_publish=self.pages.append),
        )
        self.requests: list[int] = []
        self.error: OSError | None = None
        self.mirror = KernelClock(
            self.clock, self.reference, options or KernelClockOptions(3), self.machine.log, self.adjtimex
        )
        self.mirror.start()

    def adjtimex(self, request: Timex) -> int:
        self.requests.append(request.modes)
        if self.error is not None:
            raise self.error
        return self.machine.kernel.adjtimex(request)

    def keep(self, max_error_us: int, status: int = 0, **more: int) -> None:
        """What the keeper of the clock tells the kernel."""
        self.machine.kernel.adjtimex(
            Timex(modes=KEPT, maxerror=max_error_us, esterror=max_error_us // 10, status=status, **more)
        )

    def served(self) -> Served:
        return self.reference.params(self.clock.cooked_ns())


def test_what_the_kernel_says_is_served():
    bench = Bench(KernelClockOptions(3, b"PTP\0"))
    assert not bench.served().synchronised
    bench.keep(2500)
    bench.world.run(INTERVAL_S + 0.01)
    served = bench.served()
    assert (served.leap, served.stratum, served.refid) == (Leap.NORMAL, 3, 0x50545000)
    assert served.root_delay_s == 0.0
    # the kernel lets it grow once a second
    assert served.root_dispersion_s == pytest.approx(2500e-6 + 1.0 * ERROR_RATE, abs=ERROR_RATE)
    assert bench.machine.lines() == ["System clock is not synchronised", "System clock is kept right by others"]
    assert set(bench.requests) == {0}, "it only reads"


def test_dispersion_grows_until_the_kernel_is_told_again():
    bench = Bench()
    bench.keep(1000)
    bench.world.run(2.0)
    first = bench.served()
    pages = len(bench.pages)
    bench.world.run(100.0)
    later = bench.served()
    assert later.ref_time_ns == first.ref_time_ns
    assert later.root_dispersion_s == pytest.approx(1000e-6 + 102 * ERROR_RATE, abs=2 * ERROR_RATE)
    assert len(bench.pages) == pages, "nothing new, nothing published"
    bench.keep(800)
    bench.world.run(2.0)
    renewed = bench.served()
    assert renewed.ref_time_ns > later.ref_time_ns
    assert renewed.root_dispersion_s == pytest.approx(800e-6 + 2 * ERROR_RATE, abs=2 * ERROR_RATE)


def test_a_clock_that_is_no_longer_kept_is_not_served():
    bench = Bench()
    bench.keep(1000)
    bench.world.run(2.0)
    assert bench.served().stratum == 3
    bench.keep(1000, STA_UNSYNC)
    bench.world.run(INTERVAL_S + 0.01)
    assert bench.served() == Served(Leap.UNSYNCHRONISED, 16, 0, 0, 1.0, 1.0)
    bench.keep(1000)
    bench.world.run(INTERVAL_S + 0.01)
    assert bench.served().stratum == 3
    assert bench.machine.lines("System clock is") == [
        "System clock is not synchronised",
        "System clock is kept right by others",
        "System clock is not synchronised",
        "System clock is kept right by others",
    ]


def test_a_keeper_that_died_is_found_out_by_the_kernel():
    """16 s of maximum error: the kernel takes its word back."""
    bench = Bench()
    bench.keep(15_990_000)
    bench.world.run(2.0)
    assert bench.served().stratum == 3
    bench.world.run(60.0)
    assert not bench.served().synchronised


def test_local_takes_over_where_it_is_configured():
    bench = Bench(local=LocalOptions(stratum=12))
    bench.world.run(2.0)
    assert bench.served().stratum == 12
    bench.keep(1000)
    bench.world.run(2.0)
    assert bench.served().stratum == 3


@pytest.mark.parametrize(("status", "leap"), [(STA_INS, Leap.INSERT), (STA_DEL, Leap.DELETE)])
def test_leap_second_to_come_is_told_to_clients(status, leap):
    bench = Bench(epoch_s=NEW_YEAR_S - 3600)
    bench.keep(1000, status)
    bench.world.run(2.0)
    assert bench.served().leap == leap
    bench.keep(1000)
    bench.world.run(2.0)
    assert bench.served().leap == Leap.NORMAL


def test_leap_second_that_is_over_is_not_told():
    def after(request: Timex) -> int:
        request.status = STA_INS
        return TIME_WAIT

    assert read_state(after) == KernelState(True, 0.0, Leap.NORMAL, 0)


def test_tai_offset_is_told_in_the_log():
    bench = Bench()
    bench.keep(1000)
    bench.machine.kernel.adjtimex(Timex(modes=ADJ_TAI, tai=37, constant=37))
    bench.world.run(5.0)
    assert bench.machine.lines("TAI") == ["System clock has a TAI offset of 37 seconds"]


def test_step_by_the_keeper_is_survived():
    bench = Bench()
    bench.keep(1000)
    bench.world.run(2.0)
    bench.machine.clock.step(bench.world.now_ns, 3600 * NS_PER_S)
    bench.keep(1000)
    bench.world.run(INTERVAL_S + 0.01)
    served = bench.served()
    assert served.stratum == 3
    assert abs(served.ref_time_ns - bench.clock.cooked_ns()) < 3e9
    assert served.root_dispersion_s < 0.01


def test_failure_to_read_is_told_once_and_serves_nothing():
    bench = Bench()
    bench.keep(1000)
    bench.world.run(2.0)
    bench.error = OSError(errno.EPERM, "Operation not permitted")
    bench.world.run(5.0)
    assert not bench.served().synchronised
    assert len(bench.machine.lines("Could not read the state of the system clock")) == 1
    bench.error = None
    bench.world.run(2.0)
    assert bench.served().stratum == 3


def test_closed_it_reads_no_more():
    bench = Bench()
    bench.mirror.close()
    before = len(bench.requests)
    bench.world.run(10.0)
    assert len(bench.requests) == before


def test_real_kernel_is_only_read():
    modes = []

    def watched(request: Timex) -> int:
        modes.append(request.modes)
        return real_adjtimex(request)

    state = read_state(watched)
    assert modes == [0]
    assert state.max_error_s > 0.0
    assert -1 < state.tai_offset_s < 1000
