"""Symmetric keys against recorded MACs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ntpd_fast.client.auth import (
    AuthMode,
    NoAuthentication,
    SymmetricAuthenticator,
    digest_length,
)
from ntpd_fast.client.packet import Packet, parse
from ntpd_fast.client.stamps import Now
from ntpd_fast.config.keyfile import KeyType, SymmetricKey

NOW = Now(0, 0, 0.0, 0)
VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text(encoding="utf-8")
)
TYPES = {
    "1": KeyType.MD5,
    "2": KeyType.SHA1,
    "3": KeyType.SHA256,
    "4": KeyType.SHA512,
    "5": KeyType.AES128,
    "6": KeyType.AES256,
    "7": KeyType.SHA384,
    "8": KeyType.SHA3_256,
}
KEYS = {
    int(number): SymmetricKey(int(number), TYPES[number], bytes.fromhex(key["key_hex"]))
    for number, key in VECTORS["_about"]["keys"].items()
}


def parsed(data: bytes) -> Packet:
    packet = parse(data)
    assert packet is not None
    return packet


@pytest.mark.parametrize("vector", VECTORS["macs"]["vectors"], ids=lambda v: f"v{v['version']} key {v['key_id']}")
def test_recorded_macs(vector: dict[str, Any]) -> None:
    header, mac = bytes.fromhex(vector["header"]), bytes.fromhex(vector["sent_mac"])
    auth = SymmetricAuthenticator(KEYS, vector["key_id"])
    assert auth.seal(header) == header + mac
    assert auth.check(parsed(header + mac))
    # what is cut to a MAC that parses but isn't complete
    for length in range(20, len(mac), 4):
        packet = parse(header + mac[:length])
        assert packet is None or not auth.check(packet)
    broken = bytearray(header + mac)
    broken[-1] ^= 1
    assert not auth.check(parsed(bytes(broken)))
    broken[-1] ^= 1
    broken[40] ^= 1
    assert not auth.check(parsed(bytes(broken)))


def test_another_known_key_is_not_ours() -> None:
    header = bytes.fromhex(VECTORS["packets_fixed"]["client_v4_minimal"])
    sealed = SymmetricAuthenticator(KEYS, 2).seal(header)
    assert sealed is not None
    assert SymmetricAuthenticator(KEYS, 2).check(parsed(sealed))
    assert not SymmetricAuthenticator(KEYS, 1).check(parsed(sealed))


def test_unauthenticated_packets_and_naks_are_not_believed() -> None:
    auth = SymmetricAuthenticator(KEYS, 1)
    header = bytes.fromhex(VECTORS["packets_fixed"]["client_v4_minimal"])
    assert not auth.check(parsed(header))
    assert not auth.check(parsed(bytes.fromhex(VECTORS["packets_fixed"]["crypto_nak_v4"])))


def test_a_missing_key_fails_closed() -> None:
    auth = SymmetricAuthenticator({}, 9)
    header = bytes.fromhex(VECTORS["packets_fixed"]["client_v4_minimal"])
    assert auth.seal(header) is None
    assert not auth.check(parsed(header + b"\0\0\0\x09" + bytes(16)))
    report = auth.report(NOW)
    assert (report.mode, report.key_id, report.key_type, report.key_length_bits) == (AuthMode.SYMMETRIC, 9, 0, 0)


def test_long_digests_choose_version_3() -> None:
    assert SymmetricAuthenticator(KEYS, 1).default_version == 4
    assert SymmetricAuthenticator(KEYS, 2).default_version == 4
    assert SymmetricAuthenticator(KEYS, 3).default_version == 3
    assert SymmetricAuthenticator(KEYS, 5).default_version == 4


@pytest.mark.parametrize(
    ("number", "key_type", "bits", "length"), [(1, 1, 128, 16), (3, 3, 256, 32), (5, 13, 128, 16), (6, 14, 256, 16)]
)
def test_report(number: int, key_type: int, bits: int, length: int) -> None:
    report = SymmetricAuthenticator(KEYS, number).report(NOW)
    assert (report.key_type, report.key_length_bits) == (key_type, bits)
    assert digest_length(KEYS[number]) == length


def test_without_authentication_a_mac_is_refused() -> None:
    auth = NoAuthentication()
    header = bytes.fromhex(VECTORS["packets_fixed"]["client_v4_minimal"])
    assert auth.seal(header) == header
    assert auth.check(parsed(header))
    assert not auth.check(parsed(header + b"\0\0\0\1" + bytes(16)))
    assert auth.report(NOW).mode is AuthMode.NONE
