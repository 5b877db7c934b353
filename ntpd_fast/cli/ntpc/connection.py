"""The client's side of the exchange: addresses in order, attempts, timeouts, which reply counts.

The first address for which a socket can be opened is used; when all attempts there go unanswered the next one is,
and after the last the request fails and the next request starts again with the first.
"""

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ntpd_fast.monitor.codec.commands import COMMANDS, REPLIES, REPLY_HEADER_LENGTH, Number, Status
from ntpd_fast.monitor.codec.layout import Message
from ntpd_fast.monitor.codec.packet import (
    MISMATCH_REPLY_VERSION_MIN,
    PKT_TYPE_REPLY,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_UNPADDED,
    ReplyHeader,
    decode_reply,
    decode_reply_header,
    encode_request,
)

ADDRESSES_PER_NAME_MAX = 16
TIMEOUT_DEFAULT_MS = 1000
RETRIES_DEFAULT = 2
_RECEIVE_SIZE = 1024


class Endpoint(NamedTuple):
    """Where a daemon may be: a Unix socket, or an address and port."""

    path: str | None
    ip: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Answer(NamedTuple):
    """A reply that belongs to our request; `payload` is None where its type is unknown."""

    header: ReplyHeader
    payload: Message | None


def endpoints(hosts: Sequence[str], port: int, family: int) -> Iterator[Endpoint]:
    """The addresses of a list of Unix paths, literals and names; what does not resolve gives none."""
    for host in hosts:
        if host.startswith("/"):
            yield Endpoint(host)
        else:
            for ip in resolve(host, family)[:ADDRESSES_PER_NAME_MAX]:
                yield Endpoint(None, ip, port)


def resolve(host: str, family: int) -> list[str]:
    """IP addresses of a name or literal; `family` 4 or 6 limits them."""
    system_family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(family, socket.AF_UNSPEC)
    try:
        # As bytes: for a str Python loads its IDNA tables, even for ASCII.
        found = socket.getaddrinfo(host.encode(), None, system_family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]


class Connection:
    """The daemon as seen through its sockets."""

    def __init__(self, candidates: Sequence[Endpoint]) -> None:
        self._candidates = candidates
        self._socket: socket.socket | None = None
        self._bound: str | None = None
        self._index = -1
        self._version = PROTOCOL_VERSION
        self.timeout_ms = TIMEOUT_DEFAULT_MS
        self.retries = RETRIES_DEFAULT
        self.failures: list[tuple[Endpoint, OSError]] = []
        """Why endpoints could not be used, for the hint to the user."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The one in use."""
        return self._candidates[self._index] if self._socket is not None else None

    @property
    def candidates(self) -> Sequence[Endpoint]:
        return self._candidates

    def open(self) -> bool:
        """Open the next endpoint that can be opened; False after the last."""
        self.close()
        while self._index + 1 < len(self._candidates):
            self._index += 1
            endpoint = self._candidates[self._index]
            try:
                self._socket = self._open_unix(endpoint.path) if endpoint.path else _open_udp(endpoint)
            except OSError as error:
                self.failures.append((endpoint, error))
            else:
                return True
        self._index = -1
        return False

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._bound is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._bound)
            self._bound = None

    def exchange(self, number: Number, payload: Message) -> Answer | None:
        """The daemon's answer; None when nobody answers."""
        if self._socket is None and not self.open():
            return None
        while True:
            answer = self._attempts(number, payload)
            if answer is not None or not self.open():
                break
        if answer is None:
            self._index = -1
        return answer

    def _attempts(self, number: Number, payload: Message) -> Answer | None:
        """Ask the endpoint in use until it answers or the attempts are used up."""
        command = COMMANDS[number]
        attempt = 0
        while attempt <= self.retries:
            assert self._socket is not None
            sequence = random.getrandbits(32)
            deadline = time.monotonic() + self.timeout_ms / 1000 * (1 << attempt)
            wire = encode_request(command, payload, sequence, attempt, self._version)
            attempt += 1
            try:
                self._socket.send(wire)
                answer = self._receive(number, sequence, deadline)
            except OSError as error:
                endpoint = self._candidates[self._index]
                if not any(known == endpoint for known, _ in self.failures):
                    self.failures.append((endpoint, error))
                continue
            if answer is None:
                continue
            if (
                self._version > PROTOCOL_VERSION_UNPADDED
                and answer.header.version == PROTOCOL_VERSION_UNPADDED
                and answer.header.status == Status.BAD_PACKET_VERSION
            ):
                self._version = PROTOCOL_VERSION_UNPADDED
                attempt -= 1
                continue
            return answer
        return None

    def _receive(self, number: Number, sequence: int, deadline: float) -> Answer | None:
        """Wait for the reply; what is not one is ignored. None: time is up, or the reply was cut short."""
        assert self._socket is not None
        while (remaining := deadline - time.monotonic()) > 0.0:
            self._socket.settimeout(remaining)
            try:
                wire = self._socket.recv(_RECEIVE_SIZE)
            except TimeoutError:
                return None
            if len(wire) < REPLY_HEADER_LENGTH:
                continue
            header = decode_reply_header(wire)
            if not self._is_ours(header, number, sequence):
                continue
            reply = REPLIES.get(header.reply)
            if reply is not None and len(wire) < reply.length:
                return None
            return Answer(header, decode_reply(wire))
        return None

    def _is_ours(self, header: ReplyHeader, number: Number, sequence: int) -> bool:
        known_version = header.version == self._version or (
            header.version >= MISMATCH_REPLY_VERSION_MIN and header.status == Status.BAD_PACKET_VERSION
        )
        return (
            known_version
            and header.pkt_type == PKT_TYPE_REPLY
            and header.res1 == header.res2 == 0
            and header.command == number
            and header.sequence == sequence
        )

    def _open_unix(self, path: str) -> socket.socket:
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        own = os.path.join(os.path.dirname(path), f"ntpc.{os.getpid()}.{random.getrandbits(32):08x}.sock")
        # The daemon runs as another user and must be able to answer. The mode is given to the descriptor before
        # it has a name, so that no name that somebody else could replace is ever changed.
        os.fchmod(unix.fileno(), 0o666)
        umask = os.umask(0)
        try:
            unix.bind(own)
            self._bound = own
        except OSError:
            unix.close()
            raise
        finally:
            os.umask(umask)
        try:
            unix.connect(path)
        except OSError:
            unix.close()
            self.close()
            raise
        return unix


def _open_udp(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.ip else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        # Through getaddrinfo for the scope of a link-local address; a literal, so nothing is resolved.
        address = socket.getaddrinfo(endpoint.ip, endpoint.port, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)
        udp.connect(address[0][4])
    except OSError:
        udp.close()
        raise
    return udp
