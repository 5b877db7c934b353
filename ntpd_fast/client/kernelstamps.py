"""Linux packet timestamps on a socket of ours: how to ask for them, and what comes back in control messages.

Only the kernel's software timestamps; constants from linux/net_tstamp.h and linux/errqueue.h, which Python's
socket module doesn't know.
"""

from __future__ import annotations

import socket
import struct

from ntpd_fast._record import dataclass
from ntpd_fast.clock.events import NS_PER_S

SO_TIMESTAMPNS = 35
SO_TIMESTAMPING = 37
SO_SELECT_ERR_QUEUE = 45
SCM_TIMESTAMPNS = SO_TIMESTAMPNS
SCM_TIMESTAMPING = SO_TIMESTAMPING

TX_SOFTWARE = 1 << 1
RX_SOFTWARE = 1 << 3
SOFTWARE = 1 << 4
OPT_CMSG = 1 << 10
CLIENT_FLAGS = SOFTWARE | RX_SOFTWARE | TX_SOFTWARE | OPT_CMSG

IP_RECVERR = 11
IPV6_RECVERR = 25
ERROR_MESSAGES = ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR))
IP_PKTINFO = 8
ENOMSG = 42
ORIGIN_TIMESTAMPING = 4
STAMP_OF_SENDING = 0

_TIMESPEC = struct.Struct("@ll")
_EXTENDED_ERROR = struct.Struct("@IBBBBII")
_IN_PKTINFO = struct.Struct("@i4s4s")
_IN6_PKTINFO = struct.Struct("@16si")

ControlMessages = list[tuple[int, int, bytes]]


@dataclass(frozen=True, slots=True)
class Ancillary:
    """What the control messages of a datagram say."""

    kernel_ns: int | None = None
    """The kernel's timestamp on the system clock, ns."""
    local_address: bytes | None = None
    """Packed address that the datagram was sent to."""
    is_tx_stamp: bool = False
    """The message comes from the error queue and tells when a datagram left."""


def enable(sock: socket.socket) -> bool:
    """Ask for timestamps of all packets in both directions; False if only received ones, or none, can be had."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, CLIENT_FLAGS)
    except OSError:
        return False
    return True


def enable_rx(sock: socket.socket) -> bool:
    """The older option: timestamps of received packets only."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def read_ancillary(messages: ControlMessages) -> Ancillary:
    """Read the control messages of a received datagram or of one from the error queue."""
    kernel_ns = None
    local_address = None
    is_tx_stamp = False
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind in (SCM_TIMESTAMPING, SCM_TIMESTAMPNS):
            if len(data) >= _TIMESPEC.size:
                seconds, ns = _TIMESPEC.unpack_from(data)
                # zero: only a hardware timestamp, which nobody has asked for here
                kernel_ns = seconds * NS_PER_S + ns or None
        elif level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(data) >= _IN_PKTINFO.size:
            local_address = _IN_PKTINFO.unpack_from(data)[1]
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= _IN6_PKTINFO.size:
            local_address = _IN6_PKTINFO.unpack_from(data)[0]
        elif (level, kind) in ERROR_MESSAGES and len(data) >= _EXTENDED_ERROR.size:
            error, origin, _, _, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
            is_tx_stamp = (error, origin, info) == (ENOMSG, ORIGIN_TIMESTAMPING, STAMP_OF_SENDING)
    return Ancillary(kernel_ns, local_address, is_tx_stamp)
