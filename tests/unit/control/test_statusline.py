"""The line for the service manager."""

from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.served import REFID_LOCAL, UNSYNCHRONISED, Served
from ntpd_fast.control.statusline import StatusLine


@pytest.mark.parametrize(
    ("served", "address", "text"),
    [
        (UNSYNCHRONISED, None, "Not synchronised, offset +0.000000 s, 0 requests/s"),
        (
            Served(Leap.NORMAL, 10, REFID_LOCAL, 0, 0.0, 0.0),
            None,
            "Stratum 10, local reference, offset +0.000000 s, 0 requests/s",
        ),
        (
            Served(Leap.NORMAL, 3, 0xC0000201, 0, 0.0, 0.0),
            ip_address("192.0.2.1"),
            "Stratum 3 from 192.0.2.1, offset +0.000000 s, 0 requests/s",
        ),
        (
            Served(Leap.NORMAL, 1, 0x50505330, 0, 0.0, 0.0),
            None,
            "Stratum 1 from PPS0, offset +0.000000 s, 0 requests/s",
        ),
    ],
)
def test_text(served, address, text):
    assert make(served, address)[0].text() == text


def test_rate_is_that_since_the_last_line():
    line, state = make(UNSYNCHRONISED, None)
    state.now_ns, state.hits = 10_000_000_000, 15_000
    assert line.text().endswith(" 1500 requests/s")
    state.now_ns, state.hits = 20_000_000_000, 15_010
    assert line.text().endswith(" 1 requests/s")
    # asked twice at the same moment
    assert line.text().endswith(" 0 requests/s")


def make(served, address):
    state = SimpleNamespace(now_ns=0, hits=0)
    clockwork = SimpleNamespace(
        scheduler=SimpleNamespace(monotonic_ns=lambda: state.now_ns),
        clock=SimpleNamespace(correction_s=lambda: 0.0),
        reference=SimpleNamespace(tracking=lambda: SimpleNamespace(served=served, address=address)),
    )
    return StatusLine(SimpleNamespace(counters=lambda: {"ntp_hits": state.hits}), clockwork), state
