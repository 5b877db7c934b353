"""Gradual correction: how cooked (corrected) time is made from raw (system) time.

Both corrections keep one linear mapping, cooked = raw + rate·(raw − start) − offset, and tell an observer
when it changes:

- `SlewEngine` steers a real clock: a pending offset is removed by running the clock at another
  frequency for a while, so that `offset` shrinks at `rate` (sync-engine §8.2);
- `VirtualCorrection` (the daemon's `-x`) leaves the clock alone; frequency and offset take effect at
  once, in cooked time only.

Rules: cooked time is continuous over every command (a step excepted); the driver's rounding of a
frequency is read back and becomes part of the mapping, never an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import ClockDriver
from ntpd_fast.system.timers import Scheduler, TimerHandle

NS_PER_S = 1_000_000_000
PPM = 1e-6

MAX_SLEW_RATE_PPM = 250_000.0 / 3.0
"""1/12: correcting a second takes 12; leaves room for the base frequency below the kernel's 10 %."""

SLEW_MIN_S = 1.0
SLEW_MAX_S = 1e4
SMALLEST_OFFSET_S = 1e-9
SMALLEST_DISPERSION_S = 1e-9

EXCESS_DECAY = 0.9
EXCESS_FLOOR_S = 1e-9
EXCESS_MAX_S = 100.0
EXCESS_RATIO = 5.0

REBASE_INTERVAL_S = 1000.0


@dataclass(frozen=True, slots=True)
class Mapping:
    """cooked = raw + rate·(raw − raw_ns) − offset_s."""

    raw_ns: int
    """Start of the mapping on the system clock, ns."""
    rate: float
    """s/s."""
    offset_s: float
    """Correction still pending at the start, s; positive: the clock is fast."""

    def correction_s(self, raw_ns: int) -> float:
        """Seconds to add to a raw time."""
        return (raw_ns - self.raw_ns) / NS_PER_S * self.rate - self.offset_s

    def cooked_ns(self, raw_ns: int) -> int:
        """The corrected time of a raw time."""
        return raw_ns + round(self.correction_s(raw_ns) * NS_PER_S)


class Correction(Protocol):
    """What `LocalClock` asks of a correction."""

    @property
    def mapping(self) -> Mapping:
        """The mapping now in effect."""

    def error_s(self, raw_ns: int) -> float:
        """Bound of the error of the mapping at a raw time, s."""

    def set_frequency_ppm(self, frequency_ppm: float) -> float:
        """Compensate a clock that is fast by this much; returns what took effect (rounded, clamped)."""

    def accrue(self, offset_s: float, corr_rate: float, min_duration_s: float = 0.0) -> None:
        """Add to the pending offset; `corr_rate` is the wanted area under the curve of |offset|, s².

        It is removed in no less than `min_duration_s`.
        """

    def step(self, offset_s: float) -> float | None:
        """Move the system clock back; returns the bound of the error, None if it could not be done."""

    def clock_jumped(self, step_s: float) -> None:
        """The system clock was moved forward by `step_s` by somebody else."""

    def close(self) -> None:
        """Stop correcting and leave the clock running at its base frequency."""


class SlewEngine:
    """Removes a pending offset by running a steerable clock at another frequency."""

    def __init__(
        self,
        driver: ClockDriver,
        scheduler: Scheduler,
        *,
        max_slew_rate_ppm: float = MAX_SLEW_RATE_PPM,
        on_change: Callable[[], None],
        on_dispersion: Callable[[float], None],
    ) -> None:
        self._driver = driver
        self._scheduler = scheduler
        self._limits = driver.limits
        self.set_max_slew_rate_ppm(max_slew_rate_ppm)
        self._on_change = on_change
        self._on_dispersion = on_dispersion
        self._base_ppm = driver.read_frequency_ppm()
        self._mapping = Mapping(scheduler.raw_ns(), 0.0, 0.0)
        self._change_error_s = 0.0
        self._corr_rate = 0.0
        self._min_duration_s = SLEW_MIN_S
        self._scheduled_s = SLEW_MAX_S
        self._excess_s = 0.0
        self._timer: TimerHandle | None = None
        self._closed = False

    def set_max_slew_rate_ppm(self, max_slew_rate_ppm: float) -> None:
        """Slew no faster than this from the next change on."""
        self._max_slew_rate = min(max(max_slew_rate_ppm, 0.0), MAX_SLEW_RATE_PPM) * PPM

    @property
    def mapping(self) -> Mapping:
        """The mapping now in effect."""
        return self._mapping

    def error_s(self, raw_ns: int) -> float:
        """Bound of the error at a raw time: only a frequency change under way leaves any."""
        since_s = abs(raw_ns - self._mapping.raw_ns) / NS_PER_S
        return self._change_error_s if since_s <= self._limits.frequency_change_delay_s else 0.0

    def set_frequency_ppm(self, frequency_ppm: float) -> float:
        """Change the base frequency; the slew in progress continues on top of it."""
        limit = self._limits.max_frequency_ppm
        self._base_ppm = min(max(frequency_ppm, -limit), limit)
        self._slew()
        return self._base_ppm

    def accrue(self, offset_s: float, corr_rate: float, min_duration_s: float = 0.0) -> None:
        """Add to the pending offset and choose the slew anew."""
        self._min_duration_s = max(min_duration_s, SLEW_MIN_S)
        mapping = self._mapping
        self._mapping = Mapping(mapping.raw_ns, mapping.rate, mapping.offset_s + offset_s)
        self._corr_rate = corr_rate
        self._slew()

    def step(self, offset_s: float) -> float | None:
        """Step the system clock; the pending offset stays pending."""
        error_s = self._driver.step(offset_s)
        if error_s is not None:
            self.clock_jumped(-offset_s)
            if abs(error_s) > 0.0:
                self._on_dispersion(abs(error_s))
        return error_s

    def clock_jumped(self, step_s: float) -> None:
        """Move the start of the mapping with the clock, so that the jump is not taken for slewed time."""
        mapping = self._mapping
        raw_ns = mapping.raw_ns + round(step_s * NS_PER_S)
        self._mapping = Mapping(raw_ns, mapping.rate, mapping.offset_s)
        self._on_change()

    def close(self) -> None:
        """Stop slewing: the clock keeps its base frequency, the pending offset stays."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_ns = self._scheduler.raw_ns()
        pending_s = -self._mapping.correction_s(now_ns)
        self._driver.set_frequency_ppm(self._base_ppm)
        self._mapping = Mapping(now_ns, 0.0, pending_s)
        self._on_change()

    def _slew(self) -> None:
        """Bring the state up to now, then choose frequency and duration of the next stretch."""
        if self._closed:
            return
        now_ns = self._scheduler.raw_ns()
        old = self._mapping
        elapsed_s = (now_ns - old.raw_ns) / NS_PER_S
        pending_s = old.offset_s - old.rate * elapsed_s

        # A timer that came late has let the offset overshoot: slew so slowly that the same
        # lateness cannot do harm again, and forget it over the next stretches.
        self._excess_s = (self._excess_s + EXCESS_FLOOR_S) * EXCESS_DECAY
        late_s = elapsed_s - self._scheduled_s
        if self._excess_s < late_s <= EXCESS_MAX_S:
            self._excess_s = late_s

        magnitude_s = abs(pending_s)
        if magnitude_s < SMALLEST_OFFSET_S:
            duration_s = SLEW_MAX_S
        else:
            duration_s = max(self._corr_rate / magnitude_s, self._min_duration_s, EXCESS_RATIO * self._excess_s)
        slew = min(max(pending_s / duration_s, -self._max_slew_rate), self._max_slew_rate)

        limit = self._limits.max_frequency_ppm
        total_ppm = min(max(self._base_ppm + slew * (1e6 - self._base_ppm), -limit), limit)
        total_ppm = self._driver.set_frequency_ppm(total_ppm)
        rate = (total_ppm - self._base_ppm) / (1e6 - total_ppm)

        self._change_error_s = abs(old.rate - rate) * self._limits.frequency_change_delay_s
        self._mapping = Mapping(now_ns, rate, pending_s)

        if magnitude_s < SMALLEST_OFFSET_S or pending_s * rate <= 0.0:
            self._scheduled_s = SLEW_MAX_S
        else:
            self._scheduled_s = min(max(pending_s / rate, SLEW_MIN_S), SLEW_MAX_S)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._scheduler.call_later(self._scheduled_s, self._timeout)
        if self._change_error_s >= SMALLEST_DISPERSION_S:
            self._on_dispersion(self._change_error_s)
        self._on_change()

    def _timeout(self) -> None:
        self._timer = None
        self._slew()


class VirtualCorrection:
    """Corrections in cooked time only: the system clock belongs to somebody else."""

    def __init__(
        self, driver: ClockDriver, scheduler: Scheduler, *, on_change: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._scheduler = scheduler
        self._on_change = on_change
        self._mapping = Mapping(scheduler.raw_ns(), 0.0, 0.0)
        # a rounding error of the rate must not grow with the age of the mapping
        self._timer: TimerHandle = scheduler.call_later(REBASE_INTERVAL_S, self._timeout)

    @property
    def mapping(self) -> Mapping:
        """The mapping now in effect."""
        return self._mapping

    def error_s(self, raw_ns: int) -> float:
        """Always exact."""
        return 0.0

    def set_frequency_ppm(self, frequency_ppm: float) -> float:
        """Change the rate of cooked time."""
        effective_ppm = self._driver.set_frequency_ppm(frequency_ppm)
        self._rebase(-PPM * effective_ppm, 0.0)
        return effective_ppm

    def accrue(self, offset_s: float, corr_rate: float, min_duration_s: float = 0.0) -> None:
        """Move cooked time back at once."""
        self._rebase(self._mapping.rate, offset_s)

    def step(self, offset_s: float) -> float | None:
        """Not possible."""
        return self._driver.step(offset_s)

    def clock_jumped(self, step_s: float) -> None:
        """Move the start of the mapping with the clock."""
        mapping = self._mapping
        raw_ns = mapping.raw_ns + round(step_s * NS_PER_S)
        self._mapping = Mapping(raw_ns, mapping.rate, mapping.offset_s)
        self._on_change()

    def close(self) -> None:
        """Stop; nothing has to be left behind."""
        self._timer.cancel()

    def _rebase(self, rate: float, offset_s: float) -> None:
        now_ns = self._scheduler.raw_ns()
        pending_s = -self._mapping.correction_s(now_ns) + offset_s
        self._mapping = Mapping(now_ns, rate, pending_s)
        self._on_change()

    def _timeout(self) -> None:
        self._timer = self._scheduler.call_later(REBASE_INTERVAL_S, self._timeout)
        self._rebase(self._mapping.rate, 0.0)
