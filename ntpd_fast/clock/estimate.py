"""What the reference is updated with: an estimate of the clock's error, and where it comes from.

The measuring side has types of its own; these protocols say what of them is used, the classes are for
estimates made here (manual input) and for tests.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap


class ClockEstimate(Protocol):
    """The clock's error at a moment."""

    @property
    def ref_time_ns(self) -> int:
        """Cooked time at which the offset holds, ns."""

    @property
    def offset_s(self) -> float:
        """Positive: the clock is fast."""

    @property
    def offset_sd_s(self) -> float:
        """Standard deviation of the offset."""

    @property
    def frequency(self) -> float:
        """s/s; positive: the clock gains."""

    @property
    def frequency_sd(self) -> float:
        """Standard deviation of the frequency, s/s."""

    @property
    def skew(self) -> float:
        """Error bound of the frequency, s/s."""

    @property
    def root_delay_s(self) -> float:
        """Delay to the primary reference."""

    @property
    def root_dispersion_s(self) -> float:
        """Dispersion accumulated on the way."""

    @property
    def span_s(self) -> float:
        """Time over which the estimate was measured, s; 0: at one moment."""


class ReferenceUpdate(Protocol):
    """An estimate and its origin."""

    @property
    def tracking(self) -> ClockEstimate:
        """The combined estimate."""

    @property
    def stratum(self) -> int:
        """Of the selected source; ours will be one more."""

    @property
    def leap(self) -> Leap:
        """The sources' vote; UNSYNCHRONISED marks manual input."""

    @property
    def refid(self) -> int:
        """32 bits."""

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """None for a reference clock and manual input."""

    @property
    def combined(self) -> int:
        """Sources in the estimate."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A `ClockEstimate`."""

    ref_time_ns: int
    offset_s: float
    frequency: float = 0.0
    offset_sd_s: float = 0.0
    frequency_sd: float = 0.0
    skew: float = 0.0
    root_delay_s: float = 0.0
    root_dispersion_s: float = 0.0
    span_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Update:
    """A `ReferenceUpdate`."""

    tracking: Estimate
    stratum: int = 0
    leap: Leap = Leap.NORMAL
    refid: int = 0
    address: IPv4Address | IPv6Address | None = None
    combined: int = 1
