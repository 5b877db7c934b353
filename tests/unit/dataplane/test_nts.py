"""The server's side of NTS on the NTP packet: chronyd's captured exchanges, cookies, tampering, limits."""

import gc
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from ntpd_fast._aead import Aead
from ntpd_fast._nts import KeyRing, Responder
from ntpd_fast._region import Mapping
from tests.nts_packets import (
    AUTH,
    COOKIE,
    HEADER,
    PLACEHOLDER,
    UID,
    auth_field,
    cookies,
    field,
    fields,
    open_auth,
    request,
)

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text())["nts_ntp"]
SIV, GCM_SIV = 15, 30
SIZES = {SIV: 32, GCM_SIV: 16}
RESPONSE_HEAD = bytes([0x24, 5, 6, 0xE7]) + bytes(44)
KOD_HEAD = bytes([0xE4, 0, 6, 0xE7]) + bytes(8) + b"NTSN" + bytes(32)


def ring_of(*algorithms, current=None):
    """A ring with keys 1, 2, ... of these algorithms; the last one is current unless told otherwise."""
    ring = KeyRing()
    keys = [(0x1000 + i, a, bytes([i + 1]) * SIZES[a]) for i, a in enumerate(algorithms)]
    ring.publish(keys, keys[-1 if current is None else current][0])
    return ring


def association(algorithm=SIV):
    c2s, s2c = (bytes([0x60 + i]) * SIZES[algorithm] for i in range(2))
    return c2s, s2c, Aead(algorithm, c2s), Aead(algorithm, s2c)


# mode and version are gates before this module
CASES = [case for case in VECTORS["cases"] if case["request"].startswith("23")]


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_chronyd_captures(case):
    """Every captured request, with a cookie of ours in it, gets the same kind and length of answer."""
    c2s, s2c = bytes.fromhex(VECTORS["c2s"]), bytes.fromhex(VECTORS["s2c"])
    captured = bytes.fromhex(case["request"])
    ring = ring_of(SIV, SIV)
    packet = bytearray(captured)
    replaced = 0
    # (captures that were not answered may not even parse as fields)
    for _, offset, body in [f for f in fields(captured) if f[0] == COOKIE] if case["response"] else []:
        if case["name"] != "nts bad cookie":
            packet[offset + 4 : offset + 4 + len(body)] = ring.make_cookie(SIV, c2s, s2c)
            replaced += 1
    packet = bytes(packet)
    if replaced and len(case["response"]) > 2 * 84:
        # the captured authenticator covered the captured cookie: seal the same nonce and fields again
        _, offset, body = fields(captured)[-1]
        nonce_length, sealed_length = struct.unpack_from(">HH", body)
        nonce = body[4 : 4 + nonce_length]
        sealed_at = 4 + (nonce_length + 3) // 4 * 4
        plain = open_auth(Aead(SIV, c2s), captured)
        assert plain is not None
        sealed = Aead(SIV, c2s).seal(nonce, packet[:offset], plain)
        packet = packet[: offset + 4 + sealed_at] + sealed + packet[offset + 4 + sealed_at + sealed_length :]
    responder = Responder(ring)
    outcome = responder.check(packet)
    expected = bytes.fromhex(case["response"]) if case["response"] else None
    if expected is None:
        assert outcome.startswith("drop")
        return
    if expected[1] == 0 and expected[12:16] == b"NTSN":
        assert outcome.startswith("nak")
        answer = responder.respond(KOD_HEAD)
        assert answer[48:] == expected[48:]
        return
    assert outcome == "ok"
    uid_offset = next(offset for kind, offset, _ in fields(expected) if kind == UID)
    answer = responder.respond(RESPONSE_HEAD + expected[48:uid_offset])
    assert len(answer) == len(expected)
    assert [(kind, offset, len(body)) for kind, offset, body in fields(answer)] == [
        (kind, offset, len(body)) for kind, offset, body in fields(expected)
    ]
    assert len(cookies(Aead(SIV, s2c), answer)) == len(cookies(Aead(SIV, s2c), expected))
    assert fields(answer)[-2][2] == fields(expected)[-2][2]


@pytest.mark.parametrize("server", [SIV, GCM_SIV])
@pytest.mark.parametrize("client", [SIV, GCM_SIV])
@pytest.mark.parametrize("placeholders", [0, 1, 7, 8])
def test_answer_has_the_length_of_the_request(server, client, placeholders):
    ring = ring_of(server)
    c2s, s2c, to_server, to_client = association(client)
    cookie = ring.make_cookie(client, c2s, s2c)
    assert (
        len(cookie) == {(SIV, SIV): 100, (SIV, GCM_SIV): 68, (GCM_SIV, SIV): 96, (GCM_SIV, GCM_SIV): 64}[server, client]
    )
    packet = request(to_server, cookie, placeholders=placeholders)
    responder = Responder(ring)
    assert responder.check(packet) == "ok"
    assert responder.cookies == min(8, placeholders + 1)
    answer = responder.respond(RESPONSE_HEAD, transmit=b"transmit")
    assert len(answer) == len(packet)
    assert answer[:48] == RESPONSE_HEAD[:40] + b"transmit"
    assert [kind for kind, _, _ in fields(answer)] == [UID, AUTH]
    assert fields(answer)[0][2] == fields(packet)[0][2]
    fresh = cookies(to_client, answer)
    assert len(fresh) == min(8, placeholders + 1)
    assert {len(c) for c in fresh} == {len(cookie)}
    for c in fresh:
        assert ring.open_cookie(c) == (client, c2s, s2c)
        assert responder.check(request(to_server, c)) == "ok"


def test_replays_are_answered_with_fresh_cookies():
    ring = ring_of(SIV)
    c2s, s2c, to_server, to_client = association()
    packet = request(to_server, ring.make_cookie(SIV, c2s, s2c), placeholders=7)
    responder = Responder(ring)
    seen = set()
    for _ in range(20):
        assert responder.check(packet) == "ok"
        seen.update(cookies(to_client, responder.respond(RESPONSE_HEAD)))
    assert len(seen) == 160


def test_any_flipped_bit_of_a_request_is_refused():
    """Exhaustive over one packet: what the authenticator covers, and the authenticator itself."""
    ring = ring_of(SIV)
    c2s, s2c, to_server, _ = association()
    packet = request(to_server, ring.make_cookie(SIV, c2s, s2c), placeholders=1)
    responder = Responder(ring)
    assert responder.check(packet) == "ok"
    for i in range(len(packet)):
        for bit in range(8):
            tampered = packet[:i] + bytes([packet[i] ^ 1 << bit]) + packet[i + 1 :]
            assert responder.check(tampered) != "ok", (i, bit)
    for length in range(48, len(packet)):
        assert responder.check(packet[:length]) != "ok"


def test_any_flipped_bit_of_an_answer_is_refused():
    ring = ring_of(SIV)
    c2s, s2c, to_server, to_client = association()
    responder = Responder(ring)
    assert responder.check(request(to_server, ring.make_cookie(SIV, c2s, s2c))) == "ok"
    answer = responder.respond(RESPONSE_HEAD)
    auth = fields(answer)[-1][1]
    assert open_auth(to_client, answer) is not None
    for i in [*range(auth), *range(auth + 8, len(answer))]:
        for bit in range(8):
            changed = answer[:i] + bytes([answer[i] ^ 1 << bit]) + answer[i + 1 :]
            nonce, sealed = changed[auth + 8 : auth + 24], changed[auth + 24 :]
            assert to_client.open(nonce, changed[:auth], sealed) is None


def test_a_request_with_the_keys_of_another_association_is_a_nak():
    ring = ring_of(SIV)
    c2s, s2c, _, _ = association()
    responder = Responder(ring)
    packet = request(Aead(SIV, bytes(32)), ring.make_cookie(SIV, c2s, s2c))
    assert responder.check(packet) == "nak-authenticator"
    answer = responder.respond(KOD_HEAD)
    assert answer == KOD_HEAD + field(UID, bytes(range(32)))
    assert len(answer) <= len(packet)


@pytest.mark.parametrize("length", [12, 16, 64, 96, 99 // 4 * 4, 104, 200])
def test_a_cookie_that_is_not_ours_is_a_nak(length):
    ring = ring_of(SIV, SIV, GCM_SIV, SIV)
    _, _, to_server, _ = association()
    for first in (b"\0\0\x10\0", b"\0\0\x10\2", os.urandom(4)):
        assert Responder(ring).check(request(to_server, first + bytes(length - 4))) == "nak-cookie"
        assert ring.open_cookie(first + bytes(length - 4)) is None
    for short in range(4):
        assert ring.open_cookie(bytes(short)) is None


def test_no_keys_no_answer():
    _, _, to_server, _ = association()
    ring = KeyRing()
    assert ring.sequence == 0
    assert Responder(ring).check(request(to_server, bytes(100))) == "drop-no-keys"
    assert ring.open_cookie(bytes(100)) is None
    with pytest.raises(ValueError, match="no NTS server keys"):
        ring.make_cookie(SIV, bytes(32), bytes(32))


def test_keys_rotate_under_the_clients():
    """A cookie lives as long as its key is among the four."""
    c2s, s2c, to_server, to_client = association()
    ring = KeyRing()
    keys = [(0x40 + i, SIV, bytes([i]) * 32) for i in range(12)]
    ring.publish(keys[0:4], keys[2][0])
    responder = Responder(ring)
    first = ring.make_cookie(SIV, c2s, s2c)
    assert first[:4] == b"\0\0\0\x42"
    for step in range(1, 3):
        ring.publish(keys[step : step + 4], keys[step + 2][0])
        assert responder.check(request(to_server, first)) == "ok"
        assert all(c[3] == 0x42 + step for c in cookies(to_client, responder.respond(RESPONSE_HEAD)))
    ring.publish(keys[3:7], keys[5][0])
    assert responder.check(request(to_server, first)) == "nak-cookie"


def test_a_cookie_that_grew_is_a_nak_not_silence():
    """Server keys went from GCM-SIV (96 bytes a cookie) to SIV (100): no room for one, room when there are others."""
    ring = ring_of(GCM_SIV)
    c2s, s2c, to_server, to_client = association()
    cookie = ring.make_cookie(SIV, c2s, s2c)
    ring.publish([(0x1000, GCM_SIV, b"\1" * 16), (0x1001, SIV, b"\2" * 32)], 0x1001)
    responder = Responder(ring)
    assert responder.check(request(to_server, cookie)) == "nak-cookie-size"
    assert responder.respond(KOD_HEAD)[48:] == field(UID, bytes(range(32)))
    packet = request(to_server, cookie, placeholders=2)
    assert responder.check(packet) == "ok"
    answer = responder.respond(RESPONSE_HEAD)
    assert len(answer) == len(packet)
    assert [len(c) for c in cookies(to_client, answer)] == [100, 100]


def test_optional_fields_that_the_request_did_not_carry_cost_cookies():
    ring = ring_of(SIV)
    c2s, s2c, to_server, to_client = association()
    packet = request(to_server, ring.make_cookie(SIV, c2s, s2c), placeholders=1)
    responder = Responder(ring)
    assert responder.check(packet) == "ok"
    answer = responder.respond(RESPONSE_HEAD + field(0xF323, bytes(24)))
    assert len(answer) == len(packet)
    assert len(cookies(to_client, answer)) == 1
    assert responder.check(request(to_server, ring.make_cookie(SIV, c2s, s2c))) == "ok"
    with pytest.raises(ValueError, match="no room"):
        responder.respond(RESPONSE_HEAD + field(0xF323, bytes(24)))


def parts():
    ring = ring_of(SIV)
    c2s, s2c, to_server, _ = association()
    uid = field(UID, bytes(32))
    cookie = field(COOKIE, ring.make_cookie(SIV, c2s, s2c))
    return ring, to_server, uid, cookie


def checked(ring, to_server, *parts_before, after=b"", nonce=bytes(16), plain=b"", padding=0):
    start = HEADER + b"".join(parts_before)
    return Responder(ring).check(start + auth_field(to_server, start, nonce, plain, padding) + after)


def test_fields_that_do_not_fit_together():
    ring, to_server, uid, cookie = parts()
    short = field(PLACEHOLDER, bytes(96))
    exact = field(PLACEHOLDER, bytes(100))
    assert checked(ring, to_server, uid, cookie) == "ok"
    assert checked(ring, to_server, cookie, uid) == "ok"
    assert checked(ring, to_server, exact, uid, cookie) == "ok"
    assert checked(ring, to_server, uid, cookie, field(0x7777, bytes(20))) == "ok"
    assert checked(ring, to_server, uid) == "drop-missing-field"
    assert checked(ring, to_server, cookie) == "drop-missing-field"
    assert Responder(ring).check(HEADER + uid + cookie) == "drop-missing-field"
    assert Responder(ring).check(HEADER) == "drop-missing-field"
    assert checked(ring, to_server, uid, uid, cookie) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, cookie) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, short) == "drop-malformed"
    assert checked(ring, to_server, short, uid, cookie) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, exact, short) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, after=field(0x7777, bytes(24))) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, after=bytes(20)) == "drop-malformed"


def test_encrypted_fields_of_a_request():
    ring, to_server, uid, cookie = parts()
    exact = field(PLACEHOLDER, bytes(100))
    assert checked(ring, to_server, uid, cookie, plain=exact + field(0x7777, bytes(12))) == "ok"
    assert checked(ring, to_server, uid, cookie, plain=field(PLACEHOLDER, bytes(96))) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, plain=exact[:-1]) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, plain=exact + b"\0\0") == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, plain=struct.pack(">HH", 0x7777, 8) + bytes(4)) == "ok"
    assert checked(ring, to_server, uid, cookie, plain=struct.pack(">HH", 0x7777, 2) + bytes(4)) == "drop-malformed"
    assert checked(ring, to_server, uid, cookie, plain=struct.pack(">HH", 0x7777, 0) + bytes(12)) == "drop-malformed"


@pytest.mark.parametrize(
    ("nonce", "padding", "outcome"),
    [
        (16, 0, "ok"),
        (32, 0, "ok"),
        (13, 0, "ok"),
        (12, 0, "nak-authenticator"),
        (12, 4, "ok"),
        (1, 8, "nak-authenticator"),
        (1, 12, "ok"),
        (12, 8, "ok"),
    ],
)
def test_a_short_nonce_needs_padding(nonce, padding, outcome):
    ring, to_server, uid, cookie = parts()
    assert checked(ring, to_server, uid, cookie, nonce=bytes(nonce), padding=padding) == outcome


def test_lengths_inside_the_authenticator():
    """No length of nonce or ciphertext, however large, reads outside the field."""
    ring, to_server, uid, cookie = parts()
    start = HEADER + uid + cookie
    body = bytearray(auth_field(to_server, start, bytes(16)))
    for at in (4, 6):
        for value in (0, 1, 15, 17, 20, 32, 36, 0xFFFC, 0xFFFF):
            changed = bytearray(body)
            struct.pack_into(">H", changed, at, value)
            assert Responder(ring).check(bytes(start + changed)) == "nak-authenticator"


def test_longest_packet():
    ring, to_server, uid, cookie = parts()
    filler = 1140 - len(HEADER + uid + cookie) - 40
    assert checked(ring, to_server, uid, cookie, field(0x7777, bytes(filler - 4))) == "ok"
    assert checked(ring, to_server, uid, cookie, field(0x7777, bytes(filler))) == "drop-malformed"
    assert Responder(ring).check(bytes(70000)) == "drop-malformed"
    assert Responder(ring).check(b"") == "drop-missing-field"


def test_longest_uid_leaves_room():
    ring, to_server, _, cookie = parts()
    filler = 1140 - len(HEADER + cookie) - 40
    responder = Responder(ring)
    start = HEADER + field(UID, bytes(filler - 4)) + cookie
    packet = start + auth_field(to_server, start, bytes(16))
    assert responder.check(packet) == "ok"
    assert len(responder.respond(RESPONSE_HEAD)) == len(packet) == 1140


def test_nothing_of_one_request_shows_up_in_another():
    """Cookies, UID and nonce of a client's requests share nothing an observer could link them by (RFC 8915 §9.1)."""
    ring = ring_of(SIV)
    c2s, s2c, to_server, to_client = association()
    responder = Responder(ring)
    cookie = ring.make_cookie(SIV, c2s, s2c)
    seen = set()
    for _ in range(300):
        packet = request(to_server, cookie, uid=os.urandom(32), nonce=os.urandom(16))
        secret = b"".join(
            body[4:] if kind == COOKIE else body[4 * (kind == AUTH) :] for kind, _, body in fields(packet)
        )
        windows = {secret[i : i + 8] for i in range(len(secret) - 7)}
        assert seen.isdisjoint(windows)
        seen |= windows
        assert responder.check(packet) == "ok"
        [cookie] = cookies(to_client, responder.respond(RESPONSE_HEAD))


def nonces_of(to_client, answer):
    """The nonces of an answer: its own and those of its cookies."""
    plain = open_auth(to_client, answer)
    cookie = np.frombuffer(plain, np.uint8).reshape(-1, 104)[:, 8:24]
    own = np.frombuffer(fields(answer)[-1][2], np.uint8)[4:20]
    return np.vstack([cookie, own])


def assert_nonces_do_not_repeat(answers):
    ring = ring_of(SIV)
    c2s, s2c, to_server, to_client = association()
    packet = request(to_server, ring.make_cookie(SIV, c2s, s2c), placeholders=7)
    responder = Responder(ring)
    found = np.empty((answers, 9, 16), np.uint8)
    for i in range(answers):
        responder.check(packet)
        found[i] = nonces_of(to_client, responder.respond(RESPONSE_HEAD))
    nonces = np.sort(found.reshape(-1, 16).view([("high", ">u8"), ("low", ">u8")]).ravel())
    assert len(nonces) == 9 * answers
    assert not np.any(nonces[1:] == nonces[:-1])


def test_nonces_do_not_repeat():
    assert_nonces_do_not_repeat(5_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_million_nonces_do_not_repeat():
    assert_nonces_do_not_repeat(1_111_112)


def test_a_request_costs_no_memory():
    ring = ring_of(SIV)
    c2s, s2c, to_server, _ = association()
    packet = request(to_server, ring.make_cookie(SIV, c2s, s2c), placeholders=1)
    responder = Responder(ring)
    responder.repeat(packet, RESPONSE_HEAD, 10)
    before = sys.getallocatedblocks()
    assert responder.repeat(packet, RESPONSE_HEAD, 100_000) == 100_000
    assert sys.getallocatedblocks() - before < 10
    assert responder.repeat(packet[:-4] + bytes(4), RESPONSE_HEAD, 10) == 0


def test_publish_refuses_what_is_no_key_ring():
    ring = KeyRing()
    key = (4, SIV, bytes(32))
    for keys, current in [
        ([], 4),
        ([key, (8, SIV, bytes(32))], 4),
        ([(4, SIV, bytes(16))], 4),
        ([(4, 16, b"")], 4),
        ([key], 5),
        ([key], 8),
    ]:
        with pytest.raises(ValueError):
            ring.publish(keys, current)
    assert ring.sequence == 0
    with pytest.raises(ValueError):
        ring_of(SIV).make_cookie(SIV, bytes(16), bytes(16))
    with pytest.raises(ValueError):
        ring_of(SIV).make_cookie(SIV, bytes(32), bytes(16))


def test_a_forked_child_does_not_repeat_its_parents_nonces():
    ring = ring_of(SIV)
    ring.make_cookie(SIV, bytes(32), bytes(32))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"".join(ring.make_cookie(SIV, bytes(32), bytes(32)) for _ in range(100)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        theirs = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    ours = {ring.make_cookie(SIV, bytes(32), bytes(32)) for _ in range(100)}
    assert len(theirs) == 10000
    assert ours.isdisjoint({theirs[i : i + 100] for i in range(0, 10000, 100)})


def test_a_ring_in_shared_memory_survives_the_garbage_collector():
    """It must not be taken for private memory when its mapping has been collected before it."""

    class Holder:
        pass

    fd = os.memfd_create("ring")
    os.ftruncate(fd, 65536)
    holder = Holder()
    holder.ring, holder.itself = KeyRing(Mapping(fd, 65536, True)), holder
    holder.ring.publish([(5, SIV, bytes(32))], 5)
    del holder
    gc.collect()
    assert os.pread(fd, 8, 0) != bytes(8)
    os.close(fd)
