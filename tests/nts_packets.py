"""NTS requests and answers made and taken apart in plain Python, with nothing of ours but the AEAD."""

import struct

from ntpd_fast._aead import Aead, nonce_size

UID, COOKIE, PLACEHOLDER, AUTH = 0x0104, 0x0204, 0x0304, 0x0404
HEADER = bytes([0x23, 0, 6, 0x20]) + bytes(36) + b"\xe1\xe2\xe3\xe4\xa1\xa2\xa3\xa4"


def field(kind, body):
    return struct.pack(">HH", kind, 4 + len(body)) + body


def fields(packet, offset=48):
    """(type, offset, body) of every extension field."""
    found = []
    while offset < len(packet):
        kind, length = struct.unpack_from(">HH", packet, offset)
        assert length >= 16
        assert length % 4 == 0
        assert offset + length <= len(packet)
        found.append((kind, offset, packet[offset + 4 : offset + length]))
        offset += length
    return found


def pad4(data):
    return data + bytes(-len(data) % 4)


def auth_field(aead, ad, nonce, plain=b"", padding=0):
    sealed = aead.seal(nonce, ad, plain)
    return field(AUTH, struct.pack(">HH", len(nonce), len(sealed)) + pad4(nonce) + pad4(sealed) + bytes(padding))


def request(
    aead, cookie, *, uid=bytes(range(32)), placeholders=0, between=b"", nonce=None, plain=b"", header=HEADER, padding=0
):
    nonce = bytes(range(64, 64 + nonce_size(aead.algorithm))) if nonce is None else nonce
    start = (
        header
        + field(UID, uid)
        + field(COOKIE, cookie)
        + field(PLACEHOLDER, bytes(len(cookie))) * placeholders
        + between
    )
    return start + auth_field(aead, start, nonce, plain, padding)


def open_auth(aead, packet):
    """The decrypted fields of a packet's last field, an authenticator; None when it does not verify."""
    kind, offset, body = fields(packet)[-1]
    assert kind == AUTH
    nonce_length, sealed_length = struct.unpack_from(">HH", body)
    sealed_at = 4 + (nonce_length + 3) // 4 * 4
    assert sealed_at + sealed_length <= len(body)
    return aead.open(body[4 : 4 + nonce_length], packet[:offset], body[sealed_at : sealed_at + sealed_length])


def cookies(aead, packet):
    plain = open_auth(aead, packet)
    assert plain is not None
    found = fields(plain, 0)
    assert {kind for kind, _, _ in found} == {COOKIE}
    return [body for _, _, body in found]


__all__ = [
    "AUTH",
    "COOKIE",
    "HEADER",
    "PLACEHOLDER",
    "UID",
    "Aead",
    "auth_field",
    "cookies",
    "field",
    "fields",
    "open_auth",
    "request",
]
