"""Moments as the engine sees them: the time of an event, and the local timestamp of a packet.

Both are values. Stored ones follow the clock with `Stamp.slewed`; differences are taken in integer
nanoseconds and turned into float seconds last.
"""

from __future__ import annotations

import enum

from ntpd_fast._record import dataclass, replace
from ntpd_fast.clock.events import NS_PER_S, ClockChange


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of the clocks, taken once for an event."""

    raw_ns: int
    """System clock, ns since the Unix epoch."""
    cooked_ns: int
    """The same moment corrected, ns since the Unix epoch."""
    err_s: float
    """Bound of the error of the correction, s."""
    monotonic_ns: int
    """Monotonic clock, ns."""


class StampSource(enum.Enum):
    """Who took a timestamp; the value is the letter that logs and reports print."""

    DAEMON = "D"
    KERNEL = "K"
    HARDWARE = "H"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Local time at which a packet was sent or received."""

    cooked_ns: int
    err_s: float = 0.0
    source: StampSource = StampSource.DAEMON
    rx_duration_s: float = 0.0
    """Time the frame took on the wire, s, where a hardware stamp was moved by it."""
    net_correction_s: float = 0.0
    """Residence time that the network's devices wrote into the received packet, s."""

    def slewed(self, change: ClockChange) -> Stamp:
        """The stamp re-mapped to the changed clock."""
        return replace(self, cooked_ns=change.slewed_ns(self.cooked_ns))


def diff_s(a_ns: int, b_ns: int) -> float:
    """a − b in seconds."""
    return (a_ns - b_ns) / NS_PER_S
