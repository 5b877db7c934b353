"""What an association asks of whoever drives it: the answers of its methods, to be carried out in order."""

from __future__ import annotations

import enum
from collections.abc import Callable

from ntpd_fast._record import dataclass
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.response import PassedTests
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.stamps import StampSource
from ntpd_fast.clock.driver import Leap


class Timer(enum.Enum):
    """The timers of an association; setting one replaces it."""

    TRANSMIT = enum.auto()
    RECEIVE = enum.auto()
    """The response is not waited for any longer."""
    HOLD = enum.auto()
    """A response is not held back any longer for a better transmit timestamp."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Call the association back after a delay."""

    timer: Timer
    delay_s: float
    separation_s: float = 0.0
    """Distance to keep from other transmit timers, s."""


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Disarm a timer that may be armed."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a packet and call `Association.on_sent`; a client does so from a new socket."""

    encode: Callable[[int], bytes | None]
    """Makes the packet; takes the cooked time (ns) read as late as possible. None: it can't be made."""


@dataclass(frozen=True, slots=True)
class CloseSocket:
    """The socket of the last request is not needed any longer."""


@dataclass(frozen=True, slots=True)
class Select:
    """Run the selection."""

    updated: bool
    """The source has a new sample."""


@dataclass(frozen=True, slots=True)
class WentOffline:
    """No more requests: forget the reachability and select again."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The last 8 requests were not answered."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A response was good: the server works."""


@dataclass(frozen=True, slots=True)
class KissRate:
    """The server asks for fewer requests."""


@dataclass(frozen=True, slots=True)
class StaleSample:
    """A sample was not newer than the one before; the statistics were reset."""


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """One line of the measurements log."""

    time_ns: int
    """Cooked time of the measurement (of the reception, where there is none)."""
    address: IPAddress | None
    leap: Leap
    stratum: int
    tests: PassedTests
    local_poll: int
    remote_poll: int
    score: float
    sample: Sample | None
    """None: the packet could not be used to measure."""
    root_delay_s: float
    root_dispersion_s: float
    refid: int
    mode: int
    interleaved: bool
    tx_source: StampSource
    rx_source: StampSource

    @property
    def synced(self) -> bool:
        """Whether it belongs in the log of accepted measurements."""
        return PassedTests.SYNCED in self.tests


Action = (
    SetTimer
    | CancelTimer
    | Transmit
    | CloseSocket
    | Select
    | WentOffline
    | Unreachable
    | Confirmed
    | KissRate
    | StaleSample
    | MeasurementRecord
)
