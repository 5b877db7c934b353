"""NTP over PTP between two daemons of ours: the same port on two loopback addresses.

The installed chronyd (4.3) speaks an earlier, experimental form that the newest one has given up and is no peer here;
the bytes are held against recorded ones of the form of today.
"""

import pytest

from tests.daemon import free_port, running
from tests.interop.test_upstream import field, wait_for


@pytest.mark.parametrize("workers", [0, 1])
def test_a_client_follows_a_server_over_ptp(workers: int) -> None:
    port = free_port()
    options = ("-n",) if workers else ("-d",)
    server = [f"ptpport {port}", "bindaddress 127.0.0.2", f"workers {workers}"]
    ours = [
        f"ptpport {port}", "bindaddress 127.0.0.1", f"workers {workers}",
        f"server 127.0.0.2 port {port} iburst minpoll 0 maxpoll 0 xleave extfield F324",
    ]  # fmt: skip
    with running(server, options=options) as upstream, running(ours, options=options, local=False) as daemon:
        wait_for(daemon, "tracking", r"^Stratum +: 11$", 30.0)
        report = wait_for(daemon, "ntpdata", r"NTP tests +: 111 111 1111")
        report = wait_for(daemon, "ntpdata", r"Interleaved +: Yes")
        assert field(report, "Remote port") == str(port)
        assert field(report, "Local address").startswith("127.0.0.1")
        wait_for(upstream, "serverstats", r"Interleaved NTP packets +: [1-9]")
