"""The engine on real sockets: what goes out, from where, with which stamps, and what it may never do per packet."""

import ipaddress
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ntpd_fast
from ntpd_fast._region import serving_table
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.engine import Engine
from ntpd_fast.server.shared import ReferencePage, Shared, SharedPlan

SO_TIMESTAMPING = 37
RX_SOFTWARE, SOFTWARE, OPT_ID, OPT_TSONLY = 1 << 3, 1 << 4, 1 << 7, 1 << 11
IP_PKTINFO = 8
REQUEST = bytes([0x23, 0, 6, 32]) + bytes(36) + bytes(range(1, 9))
NTP_UNIX = 2208988800


def page(**changes: Any) -> ReferencePage:
    now = time.time_ns()
    local = ReferencePage(
        local=True, local_activated=True, precision=-25, local_ref_time_ns=now, map_raw_ns=now, unsync_since_ns=now
    )
    return replace(local, **changes)


class Server:
    """An engine on ephemeral loopback ports, driven by the test itself."""

    def __init__(
        self, *addresses: str, stale_s: float = 0.25, rx_stamps: bool = True, tx_mode: str = "counter", log: bool = True
    ) -> None:
        self.shared = Shared.create(SharedPlan(1, log_blocks=16 if log else 0, map_pairs=256 if log else 0))
        rules = AccessTable()
        rules.set(ipaddress.ip_network("127.0.0.0/8"), True)
        rules.set(ipaddress.ip_network("::1"), True)
        self.shared.write_table("access", rules.compile())
        self.shared.publish_reference(page())
        self.sockets = []
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind((address, 0))
            sock.setblocking(False)
            if rx_stamps:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)
            self.sockets.append(sock)
        self.mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.mine.setblocking(False)
        theirs.setblocking(False)
        self.theirs = theirs
        self.engine = Engine(self.sockets, self.shared, 0, stale_s=stale_s, tx_mode=tx_mode, channel=theirs.fileno())
        self.engine.start()

    @property
    def ports(self) -> list[int]:
        return [sock.getsockname()[1] for sock in self.sockets]

    def counter(self, name: str) -> int:
        return self.shared.counters()[name]

    def close(self) -> None:
        self.engine.detach()
        for sock in [*self.sockets, self.mine, self.theirs]:
            sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server("127.0.0.1", "::1")
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def kernel_stamps() -> Iterator[None]:
    """The kernel begins to stamp some time after the first socket asked for it, and stops with the last: keep one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)
        deadline = time.monotonic() + 10
        stamped = False
        while not stamped:
            assert time.monotonic() < deadline, "no kernel receive stamps"
            sock.sendto(b"?", sock.getsockname())
            stamped = bool(sock.recvmsg(10, 200)[1])
        yield


def client(address: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.settimeout(1)
    return sock


def stamp_ns(packet: bytes, offset: int) -> int:
    seconds, fraction = struct.unpack_from("!II", packet, offset)
    return (seconds - NTP_UNIX) * 10**9 + (fraction * 10**9 >> 32)


@pytest.mark.parametrize(("index", "address"), [(0, "127.0.0.1"), (1, "::1")])
def test_an_answer_lies_between_sending_and_receiving(server: Server, index: int, address: str) -> None:
    with client(address) as sock:
        before = time.time_ns()
        sock.sendto(REQUEST, (address, server.ports[index]))
        server.engine.serve(0.1)
        answer, sender = sock.recvfrom(2000)
        after = time.time_ns()
    assert sender[:2] == (address, server.ports[index])
    assert answer[24:32] == REQUEST[40:48]
    assert before - 100 <= stamp_ns(answer, 32) <= stamp_ns(answer, 40) <= after + 20_000
    assert server.counter("ntp_kernel_rx_timestamps") == 1
    assert server.counter("ntp_hits") == 1
    assert server.shared.outcomes()[0] == 1


def test_the_receive_stamp_is_the_kernels_not_the_wakeups(server: Server) -> None:
    with client() as sock:
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        sent = time.time_ns()
        time.sleep(0.05)
        server.engine.serve(0.1)
        answer = sock.recv(2000)
    assert stamp_ns(answer, 32) <= sent + 10**6
    assert stamp_ns(answer, 40) >= sent + 45 * 10**6


def test_without_kernel_stamps_the_daemons_clock_serves() -> None:
    server = Server("127.0.0.1", rx_stamps=False, tx_mode="none")
    with client() as sock:
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.1)
        assert len(sock.recv(2000)) == 48
    assert server.counter("ntp_daemon_rx_timestamps") == 1
    server.close()


def test_a_wildcard_socket_answers_from_the_address_that_was_asked() -> None:
    server = Server("0.0.0.0")
    with client() as sock:
        for last in (1, 2, 77):
            sock.sendto(REQUEST, (f"127.0.0.{last}", server.ports[0]))
            server.engine.serve(0.1)
            assert sock.recvfrom(2000)[1] == (f"127.0.0.{last}", server.ports[0])
    server.close()


def test_a_full_queue_is_answered_in_turns(server: Server) -> None:
    with client() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for _ in range(100):
            sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.05)
        stamps = [stamp_ns(sock.recv(2000), 40) for _ in range(100)]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == 100
    assert server.counter("batches") >= 2


@pytest.mark.parametrize("waited_s", [0.05, 1.1])
def test_a_request_that_waited_too_long_is_dropped_and_counted(waited_s: float) -> None:
    server = Server("127.0.0.1", stale_s=0.02)
    with client() as sock:
        sock.settimeout(0.1)
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        time.sleep(waited_s)
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.05)
        sock.recv(2000)
        with pytest.raises(TimeoutError):
            sock.recv(2000)
    assert server.shared.outcomes()[9] == 1
    server.close()


def test_what_found_no_room_in_the_receive_buffer_is_counted(server: Server) -> None:
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with client() as sock:
        for _ in range(500):
            sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
    server.engine.serve(0.02)
    server.engine.beat(time.monotonic_ns())
    assert server.counter("kernel_drops") > 400
    assert server.counter("kernel_drops") + server.shared.outcomes()[0] == 500


def test_nothing_is_taken_while_the_clock_is_stepped(server: Server) -> None:
    server.shared.publish_reference(page(stepping=True))
    with client() as sock:
        sock.settimeout(0.05)
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(2000)
        # The kernel's stamp of the waiting request is from before the step: the daemon's own clock serves it.
        server.shared.publish_reference(page(step_count=1))
        server.engine.serve(0.05)
        assert len(sock.recv(2000)) == 48
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.05)
        assert len(sock.recv(2000)) == 48
    assert server.counter("ntp_daemon_rx_timestamps") == 1
    assert server.counter("ntp_kernel_rx_timestamps") == 1


def test_cooked_time_is_served(server: Server) -> None:
    now = time.time_ns()
    server.shared.publish_reference(page(map_raw_ns=now, map_freq=0.0, map_offset_s=-0.5))
    with client() as sock:
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.05)
        answer = sock.recv(2000)
    for offset in (32, 40):
        assert abs(stamp_ns(answer, offset) - now - 500_000_000) < 50_000_000


def test_an_adjustment_in_the_middle_of_a_batch_moves_no_stamp_against_another() -> None:
    """Cooked time jumps by 0.9 s back and forth, thousands of times a second; what is one answer's is of one clock."""
    server = Server("127.0.0.1", stale_s=10.0)
    done = threading.Event()

    def adjust() -> None:
        number = 0
        while not done.is_set():
            number += 1
            put_back = number & 1
            server.shared.publish_reference(
                page(map_offset_s=0.9 * put_back, slew_last_s=0.9 if put_back else -0.9, slew_epoch=number & 0xFFFF)
            )
            time.sleep(20e-6)

    control = threading.Thread(target=adjust)
    control.start()
    requests, received = [REQUEST] * 64, [0] * 64
    interleaved_answers = 0
    calm = True
    try:
        with client() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            for turn in range(1, 300):
                began, differences = time.monotonic(), []
                for request in requests:
                    sock.sendto(request, ("127.0.0.1", server.ports[0]))
                server.engine.run_ready()
                for index, request in enumerate(requests):
                    answer = sock.recv(2000)
                    of_before = answer[24:32] == request[32:40]
                    since = received[index] if of_before else stamp_ns(answer, 32)
                    differences.append(stamp_ns(answer, 40) - since)
                    interleaved_answers += of_before
                    received[index] = stamp_ns(answer, 32)
                    requests[index] = interleaved(answer, turn * 64 + index)
                # a machine that stood still says nothing, neither of these answers nor of those before
                calm_before, calm = calm, time.monotonic() - began < 0.3
                assert not (calm and calm_before) or -0.4e9 < min(differences) <= max(differences) < 0.5e9, turn
    finally:
        done.set()
        control.join()
    assert interleaved_answers > 64 * 100
    server.close()


def test_new_access_rules_reach_a_running_engine(server: Server) -> None:
    with client() as sock:
        sock.settimeout(0.05)
        server.shared.write_table("access", AccessTable().compile())
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.02)
        with pytest.raises(TimeoutError):
            sock.recv(2000)
    assert server.shared.worker(0).used_version("access") == 2
    assert server.shared.outcomes()[4] == 1


def test_a_damaged_access_table_answers_nobody(server: Server) -> None:
    server.shared.write_table("access", b"\xff" * 4096)
    assert not server.engine.core.refresh()
    with client() as sock:
        sock.settimeout(0.05)
        sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.02)
        with pytest.raises(TimeoutError):
            sock.recv(2000)


@pytest.mark.parametrize("size", [0, 1, 47, 1141, 1152, 1153, 9000])
def test_datagrams_of_odd_sizes_are_counted_and_dropped(server: Server, size: int) -> None:
    with client() as sock:
        sock.sendto(bytes(size), ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.02)
    assert server.shared.outcomes()[1] == 1


def test_what_is_queued_survives_a_change_of_engines(server: Server) -> None:
    with client() as sock:
        server.engine.detach()
        for _ in range(50):
            sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine = Engine(server.sockets, server.shared, 0)
        server.engine.start(drain=True)
        server.engine.serve(0.05)
        for _ in range(50):
            assert len(sock.recv(2000)) == 48


def test_a_million_packets_leave_the_count_of_allocated_blocks_where_it_was(server: Server) -> None:
    """Most of them are garbage and answers nobody reads: every path of the packet core, none of them makes objects."""
    packets = [REQUEST, bytes([0x1B]) + REQUEST[1:], bytes(47), REQUEST + bytes(20), bytes([0x24]) + REQUEST[1:]]
    with client() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        sock.connect(("127.0.0.1", server.ports[0]))
        burst = packets * 40

        def round_trip() -> int:
            for packet in burst:
                sock.send(packet)
            before = sys.getallocatedblocks()
            server.engine.run_ready()
            server.engine.run_ready()
            return sys.getallocatedblocks() - before

        round_trip()
        start = sys.getallocatedblocks()
        grown = [round_trip() for _ in range(5000)]
    assert max(grown) <= 4  # the list of ready descriptors that comes back
    assert sys.getallocatedblocks() - start < len(grown) * 2 + 200  # what the test itself keeps: the numbers
    handled = sum(server.shared.outcomes())
    assert handled >= 990_000


def exchange(server: Server, sock: socket.socket, request: bytes) -> bytes:
    sock.sendto(request, ("127.0.0.1", server.ports[0]))
    server.engine.serve(0.02)
    return sock.recv(2000)


def interleaved(previous: bytes, nonce: int) -> bytes:
    """The next request of a client that follows the server's stamps."""
    return REQUEST[:24] + previous[32:40] + struct.pack("!QQ", nonce << 8, nonce << 8 | 1)


@pytest.mark.parametrize("tx_mode", ["ids", "counter"])
def test_an_interleaved_client_gets_the_kernels_stamp_of_the_answer_before(tx_mode: str) -> None:
    server = Server("127.0.0.1", tx_mode=tx_mode)
    with client() as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)
        answer = exchange(server, sock, REQUEST)
        answer = exchange(server, sock, interleaved(answer, 1))  # basic still, but its stamps are saved
        for nonce in range(2, 30):
            received = stamp_ns(answer, 32)
            answer = exchange(server, sock, interleaved(answer, nonce))
            assert answer[24:32] == struct.pack("!Q", nonce << 8)  # the client's receive stamp: interleaved
            assert 0 < stamp_ns(answer, 40) - received < 5_000_000  # when the answer before was sent
            assert stamp_ns(answer, 40) < stamp_ns(answer, 32)  # sent before this request came
    assert server.engine.sockets[0].tx_mode == tx_mode
    assert server.counter("ntp_interleaved_hits") == 28
    assert server.counter("ntp_kernel_tx_timestamps") == 28
    assert server.counter("tx_stamps_read") >= 29
    assert server.counter("tx_stamps_unmatched") == server.counter("tx_stamps_rejected") == 0
    assert server.counter("error_queue_other") == 0  # nor are the stamps taken only for warmth
    server.close()


@pytest.mark.parametrize("tx_mode", ["ids", "counter"])
@pytest.mark.parametrize(
    "pattern",
    ["i" * 64, "b" * 9 + "i" * 40 + "b" * 15, "ib" * 32, ("i" * 9 + "b") * 6, ("i" * 7 + "b" * 3) * 6, "bbbi" * 16],
)
def test_interleaved_and_basic_requests_in_one_batch(tx_mode: str, pattern: str) -> None:
    """However the two kinds of clients are mixed, every stamp goes to the answer that it belongs to.

    Many interleaved answers in a row have the socket itself ask for their stamps instead of each message.
    """
    server = Server("127.0.0.1", tx_mode=tx_mode)
    where = ("127.0.0.1", server.ports[0])
    with client() as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)

        def together(requests: list[bytes]) -> list[tuple[bytes, int]]:
            """The answers to requests that wait together, each with the time it came in (ns)."""
            for request in requests:
                sock.sendto(request, where)
            server.engine.run_ready()
            got = []
            for _ in requests:
                answer, control, _, _ = sock.recvmsg(2000, 200)
                seconds, rest = struct.unpack_from("qq", control[0][2])
                got.append((answer, seconds * 10**9 + rest))
            return got

        nonce = 0
        followers = pattern.count("i")
        other = client()
        answers = together([REQUEST] * followers)
        for turn in range(6):
            requests, before = [], iter(answers)
            sent: dict[bytes, int] = {}
            for kind in pattern:
                nonce += 1
                if kind == "i":
                    answer, received = next(before)
                    requests.append(interleaved(answer, nonce))
                    sent[struct.pack("!Q", nonce << 8)] = received
                else:
                    requests.append(REQUEST[:40] + struct.pack("!Q", nonce << 8 | 1))
            got = together(requests)
            # Without workers control sends its own packets from the same socket.
            server.sockets[0].sendto(b"to a peer", other.getsockname())
            answers = []
            for kind, (answer, received) in zip(pattern, got, strict=True):
                if kind != "i":
                    continue
                answers.append((answer, received))
                if turn > 0:  # the first of them is basic still
                    late = sent[answer[24:32]] - stamp_ns(answer, 40)
                    assert 0 <= late < 1_000_000, (turn, late)
        other.close()
    assert server.counter("ntp_interleaved_hits") == followers * 5
    assert server.counter("ntp_kernel_tx_timestamps") == followers * 5
    assert server.counter("tx_stamps_unmatched") == server.counter("tx_stamps_rejected") == 0
    # those of the last turn wait still; a few basic answers asked, to learn from
    asked = server.counter("tx_stamps_read")
    assert followers * 5 <= asked <= followers * 6 + followers // 2 + (len(pattern) - followers) * 6 // 2
    assert server.engine.sockets[0].tx_mode == tx_mode
    server.close()


def test_an_answer_announced_too_late_still_gets_the_kernels_stamp() -> None:
    """What is announced is a forecast, about as often too late as too early; the stamp must be taken either way."""
    server = Server("127.0.0.1")
    request = REQUEST
    with client() as sock:
        for nonce in range(1, 3000):
            sock.sendto(request, ("127.0.0.1", server.ports[0]))
            server.engine.run_ready()
            request = interleaved(sock.recv(2000), nonce)
    assert server.counter("tx_stamps_rejected") == 0
    assert server.counter("ntp_kernel_tx_timestamps") == server.counter("ntp_interleaved_hits") == 2997
    server.close()


@pytest.mark.parametrize("clients", [1, 40])
def test_a_stamp_that_is_lost_leaves_the_announced_time(clients: int) -> None:
    """Also where many answers share a call, and the last of them leaves long after the clock was read."""
    server = Server("127.0.0.1")
    with client() as sock:

        def together(requests: list[bytes]) -> list[bytes]:
            for request in requests:
                sock.sendto(request, ("127.0.0.1", server.ports[0]))
            server.engine.run_ready()
            return [sock.recv(2000) for _ in requests]

        for _ in range(40):  # the kernel's stamp of one of them at least is asked for, to learn from
            answers = together([REQUEST] * clients)
        # from now on stamps come without a number
        server.sockets[0].setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE | OPT_TSONLY)
        # basic still, but the stamps are saved
        answers = together([interleaved(answer, nonce) for nonce, answer in enumerate(answers, 1)])
        announced = [stamp_ns(answer, 40) for answer in answers]
        answers = together([interleaved(answer, nonce) for nonce, answer in enumerate(answers, 1)])
    assert server.counter("ntp_interleaved_hits") == clients
    assert server.counter("tx_stamps_unmatched") >= clients
    # interleaved stamps differ from those announced by what makes each of them unique
    assert [abs(stamp_ns(answer, 40) - time_ns) < 200 for answer, time_ns in zip(answers, announced, strict=True)] == (
        [True] * clients
    )
    server.close()


def test_a_stamp_that_brings_its_packet_back_is_matched_by_it() -> None:
    """As from a kernel that loops data although only the stamp was asked for."""
    server = Server("127.0.0.1")
    server.sockets[0].setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE | OPT_ID)
    with client() as sock:
        answer = exchange(server, sock, REQUEST)
        for nonce in range(1, 20):
            received = stamp_ns(answer, 32)
            answer = exchange(server, sock, interleaved(answer, nonce))
            if nonce > 1:
                assert answer[24:32] == struct.pack("!Q", nonce << 8)
                assert 0 < stamp_ns(answer, 40) - received < 5_000_000_000
    assert server.counter("ntp_kernel_tx_timestamps") == server.counter("ntp_interleaved_hits") == 18
    assert server.counter("tx_stamps_unmatched") == server.counter("tx_stamps_rejected") == 0
    server.close()


def test_a_kernel_that_refuses_ids_is_counted_with() -> None:
    server = Server("127.0.0.1", tx_mode="ids")
    # without this option on the socket the kernel takes no id with a message
    server.sockets[0].setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)
    with client() as sock:
        answer = exchange(server, sock, REQUEST)
        for nonce in range(1, 20):
            answer = exchange(server, sock, interleaved(answer, nonce))
    assert server.engine.sockets[0].tx_mode == "counter"
    assert server.counter("ntp_interleaved_hits") == 18
    assert server.counter("ntp_kernel_tx_timestamps") >= 17
    server.close()


def test_without_transmit_stamps_the_daemons_time_is_interleaved() -> None:
    server = Server("127.0.0.1", tx_mode="none")
    with client() as sock:
        answer = exchange(server, sock, REQUEST)
        for nonce in range(1, 5):
            answer = exchange(server, sock, interleaved(answer, nonce))
    assert server.counter("ntp_interleaved_hits") == 3
    assert server.counter("ntp_daemon_tx_timestamps") == 5
    server.close()


def test_without_a_client_log_nothing_is_interleaved() -> None:
    server = Server("127.0.0.1", log=False)
    with client() as sock:
        answer = exchange(server, sock, REQUEST)
        for nonce in range(1, 5):
            answer = exchange(server, sock, interleaved(answer, nonce))
    assert server.counter("ntp_interleaved_hits") == 0
    server.close()


def test_a_rate_limit_reaches_a_running_engine(server: Server) -> None:
    server.shared.write_table("serving", serving_table(limit=(3, 4, 2, 0)))
    with client() as sock:
        sock.settimeout(0.05)
        for _ in range(200):
            sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.02)
        server.engine.serve(0.02)
        answers = [sock.recv(2000)]
        for _ in range(200):
            try:
                answers.append(sock.recv(2000))
            except TimeoutError:
                break
    assert 25 <= len(answers) <= 90
    assert {answer[2] for answer in answers} == {6}
    assert server.shared.outcomes()[6] == 200 - len(answers)


@pytest.mark.parametrize(("bound", "known_interface"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_a_packet_of_an_association_goes_to_control(bound: str, known_interface: int) -> None:
    server = Server(bound)
    with client() as sock:
        port = sock.getsockname()[1]
        row = struct.pack("=16sIHH", bytes([127, 0, 0, 1]), 4, port, 1)
        server.shared.write_table("peers", struct.pack("=II", 0x53524550, 1) + row)
        packet = bytes([0x21]) + REQUEST[1:]
        sock.sendto(packet, ("127.0.0.1", server.ports[0]))
        server.engine.serve(0.02)
        message = server.mine.recv(2000)
    magic, outcome, family, _, interface, remote_port, length, source = struct.unpack_from("=IIIIIHHB", message)
    assert (magic, outcome, family, remote_port, length, source) == (0x4C4E4843, 14, 4, port, 48, 1)
    assert interface == known_interface
    assert message[32:36] == message[48:52] == bytes([127, 0, 0, 1])
    assert abs(struct.unpack_from("=q", message, 64)[0] - time.time_ns()) < 10**9
    assert message[72:] == packet
    assert server.counter("control_sent") == 1
    server.close()


def test_when_control_does_not_read_its_packets_are_counted_as_lost(server: Server) -> None:
    with client() as sock:
        row = struct.pack("=16sIHH", bytes([127, 0, 0, 1]), 4, sock.getsockname()[1], 1)
        server.shared.write_table("peers", struct.pack("=II", 0x53524550, 1) + row)
        for _ in range(3000):
            sock.sendto(bytes([0x21]) + REQUEST[1:], ("127.0.0.1", server.ports[0]))
            server.engine.run_ready()
    assert server.counter("control_full") > 0
    assert server.counter("control_sent") + server.counter("control_full") == 3000


def test_answers_nobody_takes_to_be_signed_are_counted_apart(server: Server) -> None:
    server.shared.write_table("serving", serving_table(signd=True))
    with client() as sock:
        for _ in range(1000):
            sock.sendto(bytes([0x1B]) + REQUEST[1:] + b"\1\2\3\4" + bytes(16), ("127.0.0.1", server.ports[0]))
            server.engine.run_ready()
    assert server.counter("signd_full") > 0
    assert server.counter("control_sent") + server.counter("signd_full") == 1000
    assert server.counter("control_full") == 0
    assert server.counter("ntp_daemon_tx_timestamps") == server.counter("ntp_kernel_rx_timestamps") == 1000


def test_the_departure_of_answers_is_learned_from_the_kernel(server: Server) -> None:
    start = server.engine.sockets[0].model
    with client() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for _ in range(300):
            for _ in range(40):
                sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
            server.engine.run_ready()
            for _ in range(40):
                sock.recv(2000)
    learned = server.engine.sockets[0].model
    assert server.counter("tx_stamps_read") >= 300 // 32
    assert learned[2:] != start[2:]


def test_only_lasting_load_is_answered_in_large_calls(server: Server) -> None:
    """What an interruption spoils grows with the call, so the requests that a pause of the machine has left go in small
    ones."""
    (socket_,) = server.engine.sockets[:1]
    batches: list[tuple[int, bool]] = []
    with client() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

        def batch(size: int) -> None:
            for _ in range(size):
                sock.sendto(REQUEST, ("127.0.0.1", server.ports[0]))
            server.engine.run_ready()
            for _ in range(size):
                sock.recv(2000)
            batches.append((size, socket_.saturated))

        for _ in range(2):
            for size in (64,) * 40 + (10,) * 3:
                batch(size)
    assert server.counter("batches_full") == 80
    large = [number for number, (_, saturated) in enumerate(batches) if saturated]
    assert large == [*range(8, 40), *range(43 + 6, 83)]


class Conversation(threading.Thread):
    """Talks to a server on its own while the test's thread serves, fast enough to have the server wait for it alone."""

    def __init__(self, server: Server, then: Callable[["Conversation"], None]) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.then = then
        self.told: list[Any] = []
        server.engine.own_sockets()
        self.done, self.finished = os.pipe()
        server.engine.watch(self.done)

    def ask(self, sock: socket.socket, where: tuple[str, int]) -> bytes:
        sock.sendto(REQUEST, where)
        return sock.recv(2000)

    def run(self) -> None:
        try:
            with client() as sock:
                deadline = time.monotonic() + 20
                while not self.server.engine.sockets[0].waited and time.monotonic() < deadline:
                    self.ask(sock, ("127.0.0.1", self.server.ports[0]))
                self.sock = sock
                self.then(self)
        finally:
            os.write(self.finished, b"x")

    def follow(self) -> list[Any]:
        """Serve until it ended; what it told."""
        self.start()
        deadline = time.monotonic() + 30
        while self.done not in self.server.engine.serve(5.0):
            assert time.monotonic() < deadline
        self.join()
        os.close(self.done)
        os.close(self.finished)
        return self.told


def test_a_busy_socket_does_not_keep_others_waiting(server: Server) -> None:
    """The worker waits in the receive call of the socket that alone is busy; another's request is seen all the same."""

    def then(talk: Conversation) -> None:
        with client("::1") as other:
            for _ in range(20):
                for _ in range(50):
                    talk.ask(talk.sock, ("127.0.0.1", server.ports[0]))
                talk.told.append(len(talk.ask(other, ("::1", server.ports[1]))))

    assert Conversation(server, then).follow() == [48] * 20
    assert server.engine.sockets[0].waited > 0
    assert server.engine.sockets[1].waited == 0


def test_a_step_that_comes_while_a_socket_is_waited_for_makes_no_wrong_answer(server: Server) -> None:
    def then(talk: Conversation) -> None:
        where = ("127.0.0.1", server.ports[0])
        server.shared.publish_reference(page(stepping=True))
        for _ in range(5):
            talk.sock.sendto(REQUEST, where)
        talk.sock.settimeout(0.05)
        try:
            talk.told.append(len(talk.sock.recv(2000)))
        except TimeoutError:
            talk.told.append(None)
        server.shared.publish_reference(page(step_count=1))
        answers = 0
        talk.sock.settimeout(0.5)
        try:
            for _ in range(5):
                answers += len(talk.sock.recv(2000)) == 48
        except TimeoutError:
            pass
        talk.told.append(answers + server.shared.outcomes()[10])

    assert Conversation(server, then).follow() == [None, 5]


def test_more_descriptors_than_can_be_waited_for_are_refused(server: Server) -> None:
    pipe, end = os.pipe()
    for _ in range(256 - len(server.sockets)):
        server.engine.watch(pipe)
    with pytest.raises(ValueError, match="more than 256"):
        server.engine.watch(pipe)
    os.close(pipe)
    os.close(end)


NOGIL = {
    "_udp": ["run_batch", "prepare_batch", "run_turn", "read_control", "refresh_tables", "to_control"],
    "_sending": [
        "send_answers", "send_in_calls", "without_forecast", "answer_call", "finish_call", "send_out", "refresh_page"
    ],
    "_forecast": ["forecast_call", "forecast_is_new", "learn", "learn_call", "learn_departure"],
    "_polling": ["serve_until", "stay_on"],
    "_stamps": ["read_stamps", "use_stamp", "ask_for_stamp", "ask_for_all", "restart_ids", "find_payload"],
    "_packet": ["serve_batch", "serve_prepare", "serve_finish", "parse_packet", "unique_stamp", "smooth_offset"],
}


@pytest.mark.parametrize("module", NOGIL)
def test_the_packet_path_has_no_python_interaction(module: str) -> None:
    """The generated C of every function of the packet path calls nothing of the interpreter."""
    source = (Path(ntpd_fast.__file__).parent / f"{module}.c").read_text()
    for name in NOGIL[module]:
        found = re.search(
            rf"^static [^;{{]*__pyx_f_9ntpd_fast_\d+{module}_{name}\([^;{{]*\) {{\n(.*?)^}}",
            source,
            re.MULTILINE | re.DOTALL,
        )
        assert found, name
        calls = set(re.findall(r"\b(Py[A-Z_]\w+|__Pyx_\w+|__pyx_pw_\w+)\s*\(", found.group(1)))
        assert not calls - {"__Pyx_RefNannyDeclarations"}, (name, calls)
