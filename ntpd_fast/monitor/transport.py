"""Reads the command sockets (`sockets`) and feeds the dispatcher.

A wake-up takes a bounded number of requests, so that a flood of questions does not starve timers. Replies leave from
the address that was asked; nothing is queued: a reply the kernel does not take is counted and lost, as on any datagram
socket.
"""

from __future__ import annotations

import socket
import struct
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from .codec.address import Address, Family
from .codec.commands import REQUEST_LENGTH_MAX
from .dispatch import Dispatcher, Peer
from .sockets import IP_PKTINFO, CommandSocket, Origin

# Requests taken at one wake-up; what is left wakes the loop again at once.
BATCH_MAX = 16
# Room for control messages; simulators in front of libc want at least this much.
_CONTROL_ROOM = 512
_PKTINFO4 = struct.Struct("=i4s4s")  # interface, address of the interface, destination
_PKTINFO6 = struct.Struct("=16si")


class Fault(Enum):
    """What went wrong outside the dispatcher."""

    NO_PEER_ADDRESS = "the client's socket has no address to reply to"
    RECEIVE_FAILED = "the system reported an error on receiving"
    SEND_FAILED = "the reply was not taken by the system or by the client"


class CommandServer:
    """Reads the sockets on an event loop (asyncio's or uvloop's) and sends the dispatcher's replies."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        dispatcher: Dispatcher,
        sockets: Iterable[CommandSocket],
        now_ns: Callable[[], int],
        before_batch: Callable[[], None] | None = None,
    ) -> None:
        """`before_batch` is called whenever requests have come in, before they are served."""
        self._before_batch = before_batch
        self._loop = loop
        self._dispatcher = dispatcher
        self._sockets = list(sockets)
        self._now_ns = now_ns
        self.faults: Counter[Fault] = Counter()

    def start(self) -> None:
        for command_socket in self._sockets:
            serve = self._serve_udp if command_socket.origin is Origin.UDP else self._serve_unix
            self._loop.add_reader(command_socket.socket.fileno(), serve, command_socket)

    def stop(self) -> None:
        """Stop reading; the sockets stay open and the caller's."""
        for command_socket in self._sockets:
            self._loop.remove_reader(command_socket.socket.fileno())

    def _serve_unix(self, command_socket: CommandSocket) -> None:
        if self._before_batch is not None:
            self._before_batch()
        unix, peer = command_socket.socket, Peer(command_socket.origin)
        for _ in range(BATCH_MAX):
            try:
                packet, client = unix.recvfrom(REQUEST_LENGTH_MAX + 1)
            except OSError as error:
                self._received_error(error)
                return
            if not client:
                self.faults[Fault.NO_PEER_ADDRESS] += 1
                continue
            reply = self._dispatcher.handle(packet, peer, self._now_ns())
            if reply is not None:
                try:
                    unix.sendto(reply, client)
                except OSError:
                    self.faults[Fault.SEND_FAILED] += 1

    def _serve_udp(self, command_socket: CommandSocket) -> None:
        if self._before_batch is not None:
            self._before_batch()
        udp = command_socket.socket
        for _ in range(BATCH_MAX):
            try:
                packet, control, _flags, client = udp.recvmsg(REQUEST_LENGTH_MAX + 1, _CONTROL_ROOM)
            except OSError as error:
                self._received_error(error)
                return
            peer = Peer(Origin.UDP, _peer_address(udp.family, client))
            reply = self._dispatcher.handle(packet, peer, self._now_ns())
            if reply is not None:
                try:
                    udp.sendmsg([reply], _reply_from(control, client), 0, client)
                except OSError:
                    self.faults[Fault.SEND_FAILED] += 1

    def _received_error(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError | InterruptedError):
            self.faults[Fault.RECEIVE_FAILED] += 1


def _peer_address(family: int, client: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    if family == socket.AF_INET:
        return Address(Family.INET4, socket.inet_pton(socket.AF_INET, client[0]))
    return Address(Family.INET6, socket.inet_pton(socket.AF_INET6, client[0].partition("%")[0]))


def _reply_from(
    control: Sequence[tuple[int, int, bytes]], client: tuple[str, int] | tuple[str, int, int, int]
) -> list[tuple[int, int, bytes]]:
    """The control message that sends from the address the request came to."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(data) >= _PKTINFO4.size:
            _interface, _, destination = _PKTINFO4.unpack_from(data)
            return [(level, kind, _PKTINFO4.pack(0, destination, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _PKTINFO6.size:
            destination, interface = _PKTINFO6.unpack_from(data)
            link_local = len(client) > 2 and client[3] != 0
            return [(level, kind, _PKTINFO6.pack(destination, interface if link_local else 0))]
    return []
