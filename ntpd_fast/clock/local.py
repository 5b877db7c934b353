"""The local clock: cooked time, its frequency and offset, and who is told when they change.

Everything that keeps times in the control plane keeps cooked times and registers a handler here; the
discipline (`reference.py`) is the usual caller of `adjust` and `step`. Rules:

- the system clock is touched through the driver only, and never with the null driver;
- handlers are told the *effective* change (a driver rounds), after it was made;
- a jump that was not ours (another program, a suspended machine) is noticed at the next event and told
  as UNKNOWN_STEP: whatever was measured before it is worthless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ntpd_fast.clock.driver import ClockDriver
from ntpd_fast.clock.events import ChangeHandler, ChangeKind, ClockChange, DispersionHandler
from ntpd_fast.clock.slew import (
    MAX_SLEW_RATE_PPM,
    NS_PER_S,
    PPM,
    Correction,
    Mapping,
    SlewEngine,
    VirtualCorrection,
)
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import Scheduler

MAX_DRIFT_PPM = 100_000.0
TEMPCOMP_MAX_PPM = 10.0

JUMP_MIN_S = 10.0
"""A difference between the clocks below this is left to the sources to measure."""

LEAP_TOLERANCE_S = 0.1

ERA_S = 1 << 32
"""Length of an NTP era; also the largest sane offset."""


class LocalClock:
    """Cooked time and the means to change it."""

    def __init__(
        self,
        driver: ClockDriver,
        scheduler: Scheduler,
        *,
        precision_s: float,
        log: Log,
        max_slew_rate_ppm: float = MAX_SLEW_RATE_PPM,
        max_drift_ppm: float = MAX_DRIFT_PPM,
        max_clock_error_ppm: float = 1.0,
        era_start_s: int = 0,
    ) -> None:
        """`era_start_s`: Unix time at which the 2³² s begin that NTP timestamps are taken to lie in."""
        if not 1e-9 <= precision_s <= 1.0:
            raise ValueError(f"precision {precision_s} s")
        self._driver = driver
        self._scheduler = scheduler
        self._log = log
        self._max_drift_ppm = min(max(max_drift_ppm, 0.0), MAX_DRIFT_PPM)
        self._era_start_s = era_start_s
        self.precision_s = precision_s
        self.precision_log2 = round(math.log2(precision_s))
        self.max_clock_error = max_clock_error_ppm * PPM
        self.interference_count = 0
        """Times that somebody else was seen to set the clock."""

        self._handlers: list[ChangeHandler] = []
        self._dispersion_handlers: list[DispersionHandler] = []
        self._observers: list[Callable[[], None]] = []
        self._step_observers: list[Callable[[bool], None]] = []
        self._changes_open = 0
        self._mapping_dirty = False
        self._temperature_ppm = 0.0
        self._frequency_ppm = self._clamp(driver.read_frequency_ppm())
        self._correction: Correction
        if driver.controls_clock:
            self._correction = SlewEngine(
                driver,
                scheduler,
                max_slew_rate_ppm=max_slew_rate_ppm,
                on_change=self._mapping_changed,
                on_dispersion=self.add_dispersion,
            )
        else:
            self._correction = VirtualCorrection(driver, scheduler, on_change=self._mapping_changed)
        self._raw_ahead_ns = self._read_raw_ahead_ns()
        self._before_leap_ns: int | None = None
        scheduler.add_event_hook(self.check_jump)

    @property
    def scheduler(self) -> Scheduler:
        """The timers that run on this clock."""
        return self._scheduler

    @property
    def driver(self) -> ClockDriver:
        """The clock below."""
        return self._driver

    def raw_ns(self) -> int:
        """The system clock, ns since the Unix epoch."""
        return self._scheduler.raw_ns()

    def monotonic_ns(self) -> int:
        """The monotonic clock, ns."""
        return self._scheduler.monotonic_ns()

    def cooked_ns(self) -> int:
        """The best idea of the time now, ns since the Unix epoch."""
        return self._correction.mapping.cooked_ns(self._scheduler.raw_ns())

    def cook(self, raw_ns: int) -> tuple[int, float]:
        """A raw time as cooked time (ns) and the bound of its error (s)."""
        return self._correction.mapping.cooked_ns(raw_ns), self._correction.error_s(raw_ns)

    def correction_s(self) -> float:
        """What cooked time adds to the system clock now, s (positive: the system clock is slow)."""
        return self._correction.mapping.correction_s(self._scheduler.raw_ns())

    def mapping(self) -> Mapping:
        """The mapping from raw to cooked time now in effect."""
        return self._correction.mapping

    @property
    def absolute_frequency_ppm(self) -> float:
        """The frequency that is compensated for, ppm; positive: the clock runs fast without it."""
        return self._frequency_ppm

    @property
    def base_frequency_ppm(self) -> float:
        """What the driver is to be set to when no slew is in progress, ppm."""
        return self._to_hardware(self._frequency_ppm)

    def set_limits(self, *, max_slew_rate_ppm: float, max_drift_ppm: float, max_clock_error_ppm: float) -> None:
        """Replace the limits given to the constructor; what is being slewed follows with the next change."""
        self._max_drift_ppm = min(max(max_drift_ppm, 0.0), MAX_DRIFT_PPM)
        self.max_clock_error = max_clock_error_ppm * PPM
        if isinstance(self._correction, SlewEngine):
            self._correction.set_max_slew_rate_ppm(max_slew_rate_ppm)

    def add_handler(self, handler: ChangeHandler) -> None:
        """Call `handler` after every change of the clock."""
        self._handlers.append(handler)

    def remove_handler(self, handler: ChangeHandler) -> None:
        """Undo `add_handler`; raises ValueError for a handler that is not there."""
        self._handlers.remove(handler)

    def add_dispersion_handler(self, handler: DispersionHandler) -> None:
        """Call `handler` with every uncertainty (s) that a change adds to earlier measurements."""
        self._dispersion_handlers.append(handler)

    def remove_dispersion_handler(self, handler: DispersionHandler) -> None:
        """Undo `add_dispersion_handler`; raises ValueError for a handler that is not there."""
        self._dispersion_handlers.remove(handler)

    def add_mapping_observer(self, observer: Callable[[], None]) -> None:
        """Call `observer` whenever the mapping was replaced (also by a slew that merely ends).

        During a change it is called once, after all handlers: what they keep then fits the mapping.
        """
        self._observers.append(observer)

    def add_step_observer(self, observer: Callable[[bool], None]) -> None:
        """Call `observer` with True right before a step and with False when all handlers know of it."""
        self._step_observers.append(observer)

    def add_dispersion(self, dispersion_s: float) -> None:
        """Tell the dispersion handlers of an uncertainty."""
        for handler in self._dispersion_handlers:
            handler(dispersion_s)

    def is_sane(self, cooked_ns: int, offset_s: float) -> bool:
        """Whether a correction of this size leaves the clock inside the era that NTP can express."""
        if not math.isfinite(offset_s) or abs(offset_s) >= ERA_S:
            return False
        corrected_s = cooked_ns / NS_PER_S - offset_s
        return corrected_s >= 0.0 and self._era_start_s <= corrected_s <= self._era_start_s + ERA_S

    def adjust(self, dfreq: float, doffset_s: float, corr_rate: float, min_duration_s: float = 0.0) -> bool:
        """Change frequency (s/s, positive: the clock gains) and offset (s, positive: it is fast).

        `corr_rate` is the wanted area under the curve of |offset| over time while slewing, s²; 0: as
        fast as allowed, but in no less than `min_duration_s`. Returns False, having done nothing, when the
        result would not be a sane time.
        """
        raw_ns = self._scheduler.raw_ns()
        cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
        if not self.is_sane(cooked_ns, doffset_s):
            return False
        old_ppm = self._frequency_ppm
        with self._changing():
            self._apply_frequency(self._clamp(old_ppm + dfreq * (1e6 - old_ppm)))
            effective = (self._frequency_ppm - old_ppm) / (1e6 - old_ppm)
            self._correction.accrue(doffset_s, corr_rate, min_duration_s)
            self._tell(ClockChange(raw_ns, cooked_ns, effective, doffset_s, ChangeKind.ADJUST))
        return True

    def adjust_frequency(self, dfreq: float) -> None:
        """Change the frequency only, s/s."""
        old_ppm = self._frequency_ppm
        self.set_absolute_frequency_ppm(old_ppm + dfreq * (1e6 - old_ppm))

    def set_absolute_frequency_ppm(self, frequency_ppm: float) -> None:
        """Compensate for this frequency from now on."""
        raw_ns = self._scheduler.raw_ns()
        cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
        old_ppm = self._frequency_ppm
        with self._changing():
            self._apply_frequency(self._clamp(frequency_ppm))
            effective = (self._frequency_ppm - old_ppm) / (1e6 - old_ppm)
            self._tell(ClockChange(raw_ns, cooked_ns, effective, 0.0, ChangeKind.ADJUST))

    def accumulate_offset(self, doffset_s: float, corr_rate: float) -> bool:
        """Change the offset only; see `adjust`."""
        raw_ns = self._scheduler.raw_ns()
        cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
        if not self.is_sane(cooked_ns, doffset_s):
            return False
        with self._changing():
            self._correction.accrue(doffset_s, corr_rate)
            self._tell(ClockChange(raw_ns, cooked_ns, 0.0, doffset_s, ChangeKind.ADJUST))
        return True

    def step(self, offset_s: float) -> bool:
        """Move the system clock and cooked time back by `offset_s` at once.

        Returns False, having done nothing, when the driver cannot or the time would not be sane.
        """
        raw_ns = self._scheduler.raw_ns()
        cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
        change = ClockChange(raw_ns, cooked_ns, 0.0, offset_s, ChangeKind.STEP)
        if self.is_sane(cooked_ns, offset_s) and self._make_step(change):
            return True
        self._log(Severity.ERROR, "Could not step system clock")
        return False

    def resume(self, mapping: Mapping, base_frequency_ppm: float) -> None:
        """Go on where a predecessor was killed: keep cooked time what its mapping says, and its slew going.

        Call right after construction (and after temperature compensation, if there is one).
        """
        pending_s = -mapping.correction_s(self._scheduler.raw_ns())
        compensation = self._temperature_ppm
        absolute_ppm = (base_frequency_ppm + compensation) / (1.0 - PPM * compensation)
        # the area that corresponds to the rate at which the predecessor was slewing
        corr_rate = pending_s * pending_s / abs(mapping.rate) if mapping.rate != 0.0 else 0.0
        with self._changing():
            self._apply_frequency(self._clamp(absolute_ppm))
            self._correction.accrue(pending_s + self.correction_s(), corr_rate)

    def make_step(self) -> bool:
        """Step the system clock by what is still pending; cooked time stays what it is."""
        pending_s = -self.correction_s()
        if not self.step(pending_s):
            return False
        # the step has moved cooked time as well
        return self.accumulate_offset(-pending_s, 0.0)

    def leap(self, leap_s: int, *, step: bool) -> bool:
        """Follow UTC over a leap second: +1 inserts (cooked time repeats a second), −1 deletes.

        With `step` the system clock is stepped, otherwise the second is slewed at the greatest rate.
        Returns False when it could not be done. Handlers see kind LEAP: the clock and UTC move together.
        """
        raw_ns = self._scheduler.raw_ns()
        cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
        change = ClockChange(raw_ns, cooked_ns, 0.0, leap_s, ChangeKind.LEAP)
        if step:
            if self._make_step(change):
                return True
            self._log(Severity.ERROR, "Could not step system clock")
            return False
        with self._stepping():
            self._correction.accrue(leap_s, 0.0)
            self._tell(change)
        return True

    def expect_kernel_leap(self) -> None:
        """Called shortly before the kernel is to insert or delete a second."""
        self._before_leap_ns = self._read_raw_ahead_ns()

    def finish_kernel_leap(self, leap_s: int) -> bool:
        """Called after the leap: tell everybody if the kernel has made it, else return False."""
        if self._before_leap_ns is None:
            return False
        moved_s = (self._read_raw_ahead_ns() - self._before_leap_ns) / NS_PER_S
        self._before_leap_ns = None
        if abs(moved_s + leap_s) > LEAP_TOLERANCE_S:
            return False
        raw_ns = self._scheduler.raw_ns() + leap_s * NS_PER_S
        cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
        with self._changing():
            self._correction.clock_jumped(-leap_s)
            self._tell(ClockChange(raw_ns, cooked_ns, 0.0, leap_s, ChangeKind.LEAP))
        return True

    def set_temperature_compensation_ppm(self, compensation_ppm: float) -> bool:
        """Let the hardware run faster by this much, outside of what handlers are told.

        Returns False for values beyond ±10 ppm, which are ignored.
        """
        if not abs(compensation_ppm) <= TEMPCOMP_MAX_PPM:
            return False
        self._temperature_ppm = compensation_ppm
        self._apply_frequency(self._frequency_ppm)
        return True

    def check_jump(self) -> None:
        """Notice a jump of the system clock that nobody here made; run at the start of every event."""
        ahead_ns = self._read_raw_ahead_ns()
        moved_s = (ahead_ns - self._raw_ahead_ns) / NS_PER_S
        self._raw_ahead_ns = ahead_ns
        if abs(moved_s) < JUMP_MIN_S:
            return
        self.interference_count += 1
        direction = "Forward" if moved_s > 0 else "Backward"
        self._log(Severity.WARNING, f"{direction} time jump detected!")
        with self._changing():
            self._correction.clock_jumped(moved_s)
            raw_ns = self._scheduler.raw_ns()
            cooked_ns = self._correction.mapping.cooked_ns(raw_ns)
            self._tell(ClockChange(raw_ns, cooked_ns, 0.0, 0.0, ChangeKind.UNKNOWN_STEP))
            self.add_dispersion(abs(moved_s))

    def close(self) -> None:
        """Leave the clock running at its base frequency."""
        self._correction.close()

    def _make_step(self, change: ClockChange) -> bool:
        with self._stepping():
            if self._correction.step(change.doffset_s) is None:
                return False
            self._raw_ahead_ns = self._read_raw_ahead_ns()
            self._tell(change)
        return True

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Put off the observers of the mapping until the handlers have been told."""
        self._changes_open += 1
        try:
            yield
        finally:
            self._changes_open -= 1
            if self._mapping_dirty and not self._changes_open:
                self._mapping_changed()

    @contextmanager
    def _stepping(self) -> Iterator[None]:
        for observer in self._step_observers:
            observer(True)
        try:
            with self._changing():
                yield
        finally:
            for observer in self._step_observers:
                observer(False)

    def _read_raw_ahead_ns(self) -> int:
        return self._scheduler.raw_ns() - self._scheduler.monotonic_ns()

    def _mapping_changed(self) -> None:
        self._mapping_dirty = self._changes_open > 0
        if self._mapping_dirty:
            return
        for observer in self._observers:
            observer()

    def _tell(self, change: ClockChange) -> None:
        for handler in self._handlers:
            handler(change)

    def _clamp(self, frequency_ppm: float) -> float:
        return min(max(frequency_ppm, -self._max_drift_ppm), self._max_drift_ppm)

    def _to_hardware(self, frequency_ppm: float) -> float:
        compensation = self._temperature_ppm
        return frequency_ppm * (1.0 - PPM * compensation) - compensation

    def _apply_frequency(self, frequency_ppm: float) -> None:
        compensation = self._temperature_ppm
        effective_ppm = self._correction.set_frequency_ppm(self._to_hardware(frequency_ppm))
        self._frequency_ppm = (effective_ppm + compensation) / (1.0 - PPM * compensation)
