"""The way of a packet of one of our associations from the worker that received it to control.

Packets of peers (and of servers, with `acquisitionport` = `port`) arrive on the server sockets. A worker knows them by
the peer table and hands them over on a datagram socket of its own; here they are taken apart and given to whom they
belong. A message that does not fit its layout can only be a bug of ours; it is counted and dropped all the same.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._record import dataclass
from ntpd_fast.client.stamps import StampSource

IPAddress = IPv4Address | IPv6Address

MAGIC = 0x4C4E4843
OUT_CONTROL, OUT_SIGND = 14, 15
MESSAGES_A_TURN = 64

# `channel_message` in `_datapath.pxd`
_LAYOUT = struct.Struct("=IIIIIHHB7x16s16sq")
_ROOM = 2048
_SOURCES = (StampSource.DAEMON, StampSource.KERNEL, StampSource.HARDWARE)


@dataclass(frozen=True, slots=True)
class Handed:
    """A packet that a worker handed over. `data`: as received, or the answer that is to be signed."""

    to_sign: bool
    key_id: int
    remote: IPAddress
    port: int
    local: IPAddress | None
    """None: unknown."""
    interface: int
    """0: unknown."""
    rx_raw_ns: int
    rx_source: StampSource
    data: bytes


def unpack(message: bytes) -> Handed | None:
    """Take a message apart; None when it is none."""
    if len(message) < _LAYOUT.size:
        return None
    magic, outcome, family, key_id, interface, port, length, source, remote, local, rx_raw_ns = _LAYOUT.unpack_from(
        message
    )
    data = message[_LAYOUT.size :]
    if magic != MAGIC or len(data) != length or family not in (4, 6) or source >= len(_SOURCES):
        return None
    if outcome not in (OUT_CONTROL, OUT_SIGND):
        return None
    known = any(local)
    return Handed(
        to_sign=outcome == OUT_SIGND,
        key_id=key_id,
        remote=_address(family, remote),
        port=port,
        local=_address(family, local) if known else None,
        interface=interface,
        rx_raw_ns=rx_raw_ns,
        rx_source=_SOURCES[source],
        data=data,
    )


def _address(family: int, packed: bytes) -> IPAddress:
    return IPv4Address(packed[:4]) if family == 4 else IPv6Address(packed)


class AssociationReader:
    """Reads control's ends of the workers' sockets on an event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ends: Iterable[socket.socket], receive: Callable[[Handed], None]
    ) -> None:
        self._loop = loop
        self._ends = list(ends)
        self._receive = receive
        self.damaged = 0
        """Messages that did not fit their layout."""
        for end in self._ends:
            loop.add_reader(end.fileno(), self._ready, end)

    def close(self) -> None:
        """Stop reading; the sockets stay open."""
        for end in self._ends:
            self._loop.remove_reader(end.fileno())

    def _ready(self, end: socket.socket) -> None:
        for _ in range(MESSAGES_A_TURN):
            try:
                message = end.recv(_ROOM)
            except (BlockingIOError, InterruptedError):
                return
            handed = unpack(message)
            if handed is None:
                self.damaged += 1
            else:
                self._receive(handed)
