"""The listening side of NTS key exchange: limits, deadlines, log; the connections themselves are `_kepoll`'s.

Rules: no connection can hold up another; whatever runs out (descriptors, memory, places), the service goes on and says
so in a counter. A session has SESSION_TIMEOUT_S from accept to close, whatever its client does. When all places are
taken, a newcomer gets the place of the oldest session of the address prefix that holds most of them, unless the
newcomer's own prefix holds as many: one network cannot keep the others out, and a lone site can use every place.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence

from ntpd_fast._keadmission import Admission
from ntpd_fast._kepoll import Connections
from ntpd_fast._ketable import SessionTable
from ntpd_fast.server.ntske_counters import COUNTERS, OUTCOME_COUNTERS, KeCounters
from ntpd_fast.server.ntske_loop import ConnectionSelector
from ntpd_fast.server.ntske_session import KeService
from ntpd_fast.system.messages import Log, Severity

SESSION_TIMEOUT_S = 2.0
"""From accept to the end, as chrony has it (nts.md §1)."""
ACCEPT_PAUSE_S = 0.1
"""Pause after descriptors or memory have run out: sessions that end give some back."""
KEYS_WAIT_S = 2.0
"""How long clients are kept waiting for the first server keys: told that there are none, they stay away for long."""
KEYS_CHECK_S = 0.02
_TIMER_RESOLUTION_S = 0.001
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


class NtsKeServer(Connections):
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
        selector: ConnectionSelector | None = None,
    ) -> None:
        """selector: the loop's, when that is made for it (`ntske_loop`)."""
        self.service = service
        self.counters = counters or KeCounters()
        self._loop = loop
        self._selector = selector
        self._sockets = list(sockets)
        self._log = log
        self._timeout_s = timeout_s
        self._places = SessionTable(connections_max)
        self._sweep: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._told_resources = False
        self._running = False
        self._listening = False
        super().__init__(
            service,
            self._places,
            admission or Admission(),
            self.counters.cells,
            {name: place for place, name in enumerate(COUNTERS)},
            list(OUTCOME_COUNTERS.values()),
        )

    @property
    def sessions(self) -> int:
        return len(self._places)

    def resize(self, connections_max: int) -> None:
        """Another limit for the number of sessions; those that have begun go on."""
        self._places.resize(connections_max)

    def start(self) -> None:
        self._running = True
        if self._selector is not None:
            self.open(self._selector.fileno())
            self._selector.connections = self
        else:
            self.open()
            self._loop.add_reader(self.fd, self.turn)
        for sock in self._sockets:
            sock.setblocking(False)
        self._listen_with_keys(round(KEYS_WAIT_S / KEYS_CHECK_S))

    def refuse_more(self) -> None:
        """Stop accepting; sessions go on. The listening sockets stay open, for whoever else accepts from them."""
        self._running = False
        self._pause()

    def stop(self) -> None:
        """Stop accepting and drop all sessions."""
        self.refuse_more()
        for timer in (self._sweep, self._resume):
            if timer is not None:
                timer.cancel()
        self._sweep = self._resume = None
        if self._selector is not None:
            self._selector.connections = None
        elif self.fd >= 0:
            self._loop.remove_reader(self.fd)
        self.close()

    def _listen_with_keys(self, checks: int) -> None:
        """Control makes the keys, perhaps later than this process starts; who comes before waits in the backlog."""
        if self.service.ring.sequence or not checks:
            self._listen()
        else:
            self._resume = self._loop.call_later(KEYS_CHECK_S, self._listen_with_keys, checks - 1)

    def _listen(self) -> None:
        self._resume = None
        if self._running and not self._listening:
            self._listening = True
            for sock in self._sockets:
                self.listen(sock.fileno())

    def _pause(self) -> None:
        if self._listening:
            self._listening = False
            for sock in self._sockets:
                self.deafen(sock.fileno())

    def out_of_resources(self, error: OSError) -> bool:
        """The backlog keeps newcomers for the moment, sessions go on. False when it is something else."""
        if error.errno not in _RESOURCES:
            return False
        self.counters.add("out_of_resources")
        if not self._told_resources:
            self._told_resources = True
            self._log(Severity.WARNING, f"Could not accept NTS-KE connection : {error.strerror}")
        self._pause()
        if self._resume is None:
            self._resume = self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
        return True

    def transient(self, number: int) -> bool:
        return number in _TRANSIENT

    def first(self) -> None:
        self._sweep = self._loop.call_later(self._timeout_s, self._expire)

    def _expire(self) -> None:
        left = self.expire(self._timeout_s)
        self._sweep = None if left is None else self._loop.call_later(left + _TIMER_RESOLUTION_S, self._expire)

    def ended(self, reason: str) -> None:
        self._log(Severity.DEBUG, f"NTS-KE session ended : {reason}")
