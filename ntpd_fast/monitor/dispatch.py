"""One request datagram in, at most one reply out: the order of checks, permissions, status codes.

Sans-IO and without state of its own but counters. The order of the checks is what the field sees (who gets an
error, who gets silence): access, length, form, account and rate limit, version, command, length for the command,
permission. A reply is never longer than its request; whatever cannot be answered that way is dropped and counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Set
from enum import Enum
from typing import NamedTuple

from .backend import Backends, CommandFailed
from .codec.address import Address, Family
from .codec.commands import (
    COMMANDS,
    NULL,
    REPLY_HEADER_LENGTH,
    REQUEST_HEADER_LENGTH,
    REQUEST_LENGTH_MAX,
    Command,
    Number,
    Reply,
    Status,
)
from .codec.layout import Layout, Message
from .codec.packet import (
    MISMATCH_VERSION_MIN,
    PKT_TYPE_REQUEST,
    PROTOCOL_VERSION,
    RequestHeader,
    decode_request,
    decode_request_header,
    encode_reply,
)
from .handlers.table import ROWS
from .permissions import is_permitted
from .sockets import Origin

log = logging.getLogger(__name__)

_LOOPBACK = (Address(Family.INET4, bytes((127, 0, 0, 1))), Address(Family.INET6, bytes(15) + b"\1"))


class Peer(NamedTuple):
    """Where a request came from; `address` is None on Unix sockets."""

    origin: Origin
    address: Address | None = None


class Outcome(Enum):
    """What became of a datagram."""

    ANSWERED = "executed and answered"
    REFUSED = "answered with an error status"
    DROPPED_ACCESS = "from an address that is not allowed"
    DROPPED_LENGTH = "too short or too long for a request"
    DROPPED_FORM = "not a request"
    DROPPED_RATE = "over the rate limit"
    DROPPED_VERSION = "of a version too old to be told"


class Dispatcher:
    """Serves requests from the parts in `backends`; `over_udp` is what `permissions.open_commands` gave."""

    def __init__(self, backends: Backends, over_udp: Set[Number]) -> None:
        self._backends = backends
        self.over_udp = over_udp
        self.outcomes: Counter[Outcome] = Counter()
        self.done: Callable[[Number, bytes], None] | None = None
        """Told of each command that was carried out, with its payload."""

    def repeat(self, number: Number, payload: bytes) -> bool:
        """Carry out a command that was carried out before; whether that could be done, which nobody else is told."""
        row = ROWS[number]
        part = getattr(self._backends, row.subject)
        if part is None:
            return False
        try:
            row.run(part, Layout.of(COMMANDS[number].request).decode(payload, 0))
        except CommandFailed:
            return False
        return True

    def handle(self, packet: bytes, peer: Peer, now_ns: int) -> bytes | None:
        """The reply to a datagram, or None. `now_ns`: its reception, ns since the Unix epoch."""
        outcome, reply = self._handle(packet, peer, now_ns)
        self.outcomes[outcome] += 1
        return reply

    def _handle(self, packet: bytes, peer: Peer, now_ns: int) -> tuple[Outcome, bytes | None]:
        if not self._has_access(peer.address):
            return Outcome.DROPPED_ACCESS, None
        if not REPLY_HEADER_LENGTH <= len(packet) <= REQUEST_LENGTH_MAX:
            return Outcome.DROPPED_LENGTH, None
        header = decode_request_header(packet)
        if header.pkt_type != PKT_TYPE_REQUEST or header.res1 or header.res2:
            return Outcome.DROPPED_FORM, None
        exempt = peer.address is None or peer.address in _LOOPBACK
        if not self._backends.command_log.admit(peer.address, exempt, now_ns):
            return Outcome.DROPPED_RATE, None
        if header.version != PROTOCOL_VERSION:
            if header.version < MISMATCH_VERSION_MIN:
                return Outcome.DROPPED_VERSION, None
            return Outcome.REFUSED, encode_reply(header, Status.BAD_PACKET_VERSION)
        return self._execute(header, packet, peer.origin)

    def _has_access(self, address: Address | None) -> bool:
        if address is None or address in _LOOPBACK:
            return True
        return self._backends.command_access.is_allowed(address.ip())

    def _execute(self, header: RequestHeader, packet: bytes, origin: Origin) -> tuple[Outcome, bytes]:
        command = COMMANDS.get(header.command)
        if command is None:
            return Outcome.REFUSED, encode_reply(header, Status.INVALID)
        if len(packet) < command.length_min:
            return Outcome.REFUSED, encode_reply(header, Status.BAD_PACKET_LENGTH)
        request = decode_request(command, packet)
        row = ROWS[command.number]
        changes_state = row.changes_state is not None and row.changes_state(request)
        if not is_permitted(command, origin, self.over_udp, changes_state):
            return Outcome.REFUSED, encode_reply(header, Status.UNAUTHORISED)
        part = getattr(self._backends, row.subject)
        try:
            if part is not None:
                result = row.run(part, request)
            elif isinstance(row.absent, Status):
                raise CommandFailed(row.absent)
            else:
                result = row.absent(request)
        except CommandFailed as failure:
            return Outcome.REFUSED, encode_reply(header, failure.status)
        except MemoryError:
            log.error("Not enough memory for the command %s", command.number.name)
            return Outcome.REFUSED, encode_reply(header, Status.FAILED)
        if self.done is not None:
            payload = packet[REQUEST_HEADER_LENGTH:][: Layout.of(command.request).size]
            self.done(command.number, payload)
        if isinstance(result, Status):
            return Outcome.ANSWERED, encode_reply(header, result)
        if result is None:
            return Outcome.ANSWERED, encode_reply(header, Status.SUCCESS)
        return Outcome.ANSWERED, _reply(header, command, result, len(packet))


def _reply(header: RequestHeader, command: Command, payload: Message, room: int) -> bytes:
    """The longest of the command's replies that is no longer than the request."""
    reply: Reply = next((reply for reply in command.replies if reply.length <= room), NULL)
    assert reply is not NULL, "length_min left room for the shortest reply"
    if reply.narrow is not None:
        payload = reply.narrow(payload)
    return encode_reply(header, Status.SUCCESS, reply, payload)
