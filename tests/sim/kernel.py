"""A model of the kernel's adjtimex(2), for the Linux driver to steer a simulated clock.

Models what a daemon can see: the ranges and rounding of tick and frequency, ADJ_SETOFFSET, the error
estimates, the status word with its read-only bits, TAI, the leap second state machine (TIME_INS,
TIME_OOP, TIME_WAIT …), slews of adjtime(), and other programs that use the same call.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ntpd_fast.clock.drivers.timex import (
    ADJ_ESTERROR,
    ADJ_FREQUENCY,
    ADJ_MAXERROR,
    ADJ_NANO,
    ADJ_OFFSET,
    ADJ_OFFSET_SINGLESHOT,
    ADJ_SETOFFSET,
    ADJ_STATUS,
    ADJ_TAI,
    ADJ_TICK,
    ADJ_TIMECONST,
    ERROR_MAX_US,
    FREQ_MAX,
    FREQ_PER_PPM,
    STA_DEL,
    STA_INS,
    STA_NANO,
    STA_PLL,
    STA_RONLY,
    STA_UNSYNC,
    TIME_DEL,
    TIME_ERROR,
    TIME_INS,
    TIME_OK,
    TIME_OOP,
    TIME_WAIT,
    Timex,
)
from tests.sim.clock import SystemClock

NS_PER_S = 1_000_000_000
DAY_NS = 86_400 * NS_PER_S
USER_HZ = 100
NOMINAL_TICK = 10_000
MAX_ERROR_GROWTH_PPM = 500


class ModelKernel:
    """The time keeping of one simulated machine."""

    def __init__(
        self,
        clock: SystemClock,
        true_ns: Callable[[], int],
        *,
        privileged: bool = True,
        tai: int = 0,
        constant: int = 2,
    ) -> None:
        self.clock = clock
        self.privileged = privileged
        self.tai = tai
        self.status = STA_UNSYNC
        self.state = TIME_OK
        self.constant = constant
        self.singleshot_us = 0
        self.pll_offset = 0
        self.calls = 0
        self._true_ns = true_ns
        self._tick = NOMINAL_TICK
        self._freq = 0
        self._esterror = ERROR_MAX_US
        self._maxerror = ERROR_MAX_US
        self._maxerror_ns = 0
        self._next_leap_ns: int | None = None

    @property
    def frequency_ppm(self) -> float:
        """The compensation now set, ppm (positive: makes the clock faster)."""
        return (self._tick - NOMINAL_TICK) * USER_HZ + self._freq / FREQ_PER_PPM

    @property
    def synchronised(self) -> bool:
        """What the kernel tells others."""
        return not self.status & STA_UNSYNC

    def read(self) -> int:
        """The system clock, leap seconds made where they are due."""
        now = self.clock.read(self._true_ns())
        if self._next_leap_ns is not None and now >= self._next_leap_ns:
            self._second_overflow(now)
            now = self.clock.read(self._true_ns())
        return now

    def read_monotonic(self) -> int:
        """The monotonic clock."""
        self.read()
        return self.clock.read_monotonic(self._true_ns())

    def adjtimex(self, request: Timex) -> int:
        """The system call."""
        self.calls += 1
        modes = request.modes
        if modes and not self.privileged:
            raise OSError(errno.EPERM, "Operation not permitted", "adjtimex")
        now = self.read()
        if modes == ADJ_OFFSET_SINGLESHOT:
            self.singleshot_us, request.offset = request.offset, self.singleshot_us
        else:
            self._check(request)
            if modes & ADJ_SETOFFSET:
                self._set_offset(request)
                now = self.read()
            self._set_fields(request)
            request.offset = self.pll_offset
        request.freq = self._freq
        request.tick = self._tick
        request.status = self.status | STA_NANO
        request.constant = self.constant
        request.esterror = self._esterror
        request.maxerror = self._max_error_now()
        request.tai = self.tai
        request.time_sec, request.time_usec = divmod(now, NS_PER_S)
        return TIME_ERROR if self.status & STA_UNSYNC and self.state == TIME_OK else self.state

    def interfere(self, request: Timex) -> None:
        """Another program uses the call."""
        self.adjtimex(request)

    def _check(self, request: Timex) -> None:
        modes = request.modes
        if modes & ADJ_TICK and not NOMINAL_TICK * 9 // 10 <= request.tick <= NOMINAL_TICK * 11 // 10:
            raise OSError(errno.EINVAL, "Invalid argument", "adjtimex")
        if modes & ADJ_SETOFFSET:
            fraction_max = NS_PER_S if modes & ADJ_NANO else 1_000_000
            if not 0 <= request.time_usec < fraction_max:
                raise OSError(errno.EINVAL, "Invalid argument", "adjtimex")

    def _set_offset(self, request: Timex) -> None:
        fraction_ns = request.time_usec * (1 if request.modes & ADJ_NANO else 1000)
        step_ns = request.time_sec * NS_PER_S + fraction_ns
        if self.read() + step_ns < 0:
            raise OSError(errno.EINVAL, "Invalid argument", "adjtimex")
        self.clock.step(self._true_ns(), step_ns)
        self._plan_leap(self.clock.read(self._true_ns()))

    def _set_fields(self, request: Timex) -> None:
        modes = request.modes
        if modes & ADJ_STATUS:
            if self.status & STA_PLL and not request.status & STA_PLL:
                self.state = TIME_OK
                self.status = STA_UNSYNC
            self.status = (self.status & STA_RONLY) | (request.status & ~STA_RONLY)
            self._leap_status_changed()
        if modes & ADJ_FREQUENCY:
            self._freq = min(max(request.freq, -FREQ_MAX), FREQ_MAX)
        if modes & ADJ_MAXERROR:
            self._maxerror = request.maxerror
            self._maxerror_ns = self._true_ns()
        if modes & ADJ_ESTERROR:
            self._esterror = request.esterror
        if modes & ADJ_TIMECONST:
            self.constant = min(max(request.constant, 0), 10)
        if modes & ADJ_TAI and request.tai >= 0:
            self.tai = request.tai
        if modes & ADJ_OFFSET and self.status & STA_PLL:
            self.pll_offset = request.offset
        if modes & ADJ_TICK:
            self._tick = request.tick
        if modes & (ADJ_TICK | ADJ_FREQUENCY):
            self.clock.steer(self._true_ns(), self.frequency_ppm * 1e-6)

    def _max_error_now(self) -> int:
        elapsed_s = (self._true_ns() - self._maxerror_ns) / NS_PER_S
        grown = self._maxerror + int(elapsed_s * MAX_ERROR_GROWTH_PPM)
        if grown >= ERROR_MAX_US:
            grown = ERROR_MAX_US
            self.status |= STA_UNSYNC
        return grown

    def _leap_status_changed(self) -> None:
        wanted = self.status & (STA_INS | STA_DEL)
        if self.state in (TIME_INS, TIME_DEL, TIME_WAIT) and not wanted:
            self.state = TIME_OK
        elif self.state == TIME_OK and wanted:
            self.state = TIME_INS if wanted & STA_INS else TIME_DEL
        self._plan_leap(self.clock.read(self._true_ns()))

    def _plan_leap(self, now: int) -> None:
        midnight = (now // DAY_NS + 1) * DAY_NS
        if self.state == TIME_INS:
            self._next_leap_ns = midnight
        elif self.state == TIME_DEL:
            self._next_leap_ns = midnight - NS_PER_S
        elif self.state == TIME_OOP:
            self._next_leap_ns = midnight
        else:
            self._next_leap_ns = None

    def _second_overflow(self, now: int) -> None:
        if self.state == TIME_INS:
            self.state = TIME_OOP
            self.tai += 1
            self.clock.step(self._true_ns(), -NS_PER_S)
            self._next_leap_ns = (now // DAY_NS) * DAY_NS
        elif self.state == TIME_DEL:
            self.state = TIME_WAIT
            self.tai -= 1
            self.clock.step(self._true_ns(), NS_PER_S)
            self._next_leap_ns = None
        else:
            self.state = TIME_WAIT
            self._next_leap_ns = None
