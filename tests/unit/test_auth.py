"""Symmetric MACs: the recorded vectors, hashlib and cryptography as independent peers, and every wrong length."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._auth import ALGORITHMS, KeyTable, KeyTableFull, build_key_table, key_table_size
from ntpd_fast.config.keyfile import SUPPORTED, KeyType

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "ntp_vectors.json").read_text())
TYPE_NAMES = {"md5": "MD5", "sha1": "SHA1", "sha256": "SHA256", "sha384": "SHA384", "sha512": "SHA512"}
TYPE_NAMES |= {"sha3_256": "SHA3-256"}
HASHLIB = {name: name.lower().replace("-", "_") for name in ALGORITHMS if not name.startswith("AES")}
SIZE_MAX = 1 << 20

Key = tuple[int, str, bytes]


def vector_keys() -> list[Key]:
    keys = []
    for key_id, row in VECTORS["_about"]["keys"].items():
        value = bytes.fromhex(row["key_hex"])
        keys.append((int(key_id), TYPE_NAMES.get(row["type"], f"AES{8 * len(value)}"), value))
    return keys


def reference_digest(name: str, key: bytes, data: bytes) -> bytes:
    """The digest without nettle."""
    if name in HASHLIB:
        return hashlib.new(HASHLIB[name], key + data).digest()
    mac = CMAC(AES(key))
    mac.update(data)
    return mac.finalize()


def table(keys: list[Key]) -> KeyTable:
    return KeyTable(build_key_table(keys, SIZE_MAX))


def a_key(name: str) -> bytes:
    return bytes(range(32 if name == "AES256" else 16))


def header(version: int) -> bytes:
    return bytes([version << 3 | 3]) + bytes(range(1, 48))


@pytest.mark.parametrize("vector", VECTORS["macs"]["vectors"], ids=lambda v: f"v{v['version']}-{v['alg']}")
def test_recorded_macs(vector: dict[str, object]) -> None:
    keys = table(vector_keys())
    packet, mac = bytes.fromhex(str(vector["header"])), bytes.fromhex(str(vector["sent_mac"]))
    key_id = int(str(vector["key_id"]))
    assert keys.sign(packet, key_id) == packet + mac
    assert keys.check(packet + mac, 48) == key_id
    assert keys.mac_length(key_id, int(str(vector["version"]))) == len(mac)
    assert keys.digest_length(key_id) == vector["digest_len"]


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [48, 76, 100, 1072])
def test_against_independent_implementations(name: str, version: int, length: int) -> None:
    packet = header(version) + bytes(i & 0xFF for i in range(length - 48))
    digest = reference_digest(name, a_key(name), packet)
    sent = digest[:20] if version == 4 else digest
    keys = table([(0x01020304, name, a_key(name))])
    assert keys.sign(packet, 0x01020304) == packet + b"\x01\x02\x03\x04" + sent
    assert keys.check(packet + b"\x01\x02\x03\x04" + sent, length) == 0x01020304


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(HASHLIB)), st.binary(min_size=1, max_size=600), st.binary(min_size=1, max_size=300))
def test_keys_of_any_length(name: str, key: bytes, packet: bytes) -> None:
    version = packet[0] >> 3 & 7
    digest = reference_digest(name, key, packet)
    sent = digest[:20] if version >= 4 else digest
    assert table([(1, name, key)]).sign(packet, 1) == packet + b"\0\0\0\x01" + sent


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("version", [3, 4])
def test_a_mac_of_any_other_length_is_refused(name: str, version: int) -> None:
    """Truncated digests too: a 16-byte piece of SHA1 is no MAC."""
    packet = header(version)
    keys = table([(7, name, a_key(name))])
    digest = reference_digest(name, a_key(name), packet) + bytes(16)
    right = keys.mac_length(7, version) - 4
    accepted = [length for length in range(len(digest) + 1) if keys.check(packet + b"\0\0\0\x07" + digest[:length], 48)]
    assert accepted == [right]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_any_flipped_bit_is_refused(name: str) -> None:
    keys = table([(7, name, a_key(name)), (6, name, a_key(name)[::-1])])
    signed = keys.sign(header(4), 7)
    for bit in range(8 * len(signed)):
        if bit < 8 and bit >= 3:
            continue  # the version decides about the length; below
        damaged = bytearray(signed)
        damaged[bit // 8] ^= 1 << (bit % 8)
        assert keys.check(damaged, 48) is None
    assert keys.check(signed, 48) == 7


def test_another_version_is_another_packet() -> None:
    keys = table([(7, "MD5", a_key("MD5"))])
    signed = keys.sign(header(4), 7)
    for version in (0, 1, 2, 3, 5, 6, 7):
        assert keys.check(bytes([version << 3 | 3]) + signed[1:], 48) is None


def test_key_0_unknown_keys_and_crypto_naks_are_refused() -> None:
    keys = table([(1, "MD5", b"key")])
    digest = reference_digest("MD5", b"key", header(4))
    assert keys.check(header(4) + b"\0\0\0\x01" + digest, 48) == 1
    assert keys.check(header(4) + b"\0\0\0\x00" + digest, 48) is None
    assert keys.check(header(4) + b"\0\0\0\x02" + digest, 48) is None
    assert keys.check(header(4) + bytes(4), 48) is None


def test_mac_starts_outside_the_packet_are_refused() -> None:
    keys = table([(1, "MD5", b"key")])
    signed = keys.sign(header(4), 1)
    for start in (0, 1, 47, 49, len(signed) - 4, len(signed) - 3, len(signed), len(signed) + 1, 0xFFFFFFFF):
        assert keys.check(signed, start) is None
    for length in range(4):
        assert keys.check(signed[:length], 0) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1200), st.integers(0, 1300))
def test_garbage_is_refused(packet: bytes, start: int) -> None:
    keys = table(vector_keys())
    assert keys.check(packet, start) is None


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 1000])
def test_every_key_is_found_among_others(count: int) -> None:
    keys = [(3 * i + 1, "MD5" if i % 2 else "AES128", struct.pack(">Q", i) * 2) for i in range(count)]
    found = table(keys[::-1])
    assert len(found) == count
    for key_id, name, value in keys:
        assert key_id in found
        assert key_id + 1 not in found
        digest = reference_digest(name, value, header(3))
        assert found.check(header(3) + struct.pack(">I", key_id) + digest, 48) == key_id
    assert 0 not in found
    assert 0xFFFFFFFF not in found
    with pytest.raises(KeyError):
        found.sign(header(4), 3 * count + 5)


def test_the_largest_key_id() -> None:
    keys = table([(0xFFFFFFFF, "SHA1", b"x"), (1, "SHA1", b"y")])
    assert keys.check(keys.sign(header(4), 0xFFFFFFFF), 48) == 0xFFFFFFFF


def test_a_table_beyond_its_room_says_so() -> None:
    keys = [(i + 1, "SHA256", b"secret") for i in range(100)]
    size = key_table_size(keys)
    assert len(build_key_table(keys, size)) == size
    with pytest.raises(KeyTableFull, match=f"100 keys need {size} bytes, {size - 1} are available"):
        build_key_table(keys, size - 1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([(0, "MD5", b"k")], "key id 0 is not in 1 to 4294967295"),
        ([(1 << 32, "MD5", b"k")], "key id 4294967296 is not in"),
        ([(5, "MD5", b"k"), (5, "SHA1", b"k")], "key 5 is there twice"),
        ([(5, "MD5", b"")], "key 5 is empty"),
        ([(5, "AES128", bytes(15))], "key 5 has 15 bytes, AES128 needs 16"),
        ([(5, "AES256", bytes(16))], "key 5 has 16 bytes, AES256 needs 32"),
        ([(5, "TIGER", b"k")], "no such key type: TIGER"),
    ],
)
def test_keys_that_are_no_keys_are_refused(keys: list[Key], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_key_table(keys, SIZE_MAX)


@pytest.mark.parametrize("key_type", sorted(SUPPORTED))
def test_every_type_the_key_file_takes_can_be_used(key_type: KeyType) -> None:
    keys = table([(1, key_type, a_key(key_type))])
    assert keys.check(keys.sign(header(4), 1), 48) == 1


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_tables_are_refused(data: st.DataObject) -> None:
    built = bytearray(build_key_table(vector_keys(), SIZE_MAX))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 63), st.integers(0, len(built) - 1)))
        built[at] ^= data.draw(st.integers(1, 255))
    if bytes(built) != build_key_table(vector_keys(), SIZE_MAX):
        with pytest.raises(ValueError):
            KeyTable(built)


@pytest.mark.parametrize("cut", [0, 1, 40, 64, -16, -1])
def test_short_tables_are_refused(cut: int) -> None:
    with pytest.raises(ValueError):
        KeyTable(build_key_table(vector_keys(), SIZE_MAX)[:cut])
