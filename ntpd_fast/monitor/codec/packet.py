"""Headers of requests and replies, and whole packets made of header, payload and padding."""

import struct
from typing import NamedTuple

from .commands import NULL, REPLIES, REPLY_HEADER_LENGTH, REQUEST_HEADER_LENGTH, Command, Reply, Status
from .layout import Layout, Message

PROTOCOL_VERSION = 6
# The newest version without padding, and the oldest that is told about the mismatch instead of ignored.
PROTOCOL_VERSION_UNPADDED = 5
MISMATCH_VERSION_MIN = 5
# A client believes "protocol version mismatch" from these on.
MISMATCH_REPLY_VERSION_MIN = 4

PKT_TYPE_REQUEST = 1
PKT_TYPE_REPLY = 2

_REQUEST_HEADER = struct.Struct(">BBBBHHI8x")
_REPLY_HEADER = struct.Struct(">BBBBHHH6xI8x")
assert _REQUEST_HEADER.size == REQUEST_HEADER_LENGTH
assert _REPLY_HEADER.size == REPLY_HEADER_LENGTH


class RequestHeader(NamedTuple):
    """What the daemon looks at; `attempt` and the pads are ignored."""

    version: int
    pkt_type: int
    res1: int
    res2: int
    command: int
    attempt: int
    sequence: int


class ReplyHeader(NamedTuple):
    """What the client looks at. `status` may be a number that Status does not know."""

    version: int
    pkt_type: int
    res1: int
    res2: int
    command: int
    reply: int
    status: int
    sequence: int


def decode_request_header(packet: bytes) -> RequestHeader:
    """struct.error when the packet is shorter than a header."""
    return RequestHeader(*_REQUEST_HEADER.unpack_from(packet))


def decode_reply_header(packet: bytes) -> ReplyHeader:
    """struct.error when the packet is shorter than a header."""
    return ReplyHeader(*_REPLY_HEADER.unpack_from(packet))


def encode_request(
    command: Command, payload: Message, sequence: int, attempt: int = 0, version: int = PROTOCOL_VERSION
) -> bytes:
    """A request, padded to the length of its longest reply (in versions that pad)."""
    header = _REQUEST_HEADER.pack(version, PKT_TYPE_REQUEST, 0, 0, command.number, attempt & 0xFFFF, sequence)
    packet = header + Layout.of(command.request).encode(payload)
    return packet.ljust(command.length, b"\0") if version > PROTOCOL_VERSION_UNPADDED else packet


def decode_request(command: Command, packet: bytes) -> Message:
    """The payload of a request at least `command.length_min` long."""
    return Layout.of(command.request).decode(packet, REQUEST_HEADER_LENGTH)


def encode_reply(
    request: RequestHeader, status: Status | int, reply: Reply = NULL, payload: Message | None = None
) -> bytes:
    """A reply to `request`; without payload a NULL reply of 28 bytes."""
    if payload is None:
        reply = NULL
    header = _REPLY_HEADER.pack(
        PROTOCOL_VERSION, PKT_TYPE_REPLY, 0, 0, request.command, reply.number, status, request.sequence
    )
    if payload is None:
        return header
    return header + Layout.of(reply.message).encode(payload) + b"\xff" * reply.reserved


def decode_reply(packet: bytes) -> Message | None:
    """The payload of a reply of a known type and at least its length; None for the others."""
    reply = REPLIES.get(decode_reply_header(packet).reply)
    if reply is None or len(packet) < reply.length:
        return None
    return Layout.of(reply.message).decode(packet, REPLY_HEADER_LENGTH)
