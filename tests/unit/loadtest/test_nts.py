"""NTS of the load generator: records, sealed requests, and what it accepts as an answer."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from loadtest import nts
from loadtest.nts import KeyExchangeError, Session, record
from loadtest.requests import header

SESSION = Session(bytes(range(32)), bytes(range(32, 64)), (b"c" * 100, b"d" * 100))
PROTOCOL = record(nts.NEXT_PROTOCOL, b"\0\0")
AEAD = record(nts.AEAD, b"\0\x0f")
COOKIE = record(nts.COOKIE, b"c" * 100, critical=False)
END = record(nts.END_OF_MESSAGE, b"")


def test_cookies_of_one_length_are_taken_from_a_response() -> None:
    other = record(nts.COOKIE, b"x" * 64, critical=False)
    assert nts.parse_response(PROTOCOL + AEAD + COOKIE + other + COOKIE + END) == (b"c" * 100,) * 2


@pytest.mark.parametrize(
    "response",
    [
        b"",
        PROTOCOL + AEAD + END,
        PROTOCOL + COOKIE + END,
        AEAD + COOKIE + END,
        record(nts.NEXT_PROTOCOL, b"") + AEAD + COOKIE + END,
        PROTOCOL + record(nts.AEAD, b"\0\x1e") + COOKIE + END,
        PROTOCOL + AEAD + record(nts.ERROR, b"\0\1") + END,
        record(nts.WARNING, b"\0\1") + END,
    ],
)
def test_a_response_without_what_is_needed_is_refused(response: bytes) -> None:
    with pytest.raises(KeyExchangeError):
        nts.parse_response(response)


def test_a_response_is_complete_with_its_last_record() -> None:
    whole = PROTOCOL + AEAD + COOKIE + END
    assert nts.complete(whole)
    assert not any(nts.complete(whole[:size]) for size in range(len(whole)))


def test_a_bank_holds_sealed_requests() -> None:
    requests, size = nts.sealed_bank(4, 5, SESSION)
    assert size == 228
    for index in range(4):
        request = requests[index * size : (index + 1) * size]
        sealed = request[-40:]
        assert struct.unpack("!HHHH", sealed[:8]) == (nts.AUTHENTICATOR, 40, 16, 16)
        assert AESSIV(SESSION.c2s).decrypt(sealed[24:], [request[:-40], sealed[8:24]]) == b""
        assert request[88:188] == SESSION.cookies[index % 2]


def sealed_answer(request: bytes) -> bytes:
    """What a server makes of a request: header, its unique identifier, an encrypted new cookie."""
    message = header(1) + request[48:84]
    nonce = bytes(16)
    plain = nts.extension(nts.NTS_COOKIE, b"e" * 100)
    sealed = AESSIV(SESSION.s2c).encrypt(plain, [message, nonce])
    return message + nts.extension(nts.AUTHENTICATOR, struct.pack("!HH", 16, len(sealed)) + nonce + sealed)


def test_only_the_untouched_answer_to_that_request_holds() -> None:
    request = nts.seal(SESSION, header(1), SESSION.cookies[0])
    answer = sealed_answer(request)
    assert len(answer) == len(request)
    assert nts.answer_holds(SESSION, request, answer)
    assert not nts.answer_holds(SESSION, nts.seal(SESSION, header(1), SESSION.cookies[0]), answer)
    assert not nts.answer_holds(SESSION, request, answer[:48])
    for position in range(len(answer)):
        spoilt = bytearray(answer)
        spoilt[position] ^= 1
        assert not nts.answer_holds(SESSION, request, bytes(spoilt)), position
