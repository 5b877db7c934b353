"""Packets against recorded vectors, and against noise."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ntpd_fast.client.packet import (
    FIELD_MONO_ROOT,
    HEADER_LENGTH,
    MAX_PACKET_LENGTH,
    NO_PRECISION,
    Header,
    Mode,
    MonoRoot,
    PacketAuth,
    from_28,
    from_short,
    fuzz_mask,
    ns_to_ntp64,
    ntp64_diff_s,
    ntp64_to_ns,
    pack_mono_root,
    pack_net_correction,
    parse,
    refid_of,
    to_28,
    to_short,
)
from ntpd_fast.clock.driver import Leap
from ntpd_fast.system.era import era_start_s

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text(encoding="utf-8")
)
FIXED = {name: bytes.fromhex(value) for name, value in VECTORS["packets_fixed"].items()}

REQUEST = Header(Leap.NORMAL, 4, Mode.CLIENT, 0, 6, NO_PRECISION, 0.0, 0.0, 0, 0, 0, 0, 0x0123456789ABCDEF)


def test_minimal_requests_are_the_recorded_ones() -> None:
    assert REQUEST.pack() == FIXED["client_v4_minimal"]
    assert replace(REQUEST, version=3).pack() == FIXED["client_v3_minimal"]


def test_recorded_packets_survive_a_round_trip() -> None:
    for recorded in VECTORS["client_requests"]:
        data = bytes.fromhex(recorded["hex"])
        packet = parse(data)
        assert packet is not None, recorded["config"]
        assert packet.header.pack() == data[:HEADER_LENGTH]


@pytest.mark.parametrize("name", ["f323_request", "net_correction_request"])
def test_extension_fields_of_requests(name: str) -> None:
    field = pack_mono_root(None) if name == "f323_request" else pack_net_correction(0.0)
    assert REQUEST.pack() + field == FIXED[name]
    packet = parse(FIXED[name])
    assert packet is not None
    assert len(packet.fields) == 1
    assert packet.auth is PacketAuth.NONE


def test_mono_root_of_a_response() -> None:
    packet = parse(FIXED["client_v4_minimal"] + FIXED["f323_response_ext"])
    assert packet is not None
    mono = packet.mono_root
    assert mono is not None
    assert (mono.mono_rx, mono.mono_epoch) == (0xE6A1B2C3D4E5F601, 0x12345678)
    assert mono.root_delay_s == 0x00041894 / 2**28
    assert pack_mono_root(mono) == FIXED["f323_response_ext"]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("net_correction_response_ext_1us", 1e-6), ("net_correction_response_ext_minus_1us", -1e-6)],
)
def test_net_correction_of_a_response(name: str, seconds: float) -> None:
    packet = parse(FIXED["client_v4_minimal"] + FIXED[name])
    assert packet is not None
    assert packet.net_correction_s == pytest.approx(seconds, abs=2**-32)
    assert pack_net_correction(seconds) == FIXED[name]


def test_wrong_magic_is_another_field() -> None:
    data = bytearray(FIXED["f323_request"])
    data[HEADER_LENGTH + 4] ^= 1
    packet = parse(bytes(data))
    assert packet is not None
    assert packet.mono_root is None
    assert packet.fields[0][0] == FIELD_MONO_ROOT


def test_crypto_nak_is_a_mac_of_key_zero() -> None:
    packet = parse(FIXED["crypto_nak_v4"])
    assert packet is not None
    assert packet.auth is PacketAuth.SYMMETRIC
    assert packet.key_id == 0
    assert parse(FIXED["client_v4_minimal"] + b"\0\0\0\1") is None


def test_microsofts_requests_are_told_apart() -> None:
    packet = parse(FIXED["ms_sntp_client_request_rid_01020304"])
    assert packet is not None
    assert packet.auth is PacketAuth.MSSNTP


@pytest.mark.parametrize(
    ("tail", "accepted"),
    [
        (b"\x01\x04\x00\x10" + bytes(12), False),
        (b"\x01\x04\x00\x18" + bytes(20), True),  # 24 bytes: taken for a MAC
        (b"\x01\x04\x00\x1c" + bytes(24), True),
        (b"\x01\x04\x00\x10" + bytes(12) + bytes(20), True),
        (b"\x01\x04\x00\x10" + bytes(12) + b"\x01\x04\x00\x10" + bytes(12), False),
        (b"\x01\x04\x00\x0c" + bytes(28), False),
        (b"\x01\x04\x00\x1e" + bytes(28), False),
        (b"\x01\x04\x00\x40" + bytes(28), False),
        (bytes(28), False),
        (bytes(20), True),
        (bytes(24), True),
        (bytes(8), False),
    ],
)
def test_fields_and_macs_are_told_apart(tail: bytes, accepted: bool) -> None:
    packet = parse(FIXED["client_v4_minimal"] + tail)
    assert (packet is not None) is accepted
    if packet is not None and 20 <= len(tail) <= 24:
        assert packet.auth is PacketAuth.SYMMETRIC
        assert packet.mac_start == HEADER_LENGTH


def test_field_before_a_mac_is_seen() -> None:
    packet = parse(FIXED["f323_request"] + b"\0\0\0\7" + bytes(16))
    assert packet is not None
    assert packet.mono_root is not None
    assert packet.key_id == 7
    assert packet.mac_start == len(FIXED["f323_request"])


def test_nts_fields_are_recognised() -> None:
    packet = parse(FIXED["client_v4_minimal"] + b"\x04\x04\x00\x1c" + bytes(24))
    assert packet is not None
    assert packet.auth is PacketAuth.NTS


@pytest.mark.parametrize("length", [0, 47, 49, 50, MAX_PACKET_LENGTH + 4])
def test_lengths_that_are_dropped(length: int) -> None:
    assert parse((FIXED["client_v3_minimal"] + bytes(MAX_PACKET_LENGTH))[:length]) is None


@pytest.mark.parametrize("version", [0, 5, 6, 7])
def test_versions_that_are_dropped(version: int) -> None:
    data = bytearray(FIXED["client_v4_minimal"])
    data[0] = version << 3 | 3
    assert parse(bytes(data)) is None


def test_longest_packet_is_accepted() -> None:
    packet = parse(FIXED["client_v4_minimal"] + struct.pack("!HH", 0x1234, 1092) + bytes(1088))
    assert packet is not None
    assert len(packet.data) == MAX_PACKET_LENGTH


@given(st.binary(max_size=1200))
@example(b"\x23" + bytes(47))
def test_garbage_is_parsed_or_refused(data: bytes) -> None:
    packet = parse(data)
    if packet is not None:
        assert packet.data == data
        assert packet.key_id >= 0


@given(st.binary(min_size=48, max_size=48), st.binary(max_size=200))
def test_headers_survive_a_round_trip(header: bytes, tail: bytes) -> None:
    data = bytes([header[0] & 0xC7 | 4 << 3]) + header[1:]
    packet = parse(data)
    assert packet is not None
    expected = bytearray(data)
    if expected[1] >= 16:
        expected[1] = 0
    assert packet.header.pack() == bytes(expected)
    parse(data + tail)


def test_timestamps_follow_the_vectors() -> None:
    for vector in VECTORS["timestamps"]["vectors"]:
        unix_ns = vector["unix_sec"] * 10**9 + vector["unix_nsec"]
        # the vectors' writer computed in doubles: one unit of 2^-32 s is within its error
        difference = abs(ntp64_diff_s(ns_to_ntp64(unix_ns), int(vector["ntp64"], 16)))
        assert difference <= 2.0**-32, vector


def test_eras_follow_the_vectors() -> None:
    for vector in VECTORS["era_mapping"]["vectors"]:
        seconds = ntp64_to_ns(int(vector["ntp_hi"], 16) << 32 | 1, vector["era_split_unix"]) // 10**9
        assert seconds == vector["unix_sec"], vector


def test_short_formats_follow_the_vectors() -> None:
    for vector in VECTORS["short_formats"]:
        assert to_short(vector["value"]) == int(vector["ntp32_16_16"], 16), vector
        assert to_28(vector["value"]) == int(vector["f4_28"], 16), vector


def test_reference_ids_follow_the_vectors() -> None:
    for vector in VECTORS["refid"]:
        assert refid_of(ip_address(vector["addr"])) == int(vector["refid"], 16), vector


@given(st.integers(0, 2**32 * 10**9 - 1))
def test_timestamps_survive_a_round_trip(offset_ns: int) -> None:
    start_s = era_start_s({})
    unix_ns = start_s * 10**9 + offset_ns
    if unix_ns != 0:
        assert ntp64_to_ns(ns_to_ntp64(unix_ns), start_s) == unix_ns


def test_unknown_time_is_zero() -> None:
    assert ns_to_ntp64(0) == 0
    assert ntp64_to_ns(0, era_start_s({})) == 0


@given(st.floats(0.0, 65535.0))
def test_short_format_is_a_bound(value: float) -> None:
    assert value <= from_short(to_short(value)) <= value + 2**-16


@given(st.floats(0.0, 15.99))
def test_28_format_is_a_bound(value: float) -> None:
    assert value <= from_28(to_28(value)) <= value + 2**-28


def test_formats_saturate() -> None:
    assert to_short(float("inf")) == to_short(float("nan")) == 0xFFFFFFFF
    assert to_28(1e9) == to_28(float("nan")) == 0xFFFFFFFF
    assert from_28(0xFFFFFFFF) == 65536.0
    assert len(pack_net_correction(1e30)) == len(pack_net_correction(-1e30)) == 28


def test_differences_wrap_between_eras() -> None:
    assert ntp64_diff_s(1 << 32, (1 << 64) - (1 << 32)) == 2.0
    assert ntp64_diff_s((1 << 64) - (1 << 32), 1 << 32) == -2.0


def test_fuzz_covers_what_is_below_the_precision() -> None:
    ones = (1 << 64) - 1
    assert fuzz_mask(NO_PRECISION, ones) == ones
    assert fuzz_mask(-30, ones) == 3
    assert fuzz_mask(-32, ones) == 0
    assert fuzz_mask(-100, ones) == 0
    assert fuzz_mask(100, ones) == ones


def test_era_start_comes_from_the_build() -> None:
    assert era_start_s({"SOURCE_DATE_EPOCH": "1600000000"}) == 1600000000 - 50 * 365 * 86400
    assert era_start_s({"SOURCE_DATE_EPOCH": "yesterday"}) == era_start_s({})
    # the present and 1970 are inside
    assert era_start_s({}) <= 1_700_000_000 < era_start_s({}) + 2**32


def test_mono_root_saturates() -> None:
    packet = parse(REQUEST.pack() + pack_mono_root(MonoRoot(100.0, 100.0, 1, 2)))
    assert packet is not None
    assert packet.mono_root == MonoRoot(65536.0, 65536.0, 1, 2)
