"""The one composition of the data plane: sockets, shared memory and the packet core, for one process.

A worker drives it with `serve`, a loop of its own without the GIL; control with `workers 0` hangs the same engine
into its event loop with `attach`. Either way the sockets stay the caller's: an engine that ends leaves what is
queued in them.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ntpd_fast._polling import Poller
from ntpd_fast._record import dataclass
from ntpd_fast._udp import ServerSocket, WorkerCore
from ntpd_fast.server.shared import Shared
from ntpd_fast.system.listen_fds import format_address

if TYPE_CHECKING:
    import asyncio

# A request that waited longer than this in the receive queue is dropped rather than answered late. The queue of
# 1 MB holds 5 ms of traffic at full rate; a worker that is replaced leaves a gap of some 20 ms.
STALE_S = 0.25
# More turns than a receive buffer can fill, even one of an administrator who likes them large.
TURNS_MAX = 4096


def is_wildcard(sock: socket.socket) -> bool:
    """Whether the socket is bound to no particular address, so that answers need the asked one as source."""
    return sock.getsockname()[0] in ("0.0.0.0", "::")


def address_of(sock: socket.socket) -> str:
    """What a socket is bound to, as one word: the name it goes by between processes."""
    return format_address(*sock.getsockname()[:2])


@dataclass(frozen=True, slots=True)
class PtpOptions:
    """NTP over PTP: sockets bound to `port` carry it, in PTP domain `domain` (0..255)."""

    port: int
    domain: int

    @classmethod
    def of(cls, port: int, domain: int) -> PtpOptions | None:
        """Of the directives `ptpport` and `ptpdomain`; None when it is off."""
        return cls(port, domain) if port else None


class Engine:
    """Answers what arrives on `sockets`, as part `index` of `shared` (whose region must be writable here).

    `tx_mode`: how transmit stamps are asked for (`_udp.TX_MODES`; to count costs less than to send ids). `channel`:
    descriptor of a non-blocking datagram socket to control, for packets that belong to one of its associations. `ptp`:
    which sockets carry NTP over PTP.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        shared: Shared,
        index: int,
        *,
        stale_s: float = STALE_S,
        tx_mode: str = "counter",
        channel: int = -1,
        ptp: PtpOptions | None = None,
    ) -> None:
        self.region = shared.worker(index)
        self._shared = shared
        self.core = WorkerCore(shared.control, self.region, round(stale_s * 1e9), shared.nts_ring, channel)
        self._tx_mode = tx_mode
        self._ptp = ptp
        self.sockets = [self._server_socket(sock) for sock in sockets]
        self._names = [address_of(sock) for sock in sockets]
        self.poller = Poller()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _server_socket(self, sock: socket.socket) -> ServerSocket:
        is_ptp = self._ptp is not None and sock.getsockname()[1] == self._ptp.port
        domain = self._ptp.domain if self._ptp is not None and is_ptp else -1
        return ServerSocket(self.core, sock, is_wildcard(sock), self._tx_mode, domain)

    def start(self, *, drain: bool = False) -> None:
        """Begin to serve. `drain`: a predecessor may have left entries in the error queues."""
        for sock in self.sockets:
            if drain:
                sock.drain()
            self.poller.add_socket(sock)
        self.region.state = "serving"

    def own_sockets(self) -> None:
        """In a process that does nothing but serve them: it may wait in their receive calls, and pause for some µs."""
        self.core.sharpen_timers()
        for sock in self.sockets:
            sock.may_wait()

    def add(self, sock: socket.socket) -> None:
        """Serve on one more socket from now on."""
        self.sockets.append(self._server_socket(sock))
        self._names.append(address_of(sock))
        self.poller.add_socket(self.sockets[-1])

    def empty(self, sock: socket.socket) -> None:
        """Answer what waits on a socket that is not ours to serve, and nothing that comes later."""
        served = ServerSocket(self.core, sock, is_wildcard(sock), "none")
        _run_dry(served)

    def drop(self, name: str) -> socket.socket:
        """Answer what waits on a socket that gets nothing more, and serve it no longer; the socket is the caller's.

        `name`: what `address_of` said of it when it came. Raises KeyError.
        """
        if name not in self._names:
            raise KeyError(name)
        index = self._names.index(name)
        del self._names[index]
        served = self.sockets.pop(index)
        _run_dry(served)
        self.poller.remove_socket(served)
        return served.socket

    def fit_log(self, blocks: int) -> None:
        """Keep clients in so many blocks from now on; those that are known are forgotten if that is a change."""
        if self._shared.fit_log(self.region.index, blocks):
            self.core.follow_log()

    def serve(self, timeout_s: float) -> list[int]:
        """Serve for at most `timeout_s`; descriptors given to `watch` that became readable."""
        return self.poller.wait(self.core, timeout_s)

    def watch(self, fd: int) -> None:
        """Have `serve` return when this descriptor is readable."""
        self.poller.add_reader(fd)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve from an event loop instead: it watches the epoll descriptor that holds all sockets."""
        self._loop = loop
        loop.add_reader(self.poller.fileno(), self.run_ready)

    def run_ready(self) -> None:
        """One turn of every socket that has something waiting."""
        self.poller.wait(self.core, 0.0)

    def beat(self, monotonic_ns: int) -> None:
        """Tell that this process lives, and adopt new tables even without traffic."""
        self.region.heartbeat_ns = monotonic_ns
        self.core.refresh()
        for sock in self.sockets:
            sock.count_drops()

    def stop(self) -> None:
        """Stop serving at the end of the batch; what is queued waits for whoever comes next on the same sockets."""
        if self._loop is not None:
            self._loop.remove_reader(self.poller.fileno())
            self._loop = None
        for sock in self.sockets:
            if self.region.state == "serving":
                self.poller.remove_socket(sock)
        self.region.state = "stopped"

    def detach(self) -> None:
        """Stop, give up the tables and close the epoll descriptor."""
        self.stop()
        self.region.forget_tables()
        self.poller.close()


def _run_dry(served: ServerSocket) -> None:
    for _ in range(TURNS_MAX):
        if not served.run_turn():
            return
