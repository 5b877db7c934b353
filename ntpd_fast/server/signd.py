"""Answers signed by Samba: the client of its signing daemon (MS-SNTP, ntp-wire §7).

Windows clients of a domain ask for a signature with a machine account's key, which only Samba has. The finished
answer goes to `ntp_signd` over its Unix socket, and what comes back is sent as it is. One request is in flight, at
most QUEUE_MAX wait for an answer (that one included), and an answer that takes too long is worth nothing: then, and
on any other error, the connection is closed and everything that waited is dropped and counted. The next request
connects again.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from ntpd_fast._record import dataclass
from ntpd_fast.system.messages import Log, Severity

Context = TypeVar("Context")

QUEUE_MAX = 16

# A client has given up by then.
REPLY_TIMEOUT_S = 1.0

# A signed answer is the header and a MAC of 20 bytes, as long as the request was; a longer one would amplify.
SIGNED_MAX = 68

_VERSION = 0
_SIGN_TO_CLIENT, _SIGNING_SUCCESS = 0, 3
_REQUEST = struct.Struct(">IIIHH4s")
_LENGTH = struct.Struct(">I")
_REPLY = struct.Struct(">III")


@dataclass(slots=True)
class SigndCounters:
    """What became of the requests."""

    signed: int = 0
    refused: int = 0
    """The signing daemon said no (an account it does not know, say)."""
    full: int = 0
    """Dropped because QUEUE_MAX others were waiting."""
    failed: int = 0
    """Dropped with a connection that failed."""
    unsent: int = 0
    """Signed, but then the kernel did not take it."""


@dataclass(frozen=True, slots=True)
class _Request(Generic[Context]):
    packet_id: int
    message: bytes
    context: Context


class SigndClient(Generic[Context]):
    """Signs answers; `deliver` gets each signed one with the context it was submitted with.

    `directory` is the argument of `ntpsigndsocket`; the socket in it is called `socket`.
    """

    def __init__(
        self,
        directory: str,
        deliver: Callable[[Context, bytes], None],
        log: Log,
        *,
        reply_timeout_s: float = REPLY_TIMEOUT_S,
        counters: SigndCounters | None = None,
    ) -> None:
        self.counters = SigndCounters() if counters is None else counters
        self._path = f"{directory}/socket"
        self._deliver = deliver
        self._log = log
        self._reply_timeout_s = reply_timeout_s
        self._queue: deque[_Request[Context]] = deque()
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._packet_id = 0
        self._complained = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._connection is not None

    def submit(self, key_id: bytes, answer: bytes, context: Context) -> bool:
        """Have an answer signed; `key_id` is the 4 bytes of the request. False when too many wait already.

        Must be called in the running event loop.
        """
        if len(self._queue) >= QUEUE_MAX:
            self.counters.full += 1
            return False
        self._packet_id = self._packet_id + 1 & 0xFFFF
        size = _REQUEST.size - _LENGTH.size + len(answer)
        head = _REQUEST.pack(size, _VERSION, _SIGN_TO_CLIENT, self._packet_id, 0, key_id)
        self._queue.append(_Request(self._packet_id, head + answer, context))
        if self._connection is None:
            self._connection = _Connection(self._ready, self._take, self._fail)
            self._connecting = asyncio.get_running_loop().create_task(self._connect(self._connection))
        elif len(self._queue) == 1:
            self._send()
        return True

    def close(self) -> None:
        """Drop what waits and close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._disconnect()

    async def _connect(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._reply_timeout_s):
                await loop.create_unix_connection(lambda: connection, self._path)
        except OSError as error:
            if self._connection is connection:
                self._fail(f"Could not connect to signd socket {self._path} : {error.strerror or 'no answer'}")

    def _ready(self) -> None:
        self._complained = False
        self._send()

    def _send(self) -> None:
        """Put the first of the queue in flight."""
        if self._connection is None or not self._queue or not self._connection.write(self._queue[0].message):
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._reply_timeout_s, self._fail, "No reply from signd")

    def _take(self, reply: bytes) -> None:
        version, operation, packet_id = _REPLY.unpack_from(reply)
        if not self._queue or version != _VERSION or packet_id & 0xFFFF != self._queue[0].packet_id:
            self._fail("Reply of signd that fits no request")
            return
        request = self._queue.popleft()
        self._stop_timer()
        if operation == _SIGNING_SUCCESS:
            self.counters.signed += 1
            self._deliver(request.context, reply[_REPLY.size :])
        else:
            self.counters.refused += 1
        self._send()

    def _fail(self, reason: str) -> None:
        # once until it works again: a domain without its signing daemon asks a lot
        if self._queue and not self._complained:
            self._complained = True
            self._log(Severity.WARNING, reason)
        self._disconnect()

    def _disconnect(self) -> None:
        self.counters.failed += len(self._queue)
        self._queue.clear()
        self._stop_timer()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Connection(asyncio.Protocol):
    """One connection: cuts the stream into replies. Once abandoned it is silent, whatever still arrives."""

    def __init__(self, ready: Callable[[], None], take: Callable[[bytes], None], fail: Callable[[str], None]) -> None:
        self._ready = ready
        self._take = take
        self._fail = fail
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._asked = False
        self._abandoned = False

    def write(self, message: bytes) -> bool:
        """False while the connection is still being made."""
        if self._transport is None:
            return False
        self._asked = True
        self._transport.write(message)
        return True

    def abandon(self) -> None:
        self._abandoned = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes
        self._transport = cast(asyncio.WriteTransport, transport)
        if self._abandoned:
            self._transport.abort()
        else:
            self._ready()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._abandoned and self._received:
            if not self._asked:
                self._fail("Unexpected data from signd")
                return
            if len(self._received) < _LENGTH.size:
                return
            (size,) = _LENGTH.unpack_from(self._received)
            if not _REPLY.size <= size <= _REPLY.size + SIGNED_MAX:
                self._fail("Unexpected data from signd")
                return
            end = _LENGTH.size + size
            if len(self._received) < end:
                return
            reply = bytes(self._received[_LENGTH.size : end])
            del self._received[:end]
            self._asked = False
            self._take(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._abandoned:
            self._fail(f"Lost connection to signd: {exc or 'closed by signd'}")
