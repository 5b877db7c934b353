"""Leap seconds from announcement to end: who makes them, when, and what is served meanwhile.

An announcement (the sources' vote, or the leap second database when they see none) counts only on
30 June and 31 December. At the event UTC repeats or skips a second; `leapsecmode` says how the clock
follows: by the kernel (system), by a step, by a slew, or not at all. Two seconds after the reaction
everything is normal again; in between LI=3 is served. Within 5 s of the event measurements are worthless
and announcements frozen.

The kernel cannot make its leap at the same moment at which served time is told of it; where served time is
smoothed, `system` is therefore carried out as `step`.
"""

from __future__ import annotations

from collections.abc import Callable

from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.leapdb import DAY_S, LeapDb, is_leap_day
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.config.model import LeapSecMode
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import TimerHandle

NS_PER_S = 1_000_000_000

CLOSE_S = 5.0
KERNEL_LEAD_S = 0.5
"""How long before the event the reaction is, when the kernel makes the leap."""
LOCK_S = 2.0
"""From the reaction until everything is normal again."""
KERNEL_CHECK_S = 0.6
"""From the reaction until the kernel should have made the leap."""

LEAP_SECONDS = {Leap.INSERT: 1, Leap.DELETE: -1}


class LeapHandler:
    """The leap second of today, if there is one."""

    def __init__(
        self,
        clock: LocalClock,
        mode: LeapSecMode,
        *,
        log: Log,
        leap_db: LeapDb | None = None,
        is_smoothing: Callable[[], bool] = bool,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when `status` or `in_progress` changes by itself."""
        self._clock = clock
        self._mode = mode
        self._log = log
        self._leap_db = leap_db
        self._is_smoothing = is_smoothing
        self._on_change = on_change
        self.status = Leap.UNSYNCHRONISED
        """What the reference announces."""
        self.in_progress = False
        self.tai_offset_s: int | None = None
        self._event_ns: int | None = None
        self._armed = Leap.NORMAL
        self._timer: TimerHandle | None = None

    def reconfigure(self, mode: LeapSecMode, leap_db: LeapDb | None) -> None:
        """Follow a changed configuration from the next update on; a leap second that has begun ends as it began."""
        self._mode = mode
        self._leap_db = leap_db

    @property
    def leap_db(self) -> LeapDb | None:
        """Where leap seconds are looked up."""
        return self._leap_db

    def is_close(self, cooked_ns: int) -> bool:
        """Whether a leap second is so near that measurements cannot be trusted."""
        if self._event_ns is None:
            return False
        return abs(cooked_ns - self._event_ns) <= CLOSE_S * NS_PER_S

    def update(self, vote: Leap) -> None:
        """Take what the sources (or their loss: UNSYNCHRONISED) say now."""
        now_ns = self._clock.cooked_ns()
        if self.in_progress or self.is_close(now_ns):
            return
        now_s = now_ns // NS_PER_S
        leap = vote
        if self._leap_db is not None:
            listed, self.tai_offset_s = self._leap_db.lookup(now_s)
            if leap is Leap.NORMAL:
                leap = listed
        if leap in LEAP_SECONDS and not is_leap_day(now_s):
            leap = Leap.NORMAL
        self.status = leap
        self._arm(leap if leap in LEAP_SECONDS else Leap.NORMAL, now_s)

    def handle_change(self, change: ClockChange) -> None:
        """The clock was changed: what is armed stays armed for the same moment."""
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self._disarm()
            self.in_progress = False
            self.status = Leap.UNSYNCHRONISED
            self._clock.driver.set_leap(Leap.NORMAL, self.tai_offset_s)
        elif self._timer is not None and not self.in_progress:
            self._start_timer()

    @property
    def _by_kernel(self) -> bool:
        return (
            self._mode is LeapSecMode.SYSTEM
            and self._clock.driver.handles_leap
            and not self._is_smoothing()
        )

    @property
    def _can_step(self) -> bool:
        return self._mode is not LeapSecMode.SLEW and self._clock.driver.controls_clock

    def _arm(self, leap: Leap, now_s: int) -> None:
        driver = self._clock.driver
        if leap is not self._armed:
            self._disarm()
            self._armed = leap
            if leap in LEAP_SECONDS:
                midnight_s = (now_s // DAY_S + 1) * DAY_S
                self._event_ns = (midnight_s - (leap is Leap.DELETE)) * NS_PER_S
                self._start_timer()
        if driver.handles_leap:
            driver.set_leap(leap if self._by_kernel else Leap.NORMAL, self.tai_offset_s)

    def _disarm(self) -> None:
        self._armed = Leap.NORMAL
        self._event_ns = None
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _remaining_s(self) -> float:
        """Time until the reaction."""
        assert self._event_ns is not None
        if self._by_kernel:
            # the kernel goes by the system clock, whatever is still to be corrected
            return (self._event_ns - self._clock.raw_ns()) / NS_PER_S - KERNEL_LEAD_S
        return (self._event_ns - self._clock.cooked_ns()) / NS_PER_S

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self._clock.scheduler.call_later(self._remaining_s(), self._react)

    def _react(self) -> None:
        self._timer = None
        if self._remaining_s() > 0.0:
            # the clock was slewed meanwhile
            self._start_timer()
            return
        leap = self._armed
        leap_s = LEAP_SECONDS[leap]
        self.in_progress = True
        scheduler = self._clock.scheduler
        self._timer = scheduler.call_later(LOCK_S, self._end)
        if self._by_kernel:
            self._clock.expect_kernel_leap()
            scheduler.call_later(KERNEL_CHECK_S, lambda: self._check_kernel(leap_s))
        elif self._mode is LeapSecMode.IGNORE:
            self._log(Severity.WARNING, "Ignoring leap second")
        elif self._can_step and self._clock.leap(leap_s, step=True):
            self._log(Severity.WARNING, "System clock was stepped for leap second")
        else:
            self._log(Severity.WARNING, "Adjusting system clock for leap second")
            self._clock.leap(leap_s, step=False)
        self._on_change()

    def _check_kernel(self, leap_s: int) -> None:
        if self.in_progress and not self._clock.finish_kernel_leap(leap_s):
            self._log(Severity.WARNING, "Leap second was not made by the system clock")

    def _end(self) -> None:
        leap_s = LEAP_SECONDS[self._armed]
        self._timer = None
        self._armed = Leap.NORMAL
        self.in_progress = False
        self.status = Leap.NORMAL
        if self.tai_offset_s is not None:
            self.tai_offset_s += leap_s
        if self._clock.driver.handles_leap:
            self._clock.driver.set_leap(Leap.NORMAL, self.tai_offset_s)
        # `_event_ns` stays: for a few seconds more the event is close
        self._on_change()
