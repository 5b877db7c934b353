"""The `ntpdata` report of an association: its counters and its last valid response."""

from __future__ import annotations

from ntpd_fast._record import dataclass
from ntpd_fast.client.packet import Header, IPAddress
from ntpd_fast.client.response import PassedTests
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.stamps import StampSource


@dataclass(slots=True)
class PacketCounts:
    """Packets of an association since it was made."""

    tx: int = 0
    rx: int = 0
    """Everything that came from the server, also what was dropped."""
    valid: int = 0
    """Responses that passed tests 1–3 and 5–7."""
    good: int = 0
    """Responses that passed all tests."""
    kernel_tx: int = 0
    kernel_rx: int = 0
    hardware_tx: int = 0
    hardware_rx: int = 0

    def count_stamps(self, tx: StampSource, rx: StampSource) -> None:
        """Count who took the timestamps of a valid response and its request."""
        self.kernel_tx += tx is StampSource.KERNEL
        self.hardware_tx += tx is StampSource.HARDWARE
        self.kernel_rx += rx is StampSource.KERNEL
        self.hardware_rx += rx is StampSource.HARDWARE


@dataclass(frozen=True, slots=True)
class LastResponse:
    """The last valid response."""

    header: Header
    root_delay_s: float
    root_dispersion_s: float
    """As measured with: finer than those of the header where field F323 is in use."""
    tests: PassedTests
    interleaved: bool
    authenticated: bool
    sample: Sample | None
    """None: the packet could not be used to measure."""
    response_time_s: float
    tx_source: StampSource
    rx_source: StampSource


@dataclass(frozen=True, slots=True)
class NtpReport:
    """An `ntpdata` report."""

    last: LastResponse | None
    """None before the first valid response."""
    local_address: IPAddress | None
    counts: PacketCounts
