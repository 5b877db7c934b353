"""Control messages of timestamps, and real ones from loopback."""

from __future__ import annotations

import select
import socket
import struct
import time

import pytest

from ntpd_fast.client import kernelstamps
from ntpd_fast.client.kernelstamps import read_ancillary


def test_timestamps_and_errors_are_told_apart() -> None:
    stamp = struct.pack("@llllll", 1_700_000_000, 5, 0, 0, 0, 0)
    error = struct.pack("@IBBBBII", 42, 4, 0, 0, 0, 0, 7)
    level = socket.SOL_SOCKET
    assert read_ancillary([]) == kernelstamps.Ancillary()
    assert read_ancillary([(level, 37, stamp)]).kernel_ns == 1_700_000_000_000_000_005
    assert read_ancillary([(level, 35, stamp[:16])]).kernel_ns == 1_700_000_000_000_000_005
    # a zero software stamp stands before a hardware one
    assert read_ancillary([(level, 37, bytes(48))]).kernel_ns is None
    for level_kind in ((socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)):
        assert read_ancillary([(*level_kind, error)]).is_tx_stamp
    unreachable = struct.pack("@IBBBBII", 111, 2, 3, 3, 0, 0, 0)
    assert not read_ancillary([(socket.IPPROTO_IP, 11, unreachable)]).is_tx_stamp
    scheduled = struct.pack("@IBBBBII", 42, 4, 0, 0, 0, 1, 7)
    assert not read_ancillary([(socket.IPPROTO_IP, 11, scheduled)]).is_tx_stamp


def test_local_addresses() -> None:
    v4 = struct.pack("@i4s4s", 1, b"\x7f\0\0\1", b"\x7f\0\0\1")
    v6 = struct.pack("@16si", bytes(15) + b"\1", 1)
    assert read_ancillary([(socket.IPPROTO_IP, 8, v4)]).local_address == b"\x7f\0\0\1"
    assert read_ancillary([(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, v6)]).local_address == bytes(15) + b"\1"


@pytest.mark.parametrize("length", range(0, 16, 3))
def test_truncated_messages_are_ignored(length: int) -> None:
    data = bytes(length)
    messages = [
        (level, kind, data[:limit])
        for level, kind, limit in [
            (socket.SOL_SOCKET, 37, 15),
            (socket.SOL_SOCKET, 35, 15),
            (socket.IPPROTO_IP, 8, 11),
            (socket.IPPROTO_IP, 11, 15),
            (socket.IPPROTO_IPV6, 25, 15),
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, 15),
        ]
    ]
    assert read_ancillary(messages) == kernelstamps.Ancillary()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_timestamps_of_loopback(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as there, socket.socket(family, socket.SOCK_DGRAM) as here:
        there.bind((host, 0))
        assert kernelstamps.enable(here)
        here.connect(there.getsockname())
        before = time.time_ns()
        here.send(b"x" * 48)
        poll = select.poll()
        poll.register(here, select.POLLPRI)
        assert poll.poll(2000)
        frame, messages, _, _ = here.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
        ancillary = read_ancillary(messages)
        assert ancillary.is_tx_stamp
        assert frame.endswith(b"x" * 48)
        assert ancillary.kernel_ns is not None
        assert before <= ancillary.kernel_ns <= time.time_ns()


def test_unwilling_kernels_are_noticed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        # a stream of bytes has no packets to stamp; closed sockets take no options at all
        ours.close()
        assert not kernelstamps.enable(ours)
        assert not kernelstamps.enable_rx(ours)
