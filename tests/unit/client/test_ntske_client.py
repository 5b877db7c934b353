"""Key exchange as a client: without I/O against scripted servers, and over loopback with everything that goes wrong."""

import asyncio
import contextlib
import os
import socket
import time
from ipaddress import ip_address

import pytest
import uvloop
from OpenSSL import SSL

from ntpd_fast._nts import KeyRing
from ntpd_fast._tls import Session, TlsError
from ntpd_fast.client.ntske_client import (
    RETRY_LOG2_ANSWERED,
    RETRY_LOG2_UNREACHABLE,
    KeClient,
    KeExchange,
    KeFailure,
    KeKeys,
    KeRequest,
)
from ntpd_fast.client.ntske_trust import TrustStore
from ntpd_fast.client.resolver import Resolution
from ntpd_fast.config.model import TrustedCerts
from ntpd_fast.nts.records import Agreement, MessageReader, Record, agreement_records, encode, error_records
from ntpd_fast.server.keyring import CURRENT, random_keys
from ntpd_fast.server.ntske_server import NtsKeServer
from ntpd_fast.server.ntske_session import KeService, KeSession
from tests.pki import Authority
from tests.tls_peers import OpenSsl, openssl_context, server_credentials, trusting

SIV, GCM_SIV = 15, 30
BOTH = (GCM_SIV, SIV)
NAME = "ntp.example.test"
WHERE = f"127.0.0.1:4460 ({NAME})"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue(NAME, "127.0.0.1", "::1")


def filled_ring():
    ring = KeyRing()
    keys = random_keys()
    ring.publish([(k.identifier, k.algorithm, k.key) for k in keys], keys[CURRENT].identifier)
    return ring


def exchange_with(authority, **options):
    options = {"name": NAME, "algorithms": BOTH, "check_times": True} | options
    return KeExchange(trusting(authority), where=WHERE, **options)


def talk(exchange, server):
    """Carry bytes between an exchange and a KeSession or a scripted server until there is a result."""
    data = exchange.start()
    for _ in range(10):
        answer = server.receive(data)
        data = exchange.receive(answer) if answer else b""
        if exchange.result is not None:
            return exchange.result
    return None


class Scripted:
    """A server that answers any request with given bytes."""

    def __init__(self, tls, answer, *, close=False):
        self._tls = tls
        self._answer = answer
        self._close = close
        self.request = None

    def receive(self, data):
        self._tls.feed(data)
        if self._tls.handshake() and self.request is None and (request := self._tls.read()):
            self.request = MessageReader().feed(request)
            if self._answer:
                self._tls.write(self._answer)
            if self._close:
                self._tls.close()
        return self._tls.out()


def ours(pair, answer, **options):
    return Scripted(Session(server_credentials(pair), b"ntske/1", server_side=True), answer, **options)


def test_keys_and_cookies(authority, pair):
    ring = filled_ring()
    result = talk(exchange_with(authority), KeSession(KeService(server_credentials(pair), ring, BOTH)))
    assert isinstance(result, KeKeys)
    assert (result.algorithm, result.alternate, result.server, result.port) == (GCM_SIV, None, None, None)
    assert {ring.open_cookie(cookie) for cookie in result.cookies} == {(GCM_SIV, result.c2s, result.s2c)}
    assert result.c2s.hex() not in repr(result)


def test_the_preferred_algorithm_and_the_servers_choice(authority, pair):
    result = talk(
        exchange_with(authority, algorithms=(SIV,)), KeSession(KeService(server_credentials(pair), filled_ring(), BOTH))
    )
    assert result.algorithm == SIV
    result = talk(exchange_with(authority), KeSession(KeService(server_credentials(pair), filled_ring(), (SIV,))))
    assert result.algorithm == SIV


def test_openssl_as_server(authority, pair):
    answer = encode(agreement_records(Agreement(SIV, False), [bytes(100)] * 8, server="time.example.test", port=1123))
    server = Scripted(OpenSsl(openssl_context(pair=pair)), answer)
    result = talk(exchange_with(authority), server)
    assert [r.kind for r in server.request] == [1, 4, 1024]
    assert (result.algorithm, result.server, result.port) == (SIV, "time.example.test", 1123)


def test_a_server_without_the_compliant_export_gets_both_readings(authority, pair):
    answer = encode(agreement_records(Agreement(GCM_SIV, False), [bytes(64)]))
    server = ours(pair, answer)
    result = talk(exchange_with(authority), server)
    tls = server._tls
    label = b"EXPORTER-network-time-security"
    assert (result.c2s, result.s2c) == tuple(tls.export(label, b"\0\0\0\x0f" + d, 16) for d in (b"\0", b"\1"))
    assert result.alternate == tuple(tls.export(label, b"\0\0\0\x1e" + d, 16) for d in (b"\0", b"\1"))


def test_an_address_is_a_name_too(authority, pair):
    for name in ("127.0.0.1", "::1", NAME + "."):
        session = KeSession(KeService(server_credentials(pair), filled_ring(), BOTH))
        assert isinstance(talk(exchange_with(authority, name=name), session), KeKeys)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (encode(error_records(1)), "server reports error 1"),
        (encode([]), "no next protocol record"),
        (encode(agreement_records(Agreement(SIV, False), [])), "no usable cookies"),
        (encode([Record(1, b"\0\0", True), Record(4, b"", True)]), "no common AEAD algorithm"),
        (encode(agreement_records(Agreement(SIV, False), [bytes(100)])) + b"x", "after the End of Message"),
        (b"\x40\0\xff\xff" + bytes(17000), "longer than"),
        (b"\0\1\0\2\0\0", None),
    ],
)
def test_answers_without_keys(authority, pair, answer, reason):
    result = talk(exchange_with(authority), ours(pair, answer, close=True))
    assert isinstance(result, KeFailure)
    assert result.text.startswith(f"Received invalid NTS-KE message from {WHERE} : ")
    assert (reason or "closed before") in result.text
    assert result.retry_log2 == RETRY_LOG2_ANSWERED


def failure(exchange, server):
    result = talk(exchange, server)
    assert isinstance(result, KeFailure)
    assert result.retry_log2 == RETRY_LOG2_ANSWERED
    return result.text


def test_certificates_that_are_refused(authority, pair):
    start = f"TLS handshake with {WHERE} failed : "
    expired = authority.issue(NAME, start_days=-10, end_days=-5)
    text = failure(exchange_with(authority), ours(expired, b""))
    assert text.startswith(start)
    assert "expired certificate" in text
    assert isinstance(
        talk(
            exchange_with(authority, check_times=False),
            KeSession(KeService(server_credentials(expired), filled_ring(), BOTH)),
        ),
        KeKeys,
    )
    assert "name" in failure(exchange_with(authority, name="other.example.test"), ours(pair, b""))
    assert "issuer is unknown" in failure(exchange_with(Authority("another")), ours(pair, b""))


def test_a_server_that_does_not_speak_nts(authority, pair):
    context = openssl_context(pair=pair)
    context.set_alpn_select_callback(lambda _, offered: SSL.NO_OVERLAPPING_PROTOCOLS)
    server = OpenSsl(context)
    exchange = exchange_with(authority)
    with contextlib.suppress(TlsError):
        server.feed(exchange.start())
        server.handshake()
    exchange.receive(server.out())
    assert exchange.result.text == f"NTS-KE not supported by {WHERE}"


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.2\r\n", bytes(100), b"\x15\x03\x01\0\2\2\x28"])
def test_a_server_that_does_not_speak_tls(authority, garbage):
    exchange = exchange_with(authority)
    exchange.start()
    exchange.receive(garbage)
    if exchange.result is None:
        exchange.receive(b"")
    assert exchange.result.text.startswith(f"TLS handshake with {WHERE} failed : ")


def test_hanging_up_in_the_handshake_is_tried_again_sooner(authority):
    exchange = exchange_with(authority)
    exchange.start()
    exchange.receive(b"")
    assert exchange.result.retry_log2 == RETRY_LOG2_UNREACHABLE
    assert exchange.receive(b"more") == b""


# the glue, over loopback


class Names:
    """A resolver with one name."""

    def __init__(self, *addresses):
        self.asked = []
        self.addresses = addresses or ("2001:db8::9", "127.0.0.9")

    def resolve(self, name, done):
        self.asked.append(name)
        known = tuple(map(ip_address, self.addresses)) if name == "time.example.test." else ()
        asyncio.get_event_loop().call_soon(done, Resolution(known, "" if known else "No address"))


class Trusting:
    def __init__(self, authority):
        self._authority = authority
        self.asked = []

    def credentials(self, certset):
        self.asked.append(certset)
        if certset == 7:
            raise TlsError("no certificates are trusted in set 7")
        return trusting(self._authority)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def server(loop, pair):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = KeService(server_credentials(pair), filled_ring(), BOTH)
        server = NtsKeServer(loop, [listener], service, lambda severity, text: None, connections_max=10)
        server.start()
        server.port = listener.getsockname()[1]
        yield server
        server.stop()


def run(loop, client, port, *, certset=0, name=NAME, address="127.0.0.1"):
    """(result, NTP address) of one exchange."""
    results = loop.create_future()
    request = KeRequest(name, ip_address(address), port, BOTH, certset)
    handle = client.start(request, lambda result, ntp_address: results.set_result((result, ntp_address)))
    assert handle is not None
    return loop.run_until_complete(asyncio.wait_for(results, 5))


def test_an_exchange_over_loopback(loop, server, authority):
    trust = Trusting(authority)
    client = KeClient(loop, trust, Names(), bind_addresses=[ip_address("127.0.0.3")])
    result, address = run(loop, client, server.port, certset=3)
    assert isinstance(result, KeKeys)
    assert address == ip_address("127.0.0.1")
    assert trust.asked == [3]
    assert server.counters.read()["served"] == 1


def test_a_named_ntp_server_is_resolved(loop, server, authority):
    names = Names()
    client = KeClient(loop, Trusting(authority), names)
    server.service.ntp_server = "time.example.test"
    assert run(loop, client, server.port)[1] == ip_address("127.0.0.9")
    assert names.asked == ["time.example.test."]
    names.addresses = ("2001:db8::9",)
    assert run(loop, client, server.port)[1] == ip_address("2001:db8::9")
    server.service.ntp_server = "none.example.test"
    result, address = run(loop, client, server.port)
    assert address is None
    assert result.text.startswith("Could not resolve NTP server none.example.test of ")
    server.service.ntp_server = "2001:db8::1"
    assert run(loop, client, server.port)[1] == ip_address("2001:db8::1")


def test_nobody_listens(loop, authority):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result, _ = run(loop, KeClient(loop, Trusting(authority), Names()), port)
    assert result == KeFailure(
        f"Could not connect to 127.0.0.1:{port} ({NAME}) : Connection refused", RETRY_LOG2_UNREACHABLE
    )


def test_a_server_that_says_nothing(loop, authority):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result, _ = run(loop, KeClient(loop, Trusting(authority), Names(), timeout_s=0.2), port)
    assert result == KeFailure(f"NTS-KE session with 127.0.0.1:{port} ({NAME}) timed out", RETRY_LOG2_UNREACHABLE)


def test_a_server_that_stops_after_the_handshake(loop, authority, pair):
    tls = Session(server_credentials(pair), b"ntske/1", server_side=True)

    async def serve(reader, writer):
        while not tls.handshake():
            writer.write(tls.out())
            tls.feed(await reader.read(16384))
        await asyncio.sleep(1)
        writer.close()

    stream_server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    port = stream_server.sockets[0].getsockname()[1]
    result, _ = run(loop, KeClient(loop, Trusting(authority), Names(), timeout_s=0.3), port)
    assert result == KeFailure(f"NTS-KE session with 127.0.0.1:{port} ({NAME}) timed out", RETRY_LOG2_ANSWERED)
    stream_server.close()
    loop.run_until_complete(asyncio.sleep(1))


def test_a_server_that_resets(loop, authority):
    async def serve(reader, writer):
        writer.transport.abort()

    stream_server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    port = stream_server.sockets[0].getsockname()[1]
    result, _ = run(loop, KeClient(loop, Trusting(authority), Names()), port)
    assert result.text.startswith(f"TLS handshake with 127.0.0.1:{port} ({NAME}) failed : ")
    assert result.retry_log2 == RETRY_LOG2_UNREACHABLE
    stream_server.close()


def test_nothing_trusted_is_a_failure_with_a_reason(loop, server, authority):
    result, _ = run(loop, KeClient(loop, Trusting(authority), Names()), server.port, certset=7)
    assert result.text.endswith("no certificates are trusted in set 7")


def test_an_address_that_cannot_be_used_locally(loop, authority):
    client = KeClient(loop, Trusting(authority), Names(), bind_addresses=[ip_address("192.0.2.77")])
    request = KeRequest(NAME, ip_address("127.0.0.1"), 4460, BOTH)
    assert client.start(request, lambda result, address: None) is None


def test_cancelling(loop, authority):
    called = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = KeClient(loop, Trusting(authority), Names())
        request = KeRequest(NAME, ip_address("127.0.0.1"), listener.getsockname()[1], BOTH)
        handle = client.start(request, lambda *args: called.append(args))
        loop.run_until_complete(asyncio.sleep(0.05))
        before = os.listdir("/proc/self/fd")
        handle.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        assert len(os.listdir("/proc/self/fd")) == len(before) - 1
    assert not called


def test_certificates_are_judged_by_the_daemons_time(loop, authority):
    expired = authority.issue(NAME, start_days=-10, end_days=-5)
    check = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        service = KeService(server_credentials(expired), filled_ring(), BOTH)
        server = NtsKeServer(loop, [listener], service, lambda severity, text: None, connections_max=10)
        server.start()

        def client(offset_s=0.0, *, checks=True):
            return KeClient(
                loop,
                Trusting(authority),
                Names(),
                time_offset_s=lambda: offset_s,
                check_times=lambda: check.append(1) or checks,
            )

        assert "expired certificate" in run(loop, client(), port)[0].text
        assert isinstance(run(loop, client(-7 * 86400.0), port)[0], KeKeys)
        assert isinstance(run(loop, client(checks=False), port)[0], KeKeys)
        run(loop, client(0.0), port)
        server.stop()
    assert len(check) == 4


# trusted certificates


class Lines:
    def __init__(self):
        self.lines = []

    def __call__(self, severity, text):
        self.lines.append(text)


def served(credentials, pair):
    """Whether a server with this certificate is trusted."""
    exchange = KeExchange(credentials, NAME, BOTH, WHERE, check_times=True)
    return isinstance(talk(exchange, KeSession(KeService(server_credentials(pair), filled_ring(), BOTH))), KeKeys)


def test_sets_files_and_directories(authority, pair, tmp_path):
    other = Authority("another")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.pem").write_bytes(other.pem)
    (tmp_path / "more" / "b.pem").write_bytes(authority.pem)
    (tmp_path / "more" / "deeper").mkdir()
    log = Lines()
    store = TrustStore(
        [TrustedCerts(str(tmp_path / "ca.pem"), 1), TrustedCerts(str(tmp_path / "more"), 2)], log, system=False
    )
    theirs = other.issue(NAME)
    assert served(store.credentials(1), pair)
    assert not served(store.credentials(1), theirs)
    assert served(store.credentials(2), pair)
    assert served(store.credentials(2), theirs)
    with pytest.raises(TlsError, match="no certificates are trusted in set 0"):
        store.credentials(0)
    assert store.credentials(1) is store.credentials(1)
    assert log.lines == []


def test_system_certificates_are_in_set_0_only(authority, pair, tmp_path):
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    now = [0.0]
    store = TrustStore([TrustedCerts(str(tmp_path / "ca.pem"))], Lines(), monotonic_s=lambda: now[0])
    first = store.credentials(0)
    assert served(first, pair)
    assert store.credentials(0) is first
    now[0] += 86401
    assert store.credentials(0) is not first
    with pytest.raises(TlsError):
        store.credentials(1)


def test_changed_files_are_read_again(authority, pair, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(Authority("another").pem)
    log = Lines()
    store = TrustStore([TrustedCerts(str(path), 1)], log)
    assert not served(store.credentials(1), pair)
    path.write_bytes(authority.pem)
    os.utime(path, (time.time() + 5, time.time() + 5))
    assert served(store.credentials(1), pair)
    path.unlink()
    with pytest.raises(TlsError):
        store.credentials(1)
    assert log.lines == [f"Could not read trusted certificates : {path} : No such file or directory"]


def test_other_files_are_followed(authority, pair, tmp_path):
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    store = TrustStore([], Lines())
    before = store.credentials(0)
    assert not served(before, pair)
    store.follow([TrustedCerts(str(tmp_path / "ca.pem"))], system=True)
    assert served(store.credentials(0), pair)
    store.follow([], system=False)
    with pytest.raises(TlsError, match="no certificates are trusted in set 0"):
        store.credentials(0)
    store.follow([], system=True)
    assert not served(store.credentials(0), pair)


def test_files_without_certificates_are_told(tmp_path, authority):
    (tmp_path / "a.pem").write_text("nothing")
    (tmp_path / "b.pem").write_bytes(authority.pem)
    (tmp_path / "c.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    log = Lines()
    TrustStore([TrustedCerts(str(tmp_path), 1)], log).credentials(1)
    assert len(log.lines) == 2
    assert log.lines[0] == f"No trusted certificates in {tmp_path}/a.pem"
    assert f"{tmp_path}/c.pem" in log.lines[1]
