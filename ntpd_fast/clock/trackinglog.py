"""The lines of tracking.log: one for each update of the reference and each loss of it."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap

NS_PER_S = 1_000_000_000

TRACKING_LOG_TITLE = (
    "   Date (UTC) Time     IP Address   St   Freq ppm   Skew ppm     Offset L Co  "
    "Offset sd Rem. corr. Root delay Root disp. Max. error"
)

LEAP_LETTERS = {Leap.NORMAL: "N", Leap.INSERT: "+", Leap.DELETE: "-", Leap.UNSYNCHRONISED: "?"}


@dataclass(frozen=True, slots=True)
class TrackingRecord:
    """One line."""

    time_ns: int
    refid: int
    address: IPv4Address | IPv6Address | None
    synchronised: bool
    stratum: int
    """Ours; 0 when unsynchronised."""
    frequency_ppm: float
    skew_ppm: float
    offset_s: float
    """Positive: fast."""
    leap: Leap
    combined: int
    offset_sd_s: float
    correction_s: float
    """What was still to be corrected before this update; positive: the system clock was slow."""
    root_delay_s: float
    root_dispersion_s: float
    max_error_s: float

    @property
    def reference(self) -> str:
        """The address, the text of a refclock's ID, or 0.0.0.0."""
        if self.address is not None:
            return str(self.address)
        if self.refid == 0:
            return "0.0.0.0"
        return refid_text(self.refid)

    def format(self) -> str:
        """The line, without a newline."""
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.time_ns // NS_PER_S))
        return (
            f"{date} {self.reference:<15} {self.stratum:2d} {self.frequency_ppm:10.3f} "
            f"{self.skew_ppm:10.3f} {self.offset_s:10.3e} {LEAP_LETTERS[self.leap]} {self.combined:2d} "
            f"{self.offset_sd_s:10.3e} {self.correction_s:10.3e} {self.root_delay_s:10.3e} "
            f"{self.root_dispersion_s:10.3e} {self.max_error_s:10.3e}"
        )


def refid_text(refid: int) -> str:
    """The printable characters of a reference ID."""
    return "".join(chr(byte) for byte in refid.to_bytes(4, "big") if 32 <= byte < 127)
