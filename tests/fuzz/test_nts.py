"""Whatever an NTS packet holds, the server drops it, refuses it or answers it within its length; no bytes crash it.

The same for an answer and the client. A packet is answered with cookies only when its authenticator is right.
"""

import struct
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._aead import Aead
from ntpd_fast._nts import KeyRing, Responder
from ntpd_fast._tls import Credentials, Session, TlsError
from ntpd_fast.client.nts_auth import NtsAuthenticator, NtsOptions
from ntpd_fast.client.ntske_client import KeKeys
from ntpd_fast.client.packet import parse
from ntpd_fast.client.stamps import Now
from ntpd_fast.server.ntske_counters import KeOutcome
from ntpd_fast.server.ntske_session import KeService, KeSession
from tests.nts_packets import AUTH, COOKIE, HEADER, PLACEHOLDER, UID, auth_field, cookies, field
from tests.pki import Authority
from tests.tls_peers import server_credentials

PACKETS = settings(deadline=None, max_examples=500)
SESSIONS = settings(deadline=None, max_examples=150)
SIV = 15
C2S, S2C = bytes(range(32)), bytes(range(32, 64))
RING = KeyRing()
RING.publish([(5, SIV, bytes(32))], 5)
GOOD_COOKIE = RING.make_cookie(SIV, C2S, S2C)
RESPONSE_HEAD = bytes([0x24, 1]) + bytes(46)
KOD_HEAD = bytes([0xE4, 0]) + bytes(10) + b"NTSN" + bytes(32)

raw_fields = st.builds(
    lambda kind, length, body: struct.pack(">HH", kind, length) + body,
    st.one_of(st.sampled_from([UID, COOKIE, PLACEHOLDER, AUTH, 0xF323]), st.integers(0, 0xFFFF)),
    st.one_of(st.integers(0, 200), st.integers(0, 0xFFFF)),
    st.binary(max_size=150),
)
good_fields = st.one_of(
    st.just(field(UID, bytes(32))),
    st.just(field(COOKIE, GOOD_COOKIE)),
    st.just(field(PLACEHOLDER, bytes(100))),
    st.builds(lambda n: field(PLACEHOLDER, bytes(4 * n)), st.integers(3, 40)),
    st.builds(lambda kind, n: field(kind, bytes(4 * n)), st.integers(0, 0xFFFF), st.integers(3, 20)),
)
packets = st.builds(
    lambda parts, tail: HEADER + b"".join(parts) + tail,
    st.lists(st.one_of(good_fields, raw_fields), max_size=8),
    st.binary(max_size=40),
)
plain_fields = st.one_of(st.binary(max_size=60), st.lists(st.one_of(good_fields, raw_fields), max_size=4).map(b"".join))


def served(packet):
    """The outcome, after checking everything an answer has to keep."""
    responder = Responder(RING)
    outcome = responder.check(packet)
    if outcome == "ok":
        answer = responder.respond(RESPONSE_HEAD)
        assert len(answer) == len(packet)
        assert 1 <= len(cookies(Aead(SIV, S2C), answer)) == responder.cookies <= 8
    elif outcome.startswith("nak"):
        assert len(responder.respond(KOD_HEAD)) <= len(packet)
    return outcome


@given(st.one_of(packets, st.binary(max_size=1200), st.binary(max_size=1100).map(lambda b: HEADER + b)))
@PACKETS
def test_requests_of_any_bytes(packet):
    assert served(packet) != "ok"


@given(st.lists(good_fields, max_size=8), st.binary(min_size=1, max_size=40), plain_fields, st.integers(0, 30))
@PACKETS
def test_requests_with_a_right_authenticator(parts, nonce, plain, padding):
    start = HEADER + b"".join(parts)
    packet = start + auth_field(Aead(SIV, C2S), start, nonce, plain, 4 * padding)
    if served(packet) == "ok":
        assert parts.count(field(COOKIE, GOOD_COOKIE)) == 1
        assert parts.count(field(UID, bytes(32))) >= 1


@given(st.binary(max_size=300))
@PACKETS
def test_cookies_of_any_bytes(cookie):
    assert RING.open_cookie(cookie) is None
    assert RING.open_cookie(b"\0\0\0\5" + cookie) is None


class Source:
    """What an authenticator needs around it."""

    ke_address = ip_address("192.0.2.1")

    def start(self, request, done):
        self.done = done
        return self

    def cancel(self):
        pass

    def move(self, address, port):
        return True

    def moved_away(self):
        pass

    def take_saved(self):
        return None


def client(uid):
    source = Source()
    auth = NtsAuthenticator(
        NtsOptions("ntp.example.test", 4460, 0, (SIV,), 1e6),
        source,
        lambda severity, text: None,
        random_bytes=lambda size: uid[:size],
        monotonic_ns=lambda: 0,
    )
    auth.attach(source)
    auth.prepare(Now(0, 0, 0.0, 0))
    source.done(KeKeys(SIV, C2S, S2C, (GOOD_COOKIE,)), source.ke_address)
    assert auth.prepare(Now(0, 0, 0.0, 0))
    assert auth.seal(HEADER)
    return auth


@given(st.one_of(packets, st.binary(max_size=1200)))
@PACKETS
def test_answers_of_any_bytes(data):
    packet = parse(RESPONSE_HEAD + data[48:])
    assert packet is None or not client(bytes(32)).check(packet)


@given(st.lists(good_fields, max_size=4), st.binary(min_size=1, max_size=40), plain_fields)
@PACKETS
def test_answers_with_a_right_authenticator(parts, nonce, plain):
    start = RESPONSE_HEAD + b"".join(parts)
    packet = parse(start + auth_field(Aead(SIV, S2C), start, nonce, plain))
    auth = client(bytes(32))
    if packet is not None and auth.check(packet):
        assert field(UID, bytes(32)) in parts
        assert 1 <= auth.report(Now(0, 0, 0.0, 0)).cookies <= 8


AUTHORITY = Authority()
SERVICE = KeService(server_credentials(AUTHORITY.issue("ntp.example.test")), RING, (SIV,))
TRUST = Credentials()
TRUST.add_trust(AUTHORITY.pem)


@given(st.lists(st.binary(max_size=600), max_size=4))
@SESSIONS
def test_sessions_of_any_bytes(chunks):
    session = KeSession(SERVICE)
    for chunk in chunks:
        session.receive(chunk)
    session.receive(b"")
    assert session.outcome is KeOutcome.TLS_FAILED


@given(st.integers(0, 400), st.integers(0, 7), st.integers(1, 400))
@SESSIONS
def test_handshakes_with_a_flipped_bit(position, bit, cut):
    """In a whole session, one bit of what the client sends is wrong: there are never keys, and never a crash."""
    tls = Session(TRUST, b"ntske/1", server_side=False, peer_name="ntp.example.test")
    session = KeSession(SERVICE)
    seen = 0
    for _ in range(4):
        try:
            if tls.handshake():
                tls.write(b"\x80\1\0\2\0\0\0\4\0\2\0\x0f\x80\0\0\0")
        except TlsError:
            return
        data = bytearray(tls.out())
        if seen <= position < seen + len(data):
            data[position - seen] ^= 1 << bit
        seen += len(data)
        for start in range(0, len(data), cut):
            if answer := session.receive(bytes(data[start : start + cut])):
                tls.feed(answer)
        if session.outcome is not None:
            break
    # bytes beyond what was sent change nothing; some bits of the first record's version are ignored by TLS
    assert session.outcome is not KeOutcome.SERVED or position >= seen or position in range(1, 3)


records = st.builds(
    lambda kind, critical, body: struct.pack(">HH", kind | critical << 15, len(body)) + body,
    st.one_of(st.sampled_from([0, 1, 4, 1024]), st.integers(0, 0x7FFF)),
    st.booleans(),
    st.one_of(st.sampled_from([b"", b"\0\0", b"\0\x0f", b"\0\x1e", b"\0\x1e\0\x0f"]), st.binary(max_size=300)),
)


@given(st.lists(records, max_size=6).map(b"".join), st.lists(st.sampled_from([15, 30, 17]), max_size=3))
@PACKETS
def test_usual_requests_are_those_the_codec_grants(message, algorithms):
    """The quick way through a request never grants what the records' rules do not."""
    service = KeService(Credentials(), RING, algorithms)
    found = service.usual(message)
    if found is not None:
        assert service.decide(service.reader(), message) == (*found, b"", "")
