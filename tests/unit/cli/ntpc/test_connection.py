"""Attempts, timeouts, what counts as an answer, and the way through the addresses."""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ntpd_fast.cli.ntpc import connection as conn
from ntpd_fast.cli.ntpc.connection import Connection, Endpoint, endpoints, resolve
from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec.commands import Number, Status
from ntpd_fast.monitor.codec.replies import Activity
from ntpd_fast.monitor.codec.requests import Nothing

Respond = Callable[[bytes, int], list[bytes]]


class Daemon:
    """Answers the n-th datagram with what `respond(datagram, n)` returns."""

    def __init__(self, sock: socket.socket, respond: Respond) -> None:
        self._socket = sock
        self._respond = respond
        self.requests: list[bytes] = []
        self.clients: list[object] = []
        self.modes: list[int] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                request, client = self._socket.recvfrom(1000)
            except OSError:
                return
            if request == b"end":
                return
            self.requests.append(request)
            self.clients.append(client)
            if isinstance(client, str):
                self.modes.append(stat.S_IMODE(os.stat(client).st_mode))
            for reply in self._respond(request, len(self.requests)):
                self._socket.sendto(reply, client)

    def stop(self) -> None:
        own = self._socket.getsockname()
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", own)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def daemon(tmp_path) -> Iterator[Callable[..., tuple[Daemon, Endpoint]]]:
    started: list[Daemon] = []

    def start(respond: Respond, name: str = "sock") -> tuple[Daemon, Endpoint]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(tmp_path / name)
        sock.bind(path)
        started.append(Daemon(sock, respond))
        return started[-1], Endpoint(path)

    yield start
    for running in started:
        running.stop()


def reply(request: bytes, status: int = 0, **changes: int) -> bytes:
    header = pk.decode_request_header(request)
    wire = bytearray(pk.encode_reply(header, status, pk.REPLIES[12], Activity(1, 2, 3, 4, 5)))
    for field, value in changes.items():
        offset = {"version": 0, "pkt_type": 1, "res1": 2, "res2": 3, "command": 5, "sequence": 19}[field]
        wire[offset] = value if field != "sequence" else wire[offset] ^ value
    return bytes(wire)


def ask(connection: Connection) -> conn.Answer | None:
    return connection.exchange(Number.ACTIVITY, Nothing())


def quick(*candidates: Endpoint, timeout_ms: int = 40, retries: int = 2) -> Connection:
    connection = Connection(candidates)
    connection.timeout_ms = timeout_ms
    connection.retries = retries
    return connection


def test_a_unix_daemon_can_answer_a_socket_that_is_gone_afterwards(daemon, tmp_path):
    server, endpoint = daemon(lambda request, _: [reply(request)])
    connection = quick(endpoint)
    answer = ask(connection)
    assert answer is not None
    assert answer.payload == Activity(1, 2, 3, 4, 5)
    assert server.modes == [0o666]
    connection.close()
    assert os.listdir(tmp_path) == ["sock"]


def test_the_umask_is_left_alone(daemon):
    _, endpoint = daemon(lambda request, _: [reply(request)])
    before = os.umask(0o027)
    try:
        ask(quick(endpoint))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_what_is_no_answer_is_ignored_and_the_answer_behind_it_taken(daemon):
    def respond(request: bytes, _: int) -> list[bytes]:
        return [
            b"",
            reply(request)[:27],
            reply(request, pkt_type=1),
            reply(request, res1=1),
            reply(request, res2=1),
            reply(request, command=33),
            reply(request, sequence=1),
            reply(request, version=5),
            reply(request) + b"longer is fine",
        ]

    server, endpoint = daemon(respond)
    answer = ask(quick(endpoint, timeout_ms=2000))
    assert answer is not None
    assert answer.payload == Activity(1, 2, 3, 4, 5)
    assert len(server.requests) == 1


def test_every_attempt_waits_twice_as_long_and_has_a_new_sequence(daemon):
    server, endpoint = daemon(lambda *_: [])
    begin = time.monotonic()
    assert ask(quick(endpoint)) is None
    assert time.monotonic() - begin >= 0.040 * (1 + 2 + 4)
    headers = [pk.decode_request_header(request) for request in server.requests]
    assert [header.attempt for header in headers] == [0, 1, 2]
    assert len({header.sequence for header in headers}) == 3


def test_a_reply_cut_short_starts_the_next_attempt_at_once(daemon):
    server, endpoint = daemon(lambda request, n: [reply(request)[: 47 if n == 1 else 48]])
    begin = time.monotonic()
    assert ask(quick(endpoint, timeout_ms=5000)) is not None
    assert time.monotonic() - begin < 4
    assert len(server.requests) == 2


def test_an_older_daemon_is_asked_without_padding_and_no_attempt_is_lost(daemon):
    def respond(request: bytes, _: int) -> list[bytes]:
        if request[0] == 6:
            return [reply(request, Status.BAD_PACKET_VERSION, version=5)]
        return [reply(request, version=5)]

    server, endpoint = daemon(respond)
    connection = quick(endpoint, timeout_ms=2000, retries=0)
    assert ask(connection) is not None
    assert [len(request) for request in server.requests] == [48, 20]
    assert ask(connection) is not None
    assert server.requests[2][0] == 5


def test_a_newer_daemon_that_does_not_speak_our_version_is_an_answer(daemon):
    _, endpoint = daemon(lambda request, _: [reply(request, Status.BAD_PACKET_VERSION, version=7)])
    answer = ask(quick(endpoint, timeout_ms=2000))
    assert answer is not None
    assert answer.header.status == Status.BAD_PACKET_VERSION


def test_a_reply_of_unknown_type_is_an_answer_without_payload(daemon):
    def respond(request: bytes, _: int) -> list[bytes]:
        wire = bytearray(reply(request))
        wire[6:8] = b"\0\xc8"
        return [bytes(wire)]

    _, endpoint = daemon(respond)
    answer = ask(quick(endpoint, timeout_ms=2000))
    assert answer is not None
    assert answer.payload is None


def test_endpoints_are_tried_in_order_and_the_first_again_after_the_last(daemon):
    silent, first = daemon(lambda *_: [], "first")
    talking, second = daemon(lambda request, _: [reply(request)], "second")
    connection = quick(Endpoint("/nonexistent/sock"), first, second)
    assert connection.open()
    assert connection.endpoint == first
    assert ask(connection) is not None
    assert connection.endpoint == second
    assert (len(silent.requests), len(talking.requests)) == (3, 1)
    assert connection.failures[0][0] == Endpoint("/nonexistent/sock")


def test_after_the_last_endpoint_the_next_request_starts_with_the_first(daemon):
    server, endpoint = daemon(lambda request, n: [reply(request)] if n > 3 else [])
    connection = quick(endpoint)
    assert ask(connection) is None
    assert connection.endpoint is None
    assert ask(connection) is not None
    assert len(server.requests) == 4


def test_nothing_to_open_is_said():
    connection = quick(Endpoint("/nonexistent/sock"))
    assert not connection.open()
    assert ask(connection) is None


def test_a_refusing_udp_port_does_not_cost_the_timeouts():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    connection = quick(Endpoint(None, "127.0.0.1", port), timeout_ms=5000)
    begin = time.monotonic()
    assert ask(connection) is None
    assert time.monotonic() - begin < 4
    assert len(connection.failures) == 1


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_udp_daemons_are_asked_in_both_families(family, address):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    server = Daemon(sock, lambda request, _: [reply(request)])
    endpoint = Endpoint(None, address, sock.getsockname()[1])
    assert ask(quick(endpoint, timeout_ms=2000)) is not None
    assert str(endpoint).endswith(f":{endpoint.port}")
    server.stop()


def test_hosts_become_endpoints_and_unresolvable_ones_none():
    found = list(endpoints(["/run/a", "127.0.0.1", "nosuch.invalid", "::1"], 323, 0))
    assert found == [Endpoint("/run/a"), Endpoint(None, "127.0.0.1", 323), Endpoint(None, "::1", 323)]
    assert list(endpoints(["127.0.0.1", "::1"], 323, 6)) == [Endpoint(None, "::1", 323)]


def test_a_name_gives_at_most_16_addresses(monkeypatch):
    monkeypatch.setattr(conn, "resolve", lambda host, family: [f"192.0.2.{i}" for i in range(40)])
    assert len(list(endpoints(["many"], 323, 0))) == 16


def test_names_that_cannot_be_names_resolve_to_nothing():
    assert resolve("a" * 300, 0) == []
    assert resolve("a\0b", 0) == []
