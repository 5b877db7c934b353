"""The lines of rtc.log: one for each measurement of the real-time clock."""

from __future__ import annotations

import time

from ntpd_fast._record import dataclass
from ntpd_fast.clock.events import NS_PER_S

RTC_LOG_TITLE = "   Date (UTC) Time   RTC fast (s) Val   Est fast (s)   Slope (ppm)  Ns  Nr Meas"


@dataclass(frozen=True, slots=True)
class RtcRecord:
    """One line."""

    time_ns: int
    """Cooked time of the measurement, ns."""
    fast_s: float
    """How far the RTC was ahead."""
    valid: bool
    """A line could be fitted; else the next three are not to be used."""
    estimate_s: float
    slope_ppm: float
    n_samples: int
    n_runs: int
    interval_s: int
    """From one measurement to the next."""

    def format(self) -> str:
        """The line, without a newline."""
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.time_ns // NS_PER_S))
        return (
            f"{date} {self.fast_s:14.6f} {self.valid:1d}  {self.estimate_s:14.6f}  {self.slope_ppm:12.3f}  "
            f"{self.n_samples:2d}  {self.n_runs:2d} {self.interval_s:4d}"
        )
