"""The listening side of NTS key exchange: sockets, limits, deadlines, certificates, counters; thin glue over KeSession.

Rules: no connection can hold up another; whatever runs out (descriptors, memory, places), the service goes on and says
so in a counter. A session has SESSION_TIMEOUT_S from accept to close, whatever its client does. When all places are
taken, a newcomer gets the place of the oldest session of the address prefix that holds most of them, unless the
newcomer's own prefix holds as many: one network cannot keep the others out, and a lone site can use every place.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from functools import partial

from ntpd_fast import _tcp
from ntpd_fast.server.ntske_admission import Admission, AdmitAll
from ntpd_fast.server.ntske_counters import OUTCOME_COUNTERS, KeCounters, KeOutcome
from ntpd_fast.server.ntske_session import KeService, KeSession
from ntpd_fast.server.ntske_table import SessionTable
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.readiness import Readiness

SESSION_TIMEOUT_S = 2.0
"""From accept to the end, as chrony has it (nts.md §1)."""
ACCEPTS_PER_TURN = 64
"""Connections taken before others get their turn."""
ACCEPT_PAUSE_S = 0.1
"""Pause after descriptors or memory have run out: sessions that end give some back."""
_IPV4_BYTES = 4
_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# accept(2) hands on errors of the connection it would have returned: they mean the next one, not the listener
_TRANSIENT = {
    errno.ECONNABORTED,
    errno.EINTR,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
}


class _Connection:
    """One accepted socket: its session, what could not be sent yet, where it is in the table."""

    __slots__ = ("closing", "fd", "prefix", "session", "unsent", "writing")

    def __init__(self, fd: int, session: KeSession, prefix: bytes) -> None:
        self.fd = fd
        self.session = session
        self.prefix = prefix
        self.unsent = b""
        self.writing = False
        self.closing = False


class NtsKeServer:
    """Serves key exchange on listening sockets, which stay the caller's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        service: KeService,
        log: Log,
        *,
        connections_max: int,
        admission: Admission | None = None,
        counters: KeCounters | None = None,
        timeout_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        self.service = service
        self.counters = counters or KeCounters()
        self._loop = loop
        self._sockets = list(sockets)
        self._log = log
        self._admission = admission or AdmitAll()
        self._timeout_s = timeout_s
        self._table: SessionTable[_Connection] = SessionTable(connections_max)
        self._ready: Readiness | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._told_resources = False
        self._running = False

    @property
    def sessions(self) -> int:
        return len(self._table)

    def resize(self, connections_max: int) -> None:
        """Another limit for the number of sessions; those that have begun go on."""
        self._table.resize(connections_max)

    def start(self) -> None:
        self._running = True
        self._ready = Readiness(self._loop)
        self.counters.set("sessions", 0)
        for sock in self._sockets:
            sock.setblocking(False)
        self._listen()

    def refuse_more(self) -> None:
        """Stop accepting; sessions go on. The listening sockets stay open, for whoever else accepts from them."""
        self._running = False
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())

    def stop(self) -> None:
        """Stop accepting and drop all sessions."""
        self.refuse_more()
        for timer in (self._sweep, self._resume):
            if timer is not None:
                timer.cancel()
        self._sweep = self._resume = None
        while (oldest := self._table.oldest()) is not None:
            self._drop(oldest[1])
        if self._ready is not None:
            self._ready.close()
            self._ready = None

    def _watch(self, connection: _Connection) -> None:
        """Go on reading, or writing while there is something to send."""
        assert self._ready is not None
        if connection.writing:
            self._ready.watch(connection.fd, partial(self._send, connection, b""), write=True)
        else:
            self._ready.watch(connection.fd, partial(self._readable, connection))

    def _listen(self) -> None:
        self._resume = None
        if self._running:
            for sock in self._sockets:
                self._loop.add_reader(sock.fileno(), self._accept, sock.fileno())

    def _accept(self, listener: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted = _tcp.accept(listener)
            except OSError as error:
                if error.errno in _RESOURCES:
                    self._pause(error)
                    return
                self.counters.add("accept_errors")
                if error.errno not in _TRANSIENT:
                    raise
                continue
            if accepted is None:
                return
            self._admit(*accepted)

    def _pause(self, error: OSError) -> None:
        """Out of descriptors or memory: the backlog keeps newcomers for the moment, sessions go on."""
        self.counters.add("out_of_resources")
        if not self._told_resources:
            self._told_resources = True
            self._log(Severity.WARNING, f"Could not accept NTS-KE connection : {error.strerror}")
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
        if self._resume is None:
            self._resume = self._loop.call_later(ACCEPT_PAUSE_S, self._listen)

    def _admit(self, fd: int, address: bytes) -> None:
        refusal = self._admission.admit(address)
        if refusal:
            self.counters.add(refusal)
            os.close(fd)
            return
        self.counters.add("accepted")
        prefix = prefix_of(address)
        if self._table.full:
            victim = self._table.give_way(prefix)
            if victim is None:
                self.counters.add("refused_full")
                os.close(fd)
                return
            self.counters.add("evicted")
            self._drop(victim)
        connection = _Connection(fd, KeSession(self.service), prefix)
        self._table.add(connection, prefix, self._loop.time())
        self.counters.set("sessions", len(self._table))
        self._watch(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._timeout_s, self._expire)

    def _expire(self) -> None:
        """Sessions all live equally long, so the oldest is always the next to expire: one timer for all."""
        self._sweep = None
        now = self._loop.time()
        while (oldest := self._table.oldest()) is not None:
            since, connection = oldest
            left = since + self._timeout_s - now
            if left > 0:
                self._sweep = self._loop.call_later(left, self._expire)
                return
            if connection.session.outcome is None:
                self.counters.add("timed_out")
            self._drop(connection)

    def _readable(self, connection: _Connection) -> None:
        try:
            data = _tcp.receive(connection.fd)
        except OSError:
            data = b""
        if data is None:
            return
        if connection.closing:
            # the answer is out and our side is closed: all that can still come is the client's end
            if not data:
                self._drop(connection)
            return
        session = connection.session
        out = session.receive(data)
        if session.outcome is not None:
            self.counters.add(OUTCOME_COUNTERS[session.outcome])
            if session.reason:
                self._log(Severity.DEBUG, f"NTS-KE session ended : {session.reason}")
        self._send(connection, out)

    def _send(self, connection: _Connection, data: bytes) -> None:
        if data:
            connection.unsent += data
        if connection.unsent:
            try:
                sent = _tcp.send(connection.fd, connection.unsent)
            except OSError:
                self.counters.add("send_errors")
                self._drop(connection)
                return
            connection.unsent = connection.unsent[sent:]
        if connection.unsent:
            # a client that does not read gets nothing more to answer
            if not connection.writing:
                connection.writing = True
                self._watch(connection)
            return
        if connection.writing:
            connection.writing = False
            self._watch(connection)
        if connection.session.outcome is not None:
            self._finish(connection)

    def _finish(self, connection: _Connection) -> None:
        """Close our side and wait for the client's: closing over unread bytes resets, and may cost the answer."""
        if connection.session.outcome not in (KeOutcome.SERVED, KeOutcome.REFUSED):
            self._drop(connection)
            return
        connection.closing = True
        try:
            _tcp.finish(connection.fd)
        except OSError:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        assert self._ready is not None
        self._ready.forget(connection.fd)
        os.close(connection.fd)
        self._table.remove(connection)
        self.counters.set("sessions", len(self._table))


def prefix_of(address: bytes) -> bytes:
    """What counts as one network when places are shared out: an IPv4 /24, an IPv6 /48. Both are packed."""
    return address[:3] if len(address) == _IPV4_BYTES else address[:6]
