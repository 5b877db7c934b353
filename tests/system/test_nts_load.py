"""Clients that do not go on: connections held open by the thousand, and what everybody else gets meanwhile."""

import os
import resource
import socket
import sys
import threading
import time

import pytest

from ntpd_fast.client.ntske_client import KeExchange
from tests.processes import children_of, status_of, wait_until
from tests.system.nts_daemons import SIV, answered, exchange, statistics
from tests.tls_peers import trusting

NEW_CLIENT_S = 5.0


@pytest.fixture
def many_descriptors():
    """For this process, and for daemons that are forked from it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(count):
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(before[1], count)))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class SlowClient(threading.Thread):
    """Sends its ClientHello a byte at a time."""

    def __init__(self, port, hello):
        super().__init__(daemon=True)
        self.port, self.hello = port, hello
        self.thrown_out = 0
        self.leave = threading.Event()

    def run(self):
        while not self.leave.is_set():
            with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
                try:
                    for byte in self.hello:
                        sock.sendall(bytes([byte]))
                        if self.leave.wait(0.05):
                            return
                except OSError:
                    self.thrown_out += 1


def half_open(port, hello, count):
    """Connections that are not gone on with: some bytes of a handshake, every tenth a whole ClientHello."""
    held = []
    for number in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 30)
        sock.sendall(hello if number % 10 == 0 else hello[: number % 10])
        held.append(sock)
    return held


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_half_open_connections_and_a_slow_client(make_nts_server, authority, many_descriptors, count):
    many_descriptors(count + 200)
    hello = KeExchange(trusting(authority), "127.0.0.1", [SIV], "daemon", check_times=True).start()
    daemon = make_nts_server("workers 1", "ntsprocesses 1", f"maxntsconnections {count * 6 // 5}").start()
    family = children_of(daemon.pid)
    keys = exchange(authority, daemon)
    slow = SlowClient(daemon.ke_port, hello)
    slow.start()
    held = half_open(daemon.ke_port, hello, count)
    start = time.monotonic()
    assert len(answered(daemon, exchange(authority, daemon))) == 1
    assert time.monotonic() - start < NEW_CLIENT_S
    assert len(answered(daemon, keys)) == 1
    assert daemon.ask()[1] == 7
    wait_until(lambda: slow.thrown_out >= 1, "the end of the slow client's session")
    slow.leave.set()
    slow.join()
    for sock in held:
        # the server has closed every one of them
        sock.settimeout(20)
        try:
            while sock.recv(16384):
                pass
        except ConnectionResetError:
            pass
        sock.close()
    # nothing of it is left: no process was lost, everybody is served
    assert children_of(daemon.pid) == family
    assert len(answered(daemon, exchange(authority, daemon))) == 1
    assert int(statistics(daemon)["NTS-KE connections accepted"]) >= count + 3
    assert daemon.stop() == 0


def test_the_descriptor_limit_is_raised_with_the_connections(make_nts_server, authority, tmp_path):
    """Also beyond the hard limit, which takes a right that the daemon has only at its start."""
    daemon = make_nts_server(
        "workers 1",
        "ntsprocesses 1",
        "maxntsconnections 12000",
        launcher=["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", sys.executable, "-m", "ntpd_fast.cli.start"],
    ).start()
    exchanging = children_of(daemon.pid)[-1]
    with open(f"/proc/{exchanging}/limits") as limits:
        [line] = [line for line in limits if line.startswith("Max open files")]
    may_raise = int(status_of(os.getpid(), "CapEff")[0], 16) >> 24 & 1
    if may_raise:
        assert int(line.split()[3]) >= 12000
    else:
        assert "The limit of 256 descriptors keeps NTS-KE below 12000 connections" in daemon.log_texts()
    assert len(answered(daemon, exchange(authority, daemon))) == 1
    assert daemon.stop() == 0
