"""Steering the Linux system clock by adjtimex(2): tick and frequency, steps, leap seconds, status.

The kernel's own PLL stays off; frequency is set by the tick in steps of USER_HZ ppm and the rest by
the 16-bit fraction of `freq`, and read back as the kernel has rounded it. Whatever a call returns that
we did not set is another program steering the same clock, and is told once per occurrence. The call
itself is injected: tests run the driver against a model of the kernel.
"""

from __future__ import annotations

import os

from ntpd_fast._clock import adjtimex as kernel_adjtimex
from ntpd_fast.clock.driver import DriverLimits, Leap
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
    ERROR_MAX_US,
    FREQ_PER_PPM,
    STA_DEL,
    STA_INS,
    STA_PLL,
    STA_RONLY,
    STA_UNSYNC,
    TIME_WAIT,
    AdjTimex,
    Timex,
)
from ntpd_fast.system.messages import Log, Severity

NS_PER_S = 1_000_000_000

OLDEST_KERNEL = (2, 6, 39)
"""The first with ADJ_SETOFFSET."""

FAST_CHANGE_KERNEL = (4, 19)
"""From here on a new tick length takes effect at once and not at the next tick."""
FAST_CHANGE_DELAY_S = 10e-6
SLOW_CHANGE_DELAY_S = 10e-3

ERROR_MAX_S = ERROR_MAX_US * 1e-6

LEAP_STATUS = {Leap.INSERT: STA_INS, Leap.DELETE: STA_DEL}


class ClockDriverError(Exception):
    """The system clock cannot be steered; the text says why."""


def kernel_release(release: str) -> tuple[int, int, int]:
    """The three numbers of a kernel release such as `6.18.2-rc1`; (0, 0, 0) where there are none."""
    numbers: list[int] = []
    for word in release.split(".", 2):
        digits = ""
        for char in word:
            if not char.isascii() or not char.isdigit():
                break
            digits += char
        numbers.append(int(digits or "0"))
    numbers += [0, 0, 0]
    return numbers[0], numbers[1], numbers[2]


class LinuxDriver:
    """The system clock of a Linux kernel."""

    def __init__(
        self,
        log: Log,
        *,
        rtcsync: bool = False,
        adjtimex: AdjTimex = kernel_adjtimex,
        user_hz: int | None = None,
        release: str | None = None,
    ) -> None:
        """Take the clock over: ends slews and the PLL of a predecessor, keeps its frequency.

        `rtcsync`: let the kernel see itself as synchronised, which has it copy the time to the RTC.
        Raises `ClockDriverError` when the clock cannot be steered.
        """
        self._log = log
        self._rtcsync = rtcsync
        self._adjtimex = adjtimex
        self._user_hz = os.sysconf("SC_CLK_TCK") if user_hz is None else user_hz
        self._nominal_tick = (1_000_000 + self._user_hz // 2) // self._user_hz
        kernel = kernel_release(os.uname().release if release is None else release)
        if kernel < OLDEST_KERNEL:
            raise ClockDriverError(f"kernel {'.'.join(map(str, kernel))} is too old to be steered")
        max_ppm = (self._nominal_tick // 10) * self._user_hz
        delay_s = FAST_CHANGE_DELAY_S if kernel >= FAST_CHANGE_KERNEL else SLOW_CHANGE_DELAY_S
        self._limits = DriverLimits(
            max_frequency_ppm=float(max_ppm),
            frequency_change_delay_s=delay_s * (1.0 + max_ppm * 1e-6),
        )
        self._leap = Leap.NORMAL
        self._status = STA_UNSYNC
        self._interfered = False
        self.interference_count = 0
        """Calls that found the clock set by somebody else."""
        self.status_failures = 0
        """Sync status updates that the kernel refused."""

        self._call(Timex(modes=ADJ_OFFSET_SINGLESHOT, offset=0), "stop a slew of adjtime()")
        # the PLL forgets its offset only while it is enabled
        self._call(
            Timex(modes=ADJ_OFFSET | ADJ_STATUS, offset=0, status=STA_PLL | STA_UNSYNC), "reset the PLL"
        )
        state = Timex(modes=ADJ_STATUS, status=STA_UNSYNC)
        self._call(state, "disable the PLL")
        self._freq, self._tick, self._constant = state.freq, state.tick, state.constant
        self._tai_offset_s = state.tai

    @property
    def limits(self) -> DriverLimits:
        """±10 % on every kernel with the usual USER_HZ of 100."""
        return self._limits

    @property
    def controls_clock(self) -> bool:
        """Yes."""
        return True

    @property
    def handles_leap(self) -> bool:
        """The kernel inserts and deletes leap seconds."""
        return True

    def read_frequency_ppm(self) -> float:
        """The frequency now set in the kernel, ppm, in the driver's sense (fast is positive)."""
        state = Timex()
        self._call(state, "read the frequency")
        self._freq, self._tick = state.freq, state.tick
        return self._user_hz * (self._nominal_tick - state.tick) - state.freq / FREQ_PER_PPM

    def set_frequency_ppm(self, frequency_ppm: float) -> float:
        """Compensate a clock that is fast by this much; returns what the kernel has made of it."""
        ticks = round(frequency_ppm / self._user_hz)
        rest_ppm = frequency_ppm - self._user_hz * ticks
        # at the ends of the range the whole distance has to go into the fraction
        limit = int(self._limits.max_frequency_ppm) // self._user_hz
        if abs(ticks) > limit:
            ticks = limit if ticks > 0 else -limit
            rest_ppm = min(max(frequency_ppm - self._user_hz * ticks, -500.0), 500.0)
        request = Timex(
            modes=ADJ_TICK | ADJ_FREQUENCY,
            tick=self._nominal_tick - ticks,
            freq=round(-rest_ppm * FREQ_PER_PPM),
        )
        self._call(request, "set the frequency")
        self._freq, self._tick = request.freq, request.tick
        return self._user_hz * (self._nominal_tick - request.tick) - request.freq / FREQ_PER_PPM

    def step(self, offset_s: float) -> float | None:
        """Move the clock back by `offset_s`; exact to the nanosecond."""
        offset_ns = round(-offset_s * NS_PER_S)
        request = Timex(
            modes=ADJ_SETOFFSET | ADJ_NANO,
            time_sec=offset_ns // NS_PER_S,
            time_usec=offset_ns % NS_PER_S,
        )
        try:
            self._call(request, "step the clock")
        except ClockDriverError as error:
            self._log(Severity.ERROR, str(error))
            return None
        return 0.0

    def set_leap(self, leap: Leap, tai_offset_s: int | None) -> None:
        """Arm or disarm the kernel's leap second and set TAI − UTC when it is known and not yet set."""
        if leap not in LEAP_STATUS:
            leap = Leap.NORMAL
        previous, self._leap = self._leap, leap
        request = Timex(modes=ADJ_STATUS, status=self._wanted_status())
        if tai_offset_s is not None and tai_offset_s != self._tai_offset_s:
            request.modes |= ADJ_TAI
            request.tai = tai_offset_s
        if leap is previous and not request.modes & ADJ_TAI:
            return
        # the state before the call tells whether the kernel has made the leap
        before = Timex()
        state = self._call(before, "read the leap status")
        self._call(request, "set the leap status")
        if request.modes & ADJ_TAI:
            if tai_offset_s != before.tai:
                self._log(Severity.INFO, f"System clock TAI offset set to {tai_offset_s} seconds")
            self._tai_offset_s = request.tai
        if leap is previous:
            return
        if leap is Leap.NORMAL:
            what = "reset after" if state == TIME_WAIT else "set to not insert/delete"
        else:
            what = "set to insert" if leap is Leap.INSERT else "set to delete"
        self._log(Severity.INFO, f"System clock status {what} leap second")

    def set_sync_status(self, synchronised: bool, est_error_s: float, max_error_s: float) -> None:
        """Tell the kernel the errors; it counts as synchronised only with `rtcsync`."""
        est_error_s = min(max(est_error_s, 0.0), ERROR_MAX_S)
        max_error_s = min(max(max_error_s, 0.0), ERROR_MAX_S)
        good = synchronised and self._rtcsync and max_error_s < ERROR_MAX_S
        self._status = 0 if good else STA_UNSYNC
        request = Timex(
            modes=ADJ_STATUS | ADJ_ESTERROR | ADJ_MAXERROR,
            status=self._wanted_status(),
            esterror=round(est_error_s * 1e6),
            maxerror=round(max_error_s * 1e6),
        )
        try:
            self._call(request, "set the synchronisation status")
        except ClockDriverError as error:
            if self.status_failures == 0:
                self._log(Severity.WARNING, str(error))
            self.status_failures += 1
            return
        # only now: the calls that set the frequency return our own
        self._check_interference(request)

    def _wanted_status(self) -> int:
        return self._status | LEAP_STATUS.get(self._leap, 0)

    def _call(self, request: Timex, purpose: str) -> int:
        try:
            return self._adjtimex(request)
        except OSError as error:
            raise ClockDriverError(f"Could not {purpose} : {error.strerror}") from error

    def _check_interference(self, answer: Timex) -> None:
        unexpected = (answer.status ^ self._wanted_status()) & ~(STA_RONLY | STA_UNSYNC)
        same = (answer.freq, answer.tick, answer.constant) == (self._freq, self._tick, self._constant)
        if same and not unexpected:
            self._interfered = False
            return
        self.interference_count += 1
        if not self._interfered:
            self._log(Severity.WARNING, "System clock interference detected (another NTP client?)")
        self._interfered = True
        self._constant = answer.constant
