"""Prebuilt requests: MACs against independent figures, banks against the nonces they must carry."""

import struct

import pytest

from loadtest import _numbers
from loadtest.client import Load, client
from loadtest.requests import Key, bank, digest, header, mac, mac_holds, signed_bank
from tests.unit.loadtest.scripted import answer, scripted

KEYS = [
    Key(1, "MD5", b"a" * 16),
    Key(2, "SHA1", b"b" * 20),
    Key(3, "SHA256", b"c" * 32),
    Key(4, "AES128", b"d" * 16),
    Key(5, "AES256", b"e" * 32),
    Key(0xFFFFFFFF, "SHA512", b"f" * 64),
]


def test_aes_cmac_is_that_of_rfc_4493() -> None:
    key = Key(1, "AES128", bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    assert digest(key, message).hex() == "070a16b46b4d4144f79bdd9dd04a287c"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.type)
def test_an_ntpv4_mac_is_no_longer_than_rfc_7822_allows(key: Key) -> None:
    made = mac(key, header(1))
    assert made[:4] == struct.pack("!I", key.id)
    assert 20 <= len(made) <= 24
    assert digest(key, header(1)).startswith(made[4:])


def test_an_ntpv3_mac_carries_the_whole_digest() -> None:
    assert len(mac(KEYS[2], header(1, version=3))) == 36


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.type)
def test_a_mac_holds_until_a_bit_changes(key: Key) -> None:
    datagram = header(7) + mac(key, header(7))
    assert mac_holds(key, datagram)
    for position in range(len(datagram)):
        spoilt = bytearray(datagram)
        spoilt[position] ^= 0x10
        if position:  # a bit of the version changes how long the MAC should be
            assert not mac_holds(key, bytes(spoilt))


def test_the_key_file_line_is_one_that_servers_read() -> None:
    assert Key(4, "AES128", bytes(16)).line() == "4 AES128 HEX:" + "00" * 16


@pytest.mark.parametrize(
    ("number", "kind", "size"),
    [(0, "MD5", 16), (2**32, "MD5", 16), (1, "MD4", 16), (1, "AES128", 32), (1, "AES256", 16)],
)
def test_impossible_keys_are_refused(number: int, kind: str, size: int) -> None:
    with pytest.raises(ValueError):
        Key(number, kind, bytes(size))


def test_each_request_of_a_bank_carries_its_nonce() -> None:
    requests, size = signed_bank(16, 99, KEYS[2])
    assert (size, len(requests)) == (72, 16 * 72)
    for index in range(16):
        one = requests[index * size : (index + 1) * size]
        assert mac_holds(KEYS[2], one)
        (transmit,) = struct.unpack("=Q", one[40:48])
        assert _numbers.from_nonce(transmit, 99) == (index, 0)


def test_requests_of_different_size_make_no_bank() -> None:
    with pytest.raises(ValueError):
        bank(2, 1, lambda index, plain: plain + bytes(index))


@pytest.mark.parametrize("segments", [1, 4])
def test_a_bank_is_sent_round_and_round_and_its_answers_are_kept_for_checking(segments: int) -> None:
    key = KEYS[3]
    load = Load(bank=lambda seed: signed_bank(16, seed, key), segments=segments)

    def script(request: bytes, _: int) -> list[bytes]:
        assert mac_holds(key, request)
        plain = answer(request[:48])
        return [plain + mac(key, plain)]

    with scripted(script) as where, client(where, load) as sender:
        result = sender.run(30.0, window=segments, limit=40, timeout_s=5, sleep=True)
        assert result.counters["answered"] == result.counters["sent"] == 40
        assert not result.wrong
        for sequence, datagram in result.samples:
            assert mac_holds(key, datagram)
            assert sender.request(sequence)[40:48] == datagram[24:32]
        assert result.samples
