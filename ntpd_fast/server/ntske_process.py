"""A key exchange process: what the supervisor forks `ntsprocesses` times, and the same parts inside control.

SIGTERM ends it, SIGUSR1 loads the certificates again; they are also looked at every CERTIFICATE_CHECK_S.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from ntpd_fast._keadmission import Admission
from ntpd_fast._nts import KeyRing
from ntpd_fast._record import dataclass
from ntpd_fast.config.model import RatelimitOptions
from ntpd_fast.nts.records import DEFAULT_NTP_PORT
from ntpd_fast.server.ntske_certificates import CertificateStore, Pair
from ntpd_fast.server.ntske_counters import KeCounters
from ntpd_fast.server.ntske_loop import ConnectionSelector, new_event_loop
from ntpd_fast.server.ntske_server import SESSION_TIMEOUT_S, NtsKeServer
from ntpd_fast.server.ntske_session import KeService
from ntpd_fast.system.messages import Log, Severity

CERTIFICATE_CHECK_S = 60.0
DRAIN_CHECK_S = 0.1
RELOAD_SIGNAL = signal.SIGUSR1
# standard descriptors, event loop, shared memory, listening sockets, log
OTHER_DESCRIPTORS = 64


@dataclass(frozen=True)
class NtsKeOptions:
    """What the configuration says about key exchange."""

    algorithms: Sequence[int]
    connections_max: int
    ntp_server: str | None = None
    ntp_port: int = DEFAULT_NTP_PORT
    timeout_s: float = SESSION_TIMEOUT_S


@dataclass(frozen=True)
class NtsKeParts:
    """What a key exchange process is given; all of it is made before the fork.

    certificates: loaded, while the daemon could still read the key. counters: this process's own memory.
    """

    sockets: Sequence[socket.socket]
    certificates: CertificateStore
    ring: KeyRing
    admission: Admission
    counters: KeCounters


class NtsKe:
    """Server and certificates in an event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: NtsKeOptions,
        parts: NtsKeParts,
        log: Log,
        wall_s: Callable[[], float] = time.time,
        selector: ConnectionSelector | None = None,
    ) -> None:
        self.loop = loop
        self._certificates = parts.certificates
        self._admission = parts.admission
        self._counters = parts.counters
        self._wall_s = wall_s
        self._timer: asyncio.TimerHandle | None = None
        self.service = KeService(
            parts.certificates.credentials, parts.ring, options.algorithms, options.ntp_server, options.ntp_port
        )
        self.server = NtsKeServer(
            loop,
            parts.sockets,
            self.service,
            log,
            connections_max=options.connections_max,
            admission=parts.admission,
            counters=parts.counters,
            timeout_s=options.timeout_s,
            selector=selector,
        )

    def start(self) -> None:
        self.server.start()
        self._timer = self.loop.call_later(CERTIFICATE_CHECK_S, self._check)

    def stop(self) -> None:
        self.server.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Leave the event loop."""
        self.loop.stop()

    def drain(self, told: Callable[[], None]) -> None:
        """Accept no more, say so, bring the sessions to their end and leave the event loop."""
        self.server.refuse_more()
        told()
        self._leave_when_empty()

    def _leave_when_empty(self) -> None:
        # bounded: every session has its deadline
        if self.server.sessions:
            self.loop.call_later(DRAIN_CHECK_S, self._leave_when_empty)
        else:
            self.end()

    def follow(self, options: NtsKeOptions, pairs: Sequence[Pair], limit: RatelimitOptions | None) -> None:
        """Go on with other options and certificates, from the next session on; those that have begun are not touched.

        pairs: `ntsservercert` with `ntsserverkey`; when one of them cannot be used, that is told and the old ones stay.
        limit: `ntsratelimit`. There have to be descriptors for the sessions (`raise_descriptor_limit`).
        """
        self.server.resize(options.connections_max)
        self.service.algorithms = options.algorithms
        self.service.ntp_server = options.ntp_server
        self.service.ntp_port = options.ntp_port
        self._admission.set_limit(limit)
        self._certificates.replace(pairs, self._wall_s())
        self._use_certificates()

    def reload_certificates(self, *, force: bool = True) -> None:
        """Take new certificates into use for the sessions that begin from now on."""
        self._certificates.reload_if_changed(self._wall_s(), force=force)
        self._use_certificates()

    def _use_certificates(self) -> None:
        if self.service.credentials is not self._certificates.credentials:
            self.service.credentials = self._certificates.credentials
            self._counters.add("certificate_reloads")

    def _check(self) -> None:
        self.reload_certificates(force=False)
        self._timer = self.loop.call_later(CERTIFICATE_CHECK_S, self._check)


def raise_descriptor_limit(connections_max: int, log: Log) -> None:
    """Have room for every session; when the system gives less, say so: the service goes on within it."""
    wanted = connections_max + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (OSError, ValueError):
        # no right to more than the hard limit
        allowed = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, soft), hard))
        if allowed < wanted:
            log(
                Severity.WARNING,
                f"The limit of {allowed} descriptors keeps NTS-KE below {connections_max} connections",
            )


def run_ntske(
    options: NtsKeOptions,
    parts: NtsKeParts,
    log: Log,
    *,
    around: Callable[[NtsKe], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> int:
    """The life of a key exchange process; its exit status. `around`: what begins and ends with its serving.

    The limit of descriptors was raised by whoever forked it (`raise_descriptor_limit`).
    """
    loop, selector = new_event_loop()
    asyncio.set_event_loop(loop)
    ntske = NtsKe(loop, options, parts, log, selector=selector)
    loop.add_signal_handler(signal.SIGTERM, ntske.end)
    loop.add_signal_handler(RELOAD_SIGNAL, ntske.reload_certificates)
    ntske.start()
    try:
        with around(ntske):
            loop.run_forever()
    finally:
        ntske.stop()
        loop.close()
    return 0
