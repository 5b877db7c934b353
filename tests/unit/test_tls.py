"""TLS sessions in memory: against each other, and against OpenSSL as an independent peer."""

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from OpenSSL import SSL

from ntpd_fast._tls import Credentials, Session, TlsError, hkdf_sha256, library, set_time_offset, validity
from tests.pki import Authority
from tests.tls_peers import ALPN, OpenSsl, openssl_context, server_credentials
from tests.tls_peers import tls_client as client

LABEL = b"EXPORTER-network-time-security"
DAY_S = 86400


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("ntp.example.test", "127.0.0.1", "::1")


def server(pair, alpn=ALPN):
    return Session(server_credentials(pair), alpn, server_side=True)


def exchange(one, other, *, split=None, turns=20):
    """Carry bytes between two sessions until both handshakes are done or one fails."""
    for _ in range(turns):
        done = [side.handshake() for side in (one, other)]
        for source, target in ((one, other), (other, one)):
            data = source.out()
            for i in range(0, len(data), split or max(len(data), 1)):
                target.feed(data[i : i + split] if split else data)
                if split:
                    target.handshake()
        if all(done):
            return
    raise AssertionError("handshake does not end")


def failure(one, other):
    """The text of the first failure of a handshake, after its alert has been delivered."""
    for _ in range(20):
        for side, peer in ((one, other), (other, one)):
            try:
                side.handshake()
            except TlsError as error:
                alert = side.out()
                if alert:
                    peer.feed(alert)
                return str(error)
            data = side.out()
            if data:
                peer.feed(data)
    raise AssertionError("the handshake did not fail")


@pytest.mark.parametrize("split", [None, 1, 100])
def test_handshake_data_and_exported_keys(authority, pair, split):
    ours, theirs = server(pair), client(authority)
    exchange(theirs, ours, split=split)
    assert ours.export(LABEL, b"\0\0\0\x0f\0", 32) == theirs.export(LABEL, b"\0\0\0\x0f\0", 32)
    assert ours.export(LABEL, b"\0\0\0\x0f\1", 32) != ours.export(LABEL, b"\0\0\0\x0f\0", 32)
    theirs.write(b"request")
    ours.feed(theirs.out())
    assert ours.read() == b"request"
    assert ours.read() is None
    ours.write(b"response" * 5000)
    ours.close()
    ours.close()
    data = ours.out()
    theirs.feed(data)
    received = b""
    while chunk := theirs.read():
        received += chunk
    assert chunk == b""
    assert received == b"response" * 5000


def test_no_session_tickets(authority, pair):
    """After its handshake the server has nothing more to say: GnuTLS and others would send tickets here."""
    ours, theirs = server(pair), client(authority)
    exchange(theirs, ours)
    assert ours.out() == b""
    assert theirs.read() is None


@pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
def test_literal_addresses_are_verified_without_sni(authority, pair, name):
    ours, theirs = server(pair), client(authority, name, send_name=False)
    theirs.handshake()
    hello = theirs.out()
    assert name.encode() not in hello
    ours.feed(hello)
    exchange(theirs, ours)


def test_names_and_authorities_are_checked(authority, pair):
    assert "name" in failure(client(authority, "other.example.test"), server(pair))
    assert "name" in failure(client(authority, "127.0.0.2", send_name=False), server(pair))
    assert "issuer is unknown" in failure(client(Authority("another")), server(pair))


def test_validity_times(authority):
    expired = authority.issue("ntp.example.test", start_days=-10, end_days=-5)
    future = authority.issue("ntp.example.test", start_days=5, end_days=10)
    assert "expired certificate" in failure(client(authority), server(expired))
    assert "not yet valid" in failure(client(authority), server(future))
    exchange(client(authority, check_times=False), server(expired))
    exchange(client(authority, check_times=False), server(future))
    try:
        set_time_offset(-7 * DAY_S)
        exchange(client(authority), server(expired))
        set_time_offset(7 * DAY_S)
        exchange(client(authority), server(future))
    finally:
        set_time_offset(0)


def test_without_the_time_check_everything_else_is_still_checked(authority, pair):
    assert "name" in failure(client(authority, "other.example.test", check_times=False), server(pair))
    assert "unknown" in failure(client(Authority("another"), check_times=False), server(pair))


def test_several_certificates_are_chosen_by_name(authority, pair):
    second = authority.issue("second.example.test")
    credentials = server_credentials(pair, second)
    for name in ("ntp.example.test", "second.example.test"):
        exchange(client(authority, name), Session(credentials, ALPN, server_side=True))


def test_alpn_has_to_match(authority, pair):
    assert "application protocol" in failure(client(authority), server(pair, b"other/1"))


def test_a_truncated_connection_is_an_error(authority, pair):
    ours, theirs = server(pair), client(authority)
    exchange(theirs, ours)
    ours.feed(b"")
    with pytest.raises(TlsError, match="TLS connection was non-properly terminated"):
        ours.read()


GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70000), bytes(5), b"\x80"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["http", "oversized", "zeros", "one"])
def test_garbage_fails_at_the_latest_when_it_ends(pair, garbage):
    session = server(pair)
    session.feed(garbage)

    def until_it_fails():
        while not session.handshake():
            session.feed(b"")

    with pytest.raises(TlsError):
        until_it_fails()


def test_unread_data_is_bounded(pair):
    session = server(pair)
    session.feed(bytes(131072))
    with pytest.raises(TlsError, match="too much"):
        session.feed(b"x")


def test_nothing_is_exported_before_the_handshake(pair):
    with pytest.raises(ValueError, match="before"):
        server(pair).export(LABEL, b"", 32)


def test_bad_credentials_are_told(authority, pair):
    other = authority.issue("ntp.example.test")
    with pytest.raises(TlsError, match="do not match"):
        Credentials().add_key_pair(pair.certificate, other.key)
    with pytest.raises(TlsError):
        Credentials().add_key_pair(b"", b"")
    with pytest.raises(TlsError):
        Credentials().add_key_pair(b"no certificate", pair.key)
    assert Credentials().add_trust(b"no certificate") == 0
    with pytest.raises(ValueError, match="name"):
        Session(Credentials(), ALPN, server_side=False)


def test_the_library_is_named():
    assert library().startswith("GnuTLS 3.")


def test_openssl_as_client(authority, pair):
    ours, theirs = server(pair), OpenSsl(openssl_context(authority), b"ntp.example.test")
    exchange(theirs, ours)
    assert theirs.connection.get_alpn_proto_negotiated() == ALPN
    context = b"\0\0\0\x0f\1"
    assert ours.export(LABEL, context, 32) == theirs.export(LABEL, context, 32)
    theirs.connection.send(b"request")
    ours.feed(theirs.out())
    assert ours.read() == b"request"
    ours.write(b"response")
    ours.close()
    theirs.feed(ours.out())
    assert theirs.connection.recv(100) == b"response"
    with pytest.raises(SSL.ZeroReturnError):
        theirs.connection.recv(100)


def test_openssl_as_server(authority, pair):
    """OpenSSL sends two session tickets: they are read over."""
    ours, theirs = client(authority), OpenSsl(openssl_context(pair=pair))
    exchange(ours, theirs)
    theirs.connection.send(b"response")
    ours.feed(theirs.out())
    assert ours.read() == b"response"
    assert ours.read() is None
    assert ours.export(LABEL, b"\0\0\0\x0f\0", 32) == theirs.export(LABEL, b"\0\0\0\x0f\0", 32)


def test_tls_1_2_is_refused(authority, pair):
    old = (SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION)
    assert failure(server(pair), OpenSsl(openssl_context(authority, versions=old), b"ntp.example.test"))
    assert failure(client(authority), OpenSsl(openssl_context(pair=pair, versions=old)))


def test_a_client_without_alpn_is_refused(authority, pair):
    ours, theirs = server(pair), OpenSsl(openssl_context(authority, alpn=()), b"ntp.example.test")
    with pytest.raises(TlsError, match="no application protocol"):
        exchange(theirs, ours)


def test_validity_is_the_first_certificates():
    authority = Authority()
    pair = authority.issue("ntp.example.test", start_days=-3, end_days=5)
    now_s = authority.now.timestamp()
    for pem in (pair.certificate, pair.certificate + authority.pem, b"in words\n" + pair.certificate):
        begins_s, ends_s = validity(pem)
        assert begins_s == pytest.approx(now_s - 3 * 86400, abs=1.0)
        assert ends_s == pytest.approx(now_s + 5 * 86400, abs=1.0)
    for wrong in (b"", b"no certificate", pair.key, pair.certificate[:200]):
        with pytest.raises(TlsError):
            validity(wrong)


def test_hkdf_of_the_rfc():
    # RFC 5869 A.3: no salt, no info
    derived = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert hkdf_sha256(b"\x0b" * 22, b"", 42).hex() == derived


@pytest.mark.parametrize("length", [1, 32, 33, 8160])
def test_hkdf_is_that_of_another_library(length):
    other = HKDF(algorithm=SHA256(), length=length, salt=None, info=b"what for").derive(b"secret" * 6)
    assert hkdf_sha256(b"secret" * 6, b"what for", length) == other


@pytest.mark.parametrize("length", [-1, 0, 8161])
def test_hkdf_has_bounds(length):
    with pytest.raises(ValueError, match=str(length)):
        hkdf_sha256(b"secret" * 6, b"", length)
