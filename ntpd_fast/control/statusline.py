"""One line about the daemon for the service manager: what the time comes from, how good it is, how much is served."""

from __future__ import annotations

from typing import Final

from ntpd_fast.clock.served import REFID_LOCAL, Served
from ntpd_fast.clock.trackinglog import refid_text
from ntpd_fast.control.clockwork import Clockwork
from ntpd_fast.server.shared import Shared

STATUS_INTERVAL_S: Final = 10.0
_NS_PER_S: Final = 1_000_000_000


class StatusLine:
    """`text` gives the line for now; rates are those since it was last asked."""

    def __init__(self, shared: Shared, clockwork: Clockwork) -> None:
        self._shared = shared
        self._clockwork = clockwork
        self._requests = 0
        self._since_ns = clockwork.scheduler.monotonic_ns()

    def text(self) -> str:
        """For example `Stratum 3 from 192.0.2.1, offset +0.000012 s, 1500 requests/s`."""
        clock, reference = self._clockwork.clock, self._clockwork.reference
        report = reference.tracking()
        name = str(report.address) if report.address is not None else refid_text(report.served.refid)
        return f"{_source(report.served, name)}, offset {clock.correction_s():+.6f} s, {self._rate()} requests/s"

    def _rate(self) -> int:
        now_ns = self._clockwork.scheduler.monotonic_ns()
        requests = self._shared.counters()["ntp_hits"]
        elapsed_s = (now_ns - self._since_ns) / _NS_PER_S
        rate = round((requests - self._requests) / elapsed_s) if elapsed_s > 0 else 0
        self._requests, self._since_ns = requests, now_ns
        return rate


def _source(served: Served, name: str) -> str:
    if not served.synchronised:
        return "Not synchronised"
    if served.refid == REFID_LOCAL:
        return f"Stratum {served.stratum}, local reference"
    return f"Stratum {served.stratum} from {name}"
