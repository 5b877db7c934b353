"""The lines of refclocks.log: raw samples as the drivers deliver them, and what the filter makes of them."""

from __future__ import annotations

import time

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import NS_PER_S

REFCLOCKS_LOG_TITLE = "   Date (UTC) Time         Refid  DP L P  Raw offset   Cooked offset      Disp."

_LEAP_LETTERS = {Leap.NORMAL: "N", Leap.INSERT: "+", Leap.DELETE: "-", Leap.UNSYNCHRONISED: "?"}


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One sample of a driver."""

    time_ns: int
    """Cooked time of the sample, ns."""
    refid: str
    poll: int
    """Number of the driver's poll since the last filtered sample."""
    leap: Leap
    pulse: bool
    raw_offset_s: float
    offset_s: float
    """Corrected, positive: the local clock is slow."""
    dispersion_s: float

    def format(self) -> str:
        """The line, without a newline."""
        return (
            f"{_date(self.time_ns)} {self.refid:<5} {self.poll:3d} {_LEAP_LETTERS[self.leap]} {self.pulse:1d} "
            f"{self.raw_offset_s:13.6e} {self.offset_s:13.6e} {self.dispersion_s:10.3e}"
        )


@dataclass(frozen=True, slots=True)
class FilteredRecord:
    """What the filter made of the samples of one poll."""

    time_ns: int
    refid: str
    leap: Leap
    offset_s: float
    dispersion_s: float

    def format(self) -> str:
        """The line, without a newline."""
        return (
            f"{_date(self.time_ns)} {self.refid:<5}   - {_LEAP_LETTERS[self.leap]} -       -       "
            f"{self.offset_s:13.6e} {self.dispersion_s:10.3e}"
        )


def _date(time_ns: int) -> str:
    seconds, ns = divmod(time_ns, NS_PER_S)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{ns // 1000:06d}"
