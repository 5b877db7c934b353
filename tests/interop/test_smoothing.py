"""Time smoothing in the whole daemon: every worker serves the same time, which glides where the clock was moved."""

import socket
import time

from tests.daemon import Daemon, running
from tests.interop.test_upstream import wait_for
from tests.processes import wait_until
from tests.sim.refserver import HEADER, UNIX_TO_NTP_S, ntp64

TRIES = 8
WORKERS = 3
CLIENTS = 24
GLIDED_S = 0.2
AGREE_S = 0.1
"""It glides by 0.05 s a second, and all are asked within a second; a worker without the news is off by more."""

FIRST_BYTE = 0x23
REFID_SMOOTHED = 0x7F7F01FF


def served_offset_s(daemon: Daemon, client: str) -> tuple[float, int]:
    """How far the time served to a client is ahead of the system's clock, by the quickest answer, and the refid."""
    best = (float("inf"), 0.0, 0)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.bind((client, 0))
        sock.connect(("127.0.0.1", daemon.port))
        for _ in range(TRIES):
            sent_ns = time.time_ns()
            sock.send(HEADER.pack(FIRST_BYTE, 0, 0, 32, 0, 0, 0, 0, 0, 0, ntp64(sent_ns)))
            answer = HEADER.unpack(sock.recv(512))
            took_ns = time.time_ns() - sent_ns
            receive = answer[9]
            received_s = (receive >> 32) - UNIX_TO_NTP_S + (receive & 0xFFFFFFFF) / 2**32
            best = min(best, (took_ns, received_s - (sent_ns + took_ns / 2) / 1e9, answer[6]))
    assert best[0] < float("inf"), daemon.log
    return best[1:]


def test_all_workers_serve_the_same_smoothed_time() -> None:
    lines = ["manual", "smoothtime 50000 1e6", f"workers {WORKERS}"]
    with running(lines, options=("-n",)) as daemon:
        daemon.chronyc("smoothtime", "activate")
        clients = [f"127.0.0.{number}" for number in range(1, CLIENTS + 1)]
        assert all(abs(served_offset_s(daemon, client)[0]) < AGREE_S for client in clients[:3])
        # the clock is an hour slow, says the operator; without control of the clock it is corrected in the books only
        said = time.strftime("%H:%M:%S", time.gmtime(time.time() + 3600))
        daemon.chronyc("settime", said)
        wait_for(daemon, "smoothing", r"^Offset +: -3[56]\d\d\.")
        wait_until(lambda: served_offset_s(daemon, clients[0])[0] > GLIDED_S, "the served time glides")
        first_s, _ = served_offset_s(daemon, clients[0])
        found = [served_offset_s(daemon, client) for client in clients]
        assert all(abs(offset_s - first_s) < AGREE_S for offset_s, _ in found), (first_s, found)
        assert {refid for _, refid in found} == {REFID_SMOOTHED}
        # who is told to forget it serves what the clock says, an hour ahead
        daemon.chronyc("smoothtime", "reset")
        found = [served_offset_s(daemon, client) for client in clients]
        assert all(3500 < offset_s < 3700 for offset_s, _ in found), found
