"""Looped frames of the error queue: found where they fit, refused everywhere else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast._stamps import payload_offset

PACKET = bytes(range(48))
UDP = struct.pack("!HHHH", 123, 40000, 56, 0)
IPV4 = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 76, 0, 0, 64, 17, 0, bytes(4), bytes([127, 0, 0, 1]))
IPV4_OPTIONS = bytes([0x47]) + IPV4[1:] + bytes(8)
IPV6 = struct.pack("!IHBB16s16s", 6 << 28, 56, 17, 64, bytes(16), bytes(15) + b"\1")
ETHERNET = bytes(12)


def ipv6(first: int, extensions: bytes) -> bytes:
    return IPV6[:6] + bytes([first]) + IPV6[7:] + extensions


FRAMES = {
    "ipv4": ETHERNET + b"\x08\x00" + IPV4 + UDP + PACKET,
    "ipv4 with options": ETHERNET + b"\x08\x00" + IPV4_OPTIONS + UDP + PACKET,
    "one vlan tag": ETHERNET + b"\x81\x00\x00\x05\x08\x00" + IPV4 + UDP + PACKET,
    "two vlan tags": ETHERNET + b"\x81\x00\x00\x05\x81\x00\x00\x06\x08\x00" + IPV4 + UDP + PACKET,
    "ipv6": ETHERNET + b"\x86\xdd" + IPV6 + UDP + PACKET,
    "ipv6 hop by hop": ETHERNET + b"\x86\xdd" + ipv6(0, bytes([17, 1]) + bytes(14)) + UDP + PACKET,
    "ipv6 routing and options": ETHERNET
    + b"\x86\xdd"
    + ipv6(43, bytes([60, 0]) + bytes(6) + bytes([17, 0]) + bytes(6))
    + UDP
    + PACKET,
    "ipv6 first fragment": ETHERNET + b"\x86\xdd" + ipv6(44, bytes([17]) + bytes(7)) + UDP + PACKET,
    "ipv6 authentication": ETHERNET + b"\x86\xdd" + ipv6(51, bytes([17, 4]) + bytes(22)) + UDP + PACKET,
}

REFUSED = {
    "empty": b"",
    "arp": ETHERNET + b"\x08\x06" + bytes(80),
    "tcp": ETHERNET + b"\x08\x00" + IPV4[:9] + b"\x06" + IPV4[10:] + UDP + PACKET,
    "later fragment": ETHERNET + b"\x86\xdd" + ipv6(44, bytes([17, 0, 1, 0]) + bytes(4)) + UDP + PACKET,
    "header of 4 words": ETHERNET + b"\x08\x00" + b"\x44" + IPV4[1:] + UDP + PACKET,
    "version 5": ETHERNET + b"\x08\x00" + b"\x55" + IPV4[1:] + UDP + PACKET,
    "no next header": ETHERNET + b"\x86\xdd" + ipv6(59, b"") + UDP + PACKET,
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_packet_is_found_in_a_frame(name: str) -> None:
    frame = FRAMES[name]
    offset = payload_offset(frame)
    assert frame[offset : offset + 48] == PACKET
    for size in range(len(frame)):
        assert payload_offset(frame[:size]) == -1


@pytest.mark.parametrize("name", REFUSED)
def test_other_frames_are_refused(name: str) -> None:
    assert payload_offset(REFUSED[name]) == -1


@given(st.binary(max_size=160))
def test_an_offset_leaves_room_for_a_packet(frame: bytes) -> None:
    offset = payload_offset(frame)
    assert offset == -1 or 0 <= offset <= len(frame) - 48
