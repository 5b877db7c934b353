"""What the clock tells the rest of the control plane when it is changed.

Everyone who keeps cooked (corrected) times registers a handler with `LocalClock` and re-maps the times
at each change with `slewed_ns`; handlers don't depend on each other's order.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from ntpd_fast._record import dataclass

NS_PER_S = 1_000_000_000


class ChangeKind(enum.Enum):
    """How the clock was changed."""

    ADJUST = enum.auto()
    """Frequency and offset accrued to the correction: cooked time is moved, the system clock slews."""

    STEP = enum.auto()
    """A step that we made: cooked time and system clock move by the same known amount."""

    UNKNOWN_STEP = enum.auto()
    """Somebody else set the clock (or the machine slept): every stored time is worthless."""

    LEAP = enum.auto()
    """UTC repeats (+1) or skips (−1) a second and the clock with it.

    Times kept as UTC and offsets from other clocks that follow UTC stay what they are; what relates
    this clock to one without leap seconds (a PHC, the monotonic clock) moves by `doffset_s`.
    """


@dataclass(frozen=True, slots=True)
class ClockChange:
    """One change of the clock."""

    raw_ns: int
    """System clock at the change, ns (before a step)."""
    cooked_ns: int
    """Cooked time at the change, just before it, ns."""
    dfreq: float
    """Relative change of the rate of cooked time, s/s; positive slows it down."""
    doffset_s: float
    """How far cooked time is moved back, s (positive: the clock was fast)."""
    kind: ChangeKind

    def shift_s(self, cooked_ns: int) -> float:
        """Seconds to add to a stored cooked time so that it keeps its meaning after the change."""
        if self.kind is ChangeKind.LEAP:
            return 0.0
        return (self.cooked_ns - cooked_ns) / NS_PER_S * self.dfreq - self.doffset_s

    def slewed_ns(self, cooked_ns: int) -> int:
        """A stored cooked time, re-mapped to the changed clock."""
        return cooked_ns + round(self.shift_s(cooked_ns) * NS_PER_S)


ChangeHandler = Callable[[ClockChange], None]

DispersionHandler = Callable[[float], None]
"""Called with the seconds of uncertainty that an imperfect change added to earlier measurements."""
