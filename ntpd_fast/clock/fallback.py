"""Long-term averages of the frequency (`fallbackdrift`), used when updates fail to come.

For each exponent of the configured range an average over about 2^n seconds is kept. When there has been no
update for 2^n seconds and that average is that old at least, the clock is set to it and considered
unsynchronised: better a good average than the last, perhaps hasty, estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ntpd_fast._record import dataclass
from ntpd_fast.config.model import FallbackDrift
from ntpd_fast.system.timers import Scheduler, TimerHandle

UPDATE_MIN_S = 1.0


@dataclass(slots=True)
class Average:
    """One average."""

    interval_s: float
    frequency_ppm: float = 0.0
    filled_s: float = 0.0

    def update(self, frequency_ppm: float, interval_s: float) -> None:
        """Account for a frequency that was kept for a while."""
        if self.filled_s < self.interval_s:
            weight_s = interval_s / 2.0
            total_s = self.filled_s + weight_s
            self.frequency_ppm = (self.frequency_ppm * self.filled_s + frequency_ppm * weight_s) / total_s
            self.filled_s = total_s
        else:
            part = 1.0 - math.exp(-interval_s / self.interval_s)
            self.frequency_ppm += part * (frequency_ppm - self.frequency_ppm)


class FallbackDrifts:
    """All averages and the timer that falls back on them."""

    def __init__(
        self, options: FallbackDrift, scheduler: Scheduler, fall_back: Callable[[float], None]
    ) -> None:
        """`fall_back` is called with the frequency (ppm) to set; the reference is lost then."""
        exponents = range(options.min_log2_s, min(options.max_log2_s, 63) + 1)
        self._averages = [Average(2.0**exponent) for exponent in exponents]
        self._scheduler = scheduler
        self._fall_back = fall_back
        self._timer: TimerHandle | None = None
        self._last_ns = scheduler.monotonic_ns()

    def update(self, frequency_ppm: float, interval_s: float) -> None:
        """An update came, `interval_s` after the one before; wait for the next."""
        if interval_s >= UPDATE_MIN_S:
            for average in self._averages:
                average.update(frequency_ppm, interval_s)
        self._last_ns = self._scheduler.monotonic_ns()
        self._wait_for(0)

    def close(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_for(self, first: int) -> None:
        self.close()
        for index in range(first, len(self._averages)):
            average = self._averages[index]
            if average.filled_s >= average.interval_s:
                elapsed_s = (self._scheduler.monotonic_ns() - self._last_ns) / 1e9
                self._timer = self._scheduler.call_later(
                    average.interval_s - elapsed_s, partial(self._timeout, index)
                )
                return

    def _timeout(self, index: int) -> None:
        self._timer = None
        self._fall_back(self._averages[index].frequency_ppm)
        self._wait_for(index + 1)
