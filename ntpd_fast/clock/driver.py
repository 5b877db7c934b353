"""The interface between the clock discipline and a clock that can (or cannot) be steered.

A driver turns frequency, step, leap and status requests into system calls and back into what was
really set; it knows nothing of sources or correction strategy. Frequencies are in ppm in the sense
"the clock runs fast by this much when it is not compensated" (positive = fast).
"""

from __future__ import annotations

import enum
from typing import Protocol

from ntpd_fast._record import dataclass


class Leap(enum.IntEnum):
    """The NTP leap indicator (RFC 5905, figure 9)."""

    NORMAL = 0
    INSERT = 1
    DELETE = 2
    UNSYNCHRONISED = 3


@dataclass(frozen=True, slots=True)
class DriverLimits:
    """What a driver can do."""

    max_frequency_ppm: float
    """Largest frequency that can be set, ppm."""
    frequency_change_delay_s: float
    """Longest time between a request for a frequency and the clock running at it, s."""


class ClockDriver(Protocol):
    """A clock that can be steered by its frequency and stepped."""

    @property
    def limits(self) -> DriverLimits:
        """What the clock can do."""

    @property
    def controls_clock(self) -> bool:
        """False for the null driver (`-x`): corrections exist only in cooked time."""

    @property
    def handles_leap(self) -> bool:
        """Whether `set_leap` makes the system clock insert or delete leap seconds by itself."""

    def read_frequency_ppm(self) -> float:
        """The compensated frequency now in effect, ppm."""

    def set_frequency_ppm(self, frequency_ppm: float) -> float:
        """Compensate a clock that is fast by `frequency_ppm`; returns what was really set (rounded)."""

    def step(self, offset_s: float) -> float | None:
        """Move the clock back by `offset_s` at once.

        Returns the bound of the error of the step in seconds, or None when it cannot be done.
        """

    def set_leap(self, leap: Leap, tai_offset_s: int | None) -> None:
        """Arm the kernel's leap second (INSERT, DELETE) or disarm it, and tell TAI − UTC when known."""

    def set_sync_status(self, synchronised: bool, est_error_s: float, max_error_s: float) -> None:
        """Tell the kernel how good its time is (other programs and the RTC follow that)."""
