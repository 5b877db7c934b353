"""One key exchange of the server without sockets, with our TLS and OpenSSL as clients."""

import pytest

from ntpd_fast._nts import KeyRing
from ntpd_fast.nts.keys import export_keys
from ntpd_fast.nts.records import (
    END,
    MessageReader,
    Record,
    encode,
    error_records,
    read_response,
    request_records,
)
from ntpd_fast.server.ntske_counters import KeOutcome
from ntpd_fast.server.ntske_session import KeService, KeSession
from tests.tls_peers import OpenSsl, openssl_context, server_credentials, tls_client
from tests.unit.server.ntske import filled_ring

SIV, GCM_SIV = 15, 30
BOTH = (GCM_SIV, SIV)


@pytest.fixture
def service(pair):
    return KeService(server_credentials(pair), filled_ring(), BOTH)


def talk(session, client, message, split=None):
    """Handshake, send `message`, return what the client reads until the server ends or waits."""
    received = b""
    sent = False
    for _ in range(20):
        if client.handshake() and not sent:
            sent = True
            client.write(message)
        data = client.out()
        for i in range(0, len(data), split or max(len(data), 1)):
            if answer := session.receive(data[i : i + split] if split else data):
                client.feed(answer)
        if sent:
            while chunk := client.read():
                received += chunk
            if session.outcome is not None:
                return received
    return received


def records_of(data):
    return MessageReader().feed(data)


@pytest.mark.parametrize("split", [None, 1, 37])
@pytest.mark.parametrize("kind", ["gnutls", "openssl"])
def test_a_client_gets_keys_and_cookies(authority, service, kind, split):
    client = tls_client(authority) if kind == "gnutls" else OpenSsl(openssl_context(authority), b"ntp.example.test")
    session = KeSession(service)
    response = read_response(records_of(talk(session, client, encode(request_records(BOTH)), split)), BOTH)
    assert session.outcome is KeOutcome.SERVED
    assert response.algorithm == GCM_SIV
    assert response.compliant_export
    assert len(set(response.cookies)) == 8
    keys = export_keys(client, GCM_SIV)
    for cookie in response.cookies:
        assert service.ring.open_cookie(cookie) == (GCM_SIV, *keys)


def test_old_chrony_clients_get_the_keys_they_will_export(authority, service):
    """Without record 1024, keys for AES-128-GCM-SIV are exported with the context of AES-SIV-CMAC-256."""
    client = tls_client(authority)
    request = [r for r in request_records(BOTH) if r.kind != 1024]
    response = read_response(records_of(talk(KeSession(service), client, encode(request))), BOTH)
    assert response.algorithm == GCM_SIV
    assert not response.compliant_export
    keys = (
        client.export(b"EXPORTER-network-time-security", b"\0\0\0\x0f\0", 16),
        client.export(b"EXPORTER-network-time-security", b"\0\0\0\x0f\1", 16),
    )
    assert service.ring.open_cookie(response.cookies[0]) == (GCM_SIV, *keys)
    assert export_keys(client, GCM_SIV, compliant=False) == keys
    assert export_keys(client, GCM_SIV) != keys
    assert export_keys(client, SIV, compliant=False) == export_keys(client, SIV)


@pytest.mark.parametrize(
    "request_",
    [
        encode(request_records([SIV])),
        encode(request_records([GCM_SIV])),
        encode(request_records(BOTH)),
        encode(request_records([17, SIV, GCM_SIV])),
        encode([Record(1, b"\0\0", critical=True), Record(4, b"\0\x0f")]),
    ],
)
def test_what_clients_send_is_a_usual_request(service, request_):
    assert service.usual(request_) == codec_agrees(service, request_)


def codec_agrees(service, message):
    """(algorithm, compliant export) when the codec of records grants keys to a message."""
    algorithm, compliant, _, _ = service.decide(service.reader(), message) or (0, False, b"", "")
    return (algorithm, compliant) if algorithm else None


@pytest.mark.parametrize("algorithms", [BOTH, (SIV,), (GCM_SIV,), ()])
def test_changing_a_usual_request_never_gets_more_than_the_codec_grants(service, algorithms):
    """Every byte of every usual request to every value."""
    service.algorithms = algorithms
    for request in ([SIV], [GCM_SIV, SIV], [SIV, GCM_SIV]):
        message = bytearray(encode(request_records(request)))
        for at, right in enumerate(bytes(message)):
            for value in range(256):
                message[at] = value
                found = service.usual(bytes(message))
                assert found is None or found == codec_agrees(service, bytes(message)), message.hex()
            message[at] = right
        for length in range(len(message)):
            assert service.usual(bytes(message[:length])) is None
        assert service.usual(bytes(message) + b"x") is None


def test_a_service_bounds_its_algorithms(service):
    with pytest.raises(ValueError, match="9 AEAD algorithms"):
        service.algorithms = range(9)
    assert service.algorithms == BOTH
    # those without a cipher here are not granted
    service.algorithms = (17, SIV)
    assert service.usual(encode(request_records([17, SIV]))) == (SIV, False)


def test_answers_follow_the_settings(authority, service):
    def response():
        data = talk(KeSession(service), tls_client(authority), encode(request_records([SIV])))
        return read_response(records_of(data), [SIV])

    assert response().server is None
    service.ntp_server = "time.example.test"
    assert response().server == "time.example.test"
    service.ntp_port = 1123
    assert response().port == 1123
    service.ntp_server, service.ntp_port = None, 123
    assert (response().server, response().port) == (None, None)


def test_server_and_port_are_told(authority, service):
    service.ntp_server, service.ntp_port = "time.example.test", 1123
    response = read_response(
        records_of(talk(KeSession(service), tls_client(authority), encode(request_records([SIV])))), [SIV]
    )
    assert (response.server, response.port) == ("time.example.test", 1123)


def test_a_bad_request_gets_its_error_record(authority, service):
    session = KeSession(service)
    answer = talk(session, tls_client(authority), encode([Record(0x4000, critical=True)]))
    assert answer == encode(error_records(0))
    assert session.outcome is KeOutcome.REFUSED
    assert session.reason == "unrecognised critical record"


def test_without_server_keys_the_error_is_internal(authority, pair):
    session = KeSession(KeService(server_credentials(pair), KeyRing(), BOTH))
    assert talk(session, tls_client(authority), encode(request_records(BOTH))) == encode(error_records(2))
    assert session.outcome is KeOutcome.REFUSED


@pytest.mark.parametrize(
    "message",
    [
        END.encode() + b"x",
        END.encode() * 2,
        Record(0, b"", False).encode(),
        b"\x40\0\xff\xff" + bytes(17000),
        b"GET / HTTP/1.1\r\n\r\n" + bytes(18000),
    ],
)
def test_what_is_no_message_gets_no_answer(authority, service, message):
    session = KeSession(service)
    assert talk(session, tls_client(authority), message) == b""
    assert session.outcome is KeOutcome.BROKEN


def test_data_after_the_end_in_a_tls_record_of_its_own(authority, service):
    client = tls_client(authority)
    session = KeSession(service)
    assert talk(session, client, b"") == b""
    client.write(encode(request_records(BOTH)))
    client.write(b"more")
    client.feed(session.receive(client.out()))
    assert session.outcome is KeOutcome.BROKEN


def test_a_message_that_never_ends_waits(authority, service):
    client = tls_client(authority)
    session = KeSession(service)
    assert talk(session, client, encode(request_records(BOTH))[:-1]) == b""
    assert session.outcome is None
    client.close()
    session.receive(client.out())
    assert session.outcome is KeOutcome.BROKEN
    assert session.reason == "closed before the End of Message record"


def test_hanging_up(authority, service):
    session = KeSession(service)
    assert session.receive(b"") == b""
    assert session.outcome is KeOutcome.TLS_FAILED
    client = tls_client(authority)
    client.handshake()
    session = KeSession(service)
    session.receive(client.out())
    session.receive(b"")
    assert session.outcome is KeOutcome.TLS_FAILED
    assert session.receive(b"more") == b""


def test_no_alpn_and_no_tls(authority, service):
    session = KeSession(service)
    client = OpenSsl(openssl_context(authority, alpn=()), b"ntp.example.test")
    client.handshake()
    client.feed(session.receive(client.out()))
    assert client.handshake()
    session.receive(client.out())
    assert session.outcome is KeOutcome.TLS_FAILED
    session = KeSession(service)
    session.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert session.outcome is KeOutcome.TLS_FAILED


def test_tls_state_is_freed_at_the_end(authority, service):
    session = KeSession(service)
    talk(session, tls_client(authority), encode(request_records(BOTH)))
    assert not session.holds_tls
