"""Messages of the workers' channel: taken apart as the data plane packs them, dropped when they do not fit."""

import asyncio
import socket
import struct
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.stamps import StampSource
from ntpd_fast.control.associations import MESSAGES_A_TURN, AssociationReader, Handed, unpack


def message(
    *, magic: int = 0x4C4E4843, outcome: int = 14, family: int = 4, length: int | None = None, source: int = 1,
    data: bytes = b"x" * 48,
) -> bytes:
    size = len(data) if length is None else length
    remote, local = bytes([192, 0, 2, 1]) + bytes(12), bytes([192, 0, 2, 2]) + bytes(12)
    return struct.pack("=IIIIIHHB7x16s16sq", magic, outcome, family, 7, 3, 123, size, source, remote, local, 99) + data


def test_a_packet_of_an_association() -> None:
    assert unpack(message()) == Handed(
        to_sign=False, key_id=7, remote=ip_address("192.0.2.1"), port=123, local=ip_address("192.0.2.2"), interface=3,
        rx_raw_ns=99, rx_source=StampSource.KERNEL, data=b"x" * 48,
    )


def test_an_answer_to_be_signed() -> None:
    handed = unpack(message(outcome=15))
    assert handed
    assert handed.to_sign


def test_what_does_not_fit_is_dropped() -> None:
    for wrong in (
        message(magic=1), message(outcome=0), message(family=5), message(length=47), message(source=3), message()[:71],
        b"",
    ):
        assert unpack(wrong) is None


@given(st.binary(max_size=200))
def test_random_messages_are_harmless(data: bytes) -> None:
    handed = unpack(data)
    assert handed is None or len(handed.data) + 72 == len(data)


def test_a_turn_reads_a_bounded_number() -> None:
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    got: list[Handed] = []
    reader = AssociationReader(loop, [ours], got.append)
    sent = 0
    try:
        while sent < 2 * MESSAGES_A_TURN:
            theirs.send(message() if sent else b"damaged")
            sent += 1
    except BlockingIOError:
        pass
    turns = []
    while len(got) + reader.damaged < sent:
        before = len(got) + reader.damaged
        loop.call_soon(loop.stop)
        loop.run_forever()
        turns.append(len(got) + reader.damaged - before)
    assert max(turns) <= MESSAGES_A_TURN
    assert reader.damaged == 1
    reader.close()
    ours.close()
    theirs.close()
    loop.close()
