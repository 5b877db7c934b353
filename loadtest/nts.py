"""NTS requests (RFC 8915): one key exchange with the server, then a bank of requests sealed with its keys.

Cookies are used again and again, which a client must never do (it makes its requests linkable) and a server, being
stateless, does not notice. The certificate is not verified: this measures a server, it does not trust it.
Only AEAD_AES_SIV_CMAC_256 is offered, which every implementation has.
"""

import secrets
import socket
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from loadtest.requests import HEADER_SIZE, bank, header
from loadtest.targets import Target

ALPN = b"ntske/1"
EXPORTER = b"EXPORTER-network-time-security"
AEAD_AES_SIV_CMAC_256 = 15
KEY_SIZE = 32
NONCE_SIZE = 16
TAG_SIZE = 16
TIMEOUT_S = 5.0
RESPONSE_MAX = 16384

CRITICAL = 0x8000
END_OF_MESSAGE, NEXT_PROTOCOL, ERROR, WARNING, AEAD, COOKIE = range(6)
UNIQUE_IDENTIFIER, NTS_COOKIE, AUTHENTICATOR = 0x0104, 0x0204, 0x0404


class KeyExchangeError(RuntimeError):
    """The server did not complete the key exchange."""


@dataclass(frozen=True)
class Session:
    """What a key exchange gives: keys client to server and server to client, and cookies of one length."""

    c2s: bytes
    s2c: bytes
    cookies: tuple[bytes, ...]


def record(kind: int, body: bytes, critical: bool = True) -> bytes:
    return struct.pack("!HH", kind | (CRITICAL if critical else 0), len(body)) + body


REQUEST = (
    record(NEXT_PROTOCOL, struct.pack("!H", 0))
    + record(AEAD, struct.pack("!H", AEAD_AES_SIV_CMAC_256))
    + record(END_OF_MESSAGE, b"")
)


def parse_response(message: bytes) -> tuple[bytes, ...]:
    """The cookies of a complete response. KeyExchangeError when it offers anything but what was asked for."""
    cookies: list[bytes] = []
    protocol = aead = False
    at = 0
    while at + 4 <= len(message):
        kind, size = struct.unpack_from("!HH", message, at)
        body = message[at + 4 : at + 4 + size]
        at += 4 + size
        match kind & ~CRITICAL:
            case 0:  # END_OF_MESSAGE
                break
            case 1:  # NEXT_PROTOCOL
                protocol = body == struct.pack("!H", 0)
            case 2 | 3:  # ERROR, WARNING
                raise KeyExchangeError(f"record {kind & ~CRITICAL}, code {int.from_bytes(body, 'big')}")
            case 4:  # AEAD
                aead = body == struct.pack("!H", AEAD_AES_SIV_CMAC_256)
            case 5:  # COOKIE
                cookies.append(body)
    if not (protocol and aead and cookies):
        raise KeyExchangeError("no NTPv4, no AES-SIV-CMAC-256 or no cookies in the response")
    return tuple(cookie for cookie in cookies if len(cookie) == len(cookies[0]))


def complete(message: bytes) -> bool:
    """Does the message end with an End of Message record?"""
    at = 0
    while at + 4 <= len(message):
        kind, size = struct.unpack_from("!HH", message, at)
        at += 4 + size
        if kind & ~CRITICAL == END_OF_MESSAGE:
            return True
    return False


def exchange_keys(where: Target) -> Session:
    """One NTS-KE session. KeyExchangeError when it fails; needs pyOpenSSL, which can export keys."""
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    context.set_alpn_protos([ALPN])
    with socket.create_connection((str(where.address), where.port), TIMEOUT_S) as raw:
        raw.setblocking(True)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the request follows the handshake's last flight
        timeout = struct.pack("ll", int(TIMEOUT_S), 0)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        tls = SSL.Connection(context, raw)
        tls.set_connect_state()
        try:
            tls.do_handshake()
            if tls.get_alpn_proto_negotiated() != ALPN:
                raise KeyExchangeError("the server does not speak ntske/1")
            tls.sendall(REQUEST)
            message = b""
            while not complete(message) and len(message) < RESPONSE_MAX:
                message += tls.recv(4096)
            cookies = parse_response(message)
            exported = [
                tls.export_keying_material(EXPORTER, KEY_SIZE, struct.pack("!HHB", 0, AEAD_AES_SIV_CMAC_256, direction))
                for direction in (0, 1)
            ]
            tls.shutdown()
        except SSL.Error as error:
            raise KeyExchangeError(f"TLS: {error!r}") from error
    return Session(exported[0], exported[1], cookies)


def extension(kind: int, body: bytes) -> bytes:
    """One extension field; its body must be a multiple of 4 bytes."""
    return struct.pack("!HH", kind, len(body) + 4) + body


def seal(session: Session, plain: bytes, cookie: bytes) -> bytes:
    """A request with unique identifier, cookie and authenticator after the header `plain`."""
    message = plain + extension(UNIQUE_IDENTIFIER, secrets.token_bytes(32)) + extension(NTS_COOKIE, cookie)
    nonce = secrets.token_bytes(NONCE_SIZE)
    sealed = AESSIV(session.c2s).encrypt(b"", [message, nonce])
    return message + extension(AUTHENTICATOR, struct.pack("!HH", NONCE_SIZE, len(sealed)) + nonce + sealed)


def answer_holds(session: Session, request: bytes, datagram: bytes) -> bool:
    """Is it the sealed answer to that request: its unique identifier, a valid authenticator, a new cookie?"""
    at = HEADER_SIZE
    identified = False
    while at + 4 <= len(datagram):
        kind, size = struct.unpack_from("!HH", datagram, at)
        if size < 4 or at + size > len(datagram):
            return False
        if kind == UNIQUE_IDENTIFIER:
            identified = datagram[at : at + size] == request[HEADER_SIZE : HEADER_SIZE + size]
        if kind == AUTHENTICATOR and size >= 8 + NONCE_SIZE + TAG_SIZE:
            nonce_size, sealed_size = struct.unpack_from("!HH", datagram, at + 4)
            nonce = datagram[at + 8 : at + 8 + nonce_size]
            start = at + 8 + (nonce_size + 3) // 4 * 4
            if start + sealed_size > at + size or at + size != len(datagram):
                return False
            try:
                opened = AESSIV(session.s2c).decrypt(datagram[start : start + sealed_size], [datagram[:at], nonce])
            except InvalidTag:
                return False
            return identified and opened[:2] == struct.pack("!H", NTS_COOKIE)
        at += size
    return False


def sealed_bank(count: int, seed: int, session: Session) -> tuple[bytes, int]:
    """Requests of one session, its cookies in turn."""
    cookies = session.cookies
    return bank(count, seed, lambda index, plain: seal(session, plain, cookies[index % len(cookies)]))


def templates(count: int, session: Session) -> tuple[bytes, int]:
    """Requests to be completed as they are sent (`Load.seal_key`), the session's cookies in turn."""
    cookies = session.cookies
    built = [seal(session, header(0), cookies[index % len(cookies)]) for index in range(count)]
    return b"".join(built), len(built[0])
