"""NTP service from control's side: its own with `workers 0`, and families that are served only while they are wanted.

Server sockets exist only for families that somebody may ask in. When a command allows the first address of another
one, its sockets are opened then, and closed when a command denies the last: by the supervisor where there is one, else
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Sequence

from ntpd_fast.control.associations import AssociationReader
from ntpd_fast.control.clockwork import Clockwork
from ntpd_fast.control.overseer import Overseer
from ntpd_fast.control.plan import bind_addresses
from ntpd_fast.control.setup import Setup
from ntpd_fast.control.upstream import Upstream
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.engine import Engine, PtpOptions, address_of
from ntpd_fast.server.sockets import BindAddress, Group, close_group, cut_off
from ntpd_fast.server.worker import BEAT_S
from ntpd_fast.system.timers import repeat

log = logging.getLogger(__name__)


class Serving:
    """Packets of associations that arrive on the server sockets of this process go to `upstream`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clockwork: Clockwork,
        setup: Setup,
        overseer: Overseer,
        upstream: Upstream,
    ) -> None:
        self._loop = loop
        self._clockwork = clockwork
        self._setup = setup
        self._overseer = overseer
        self._upstream = upstream
        self._engine: Engine | None = None
        self._reader: AssociationReader | None = None
        self._pair: tuple[socket.socket, ...] = ()

    def serve(self, opened: socket.socket) -> None:
        """Answer on this socket, in this process."""
        if self._engine is not None:
            self._engine.add(opened)
            return
        self._pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._reader = AssociationReader(self._loop, [self._pair[0]], self._upstream.receive)
        config = self._setup.config
        ptp = PtpOptions.of(config.ptpport, config.ptpdomain)
        engine = Engine([opened], self._setup.shared, 0, channel=self._pair[1].fileno(), ptp=ptp)
        engine.start()
        engine.attach(self._loop)
        self._engine = engine
        repeat(self._clockwork.scheduler, BEAT_S, lambda: engine.beat(time.monotonic_ns()))

    def follow(self, table: AccessTable) -> None:
        """Access rules have changed: serve the families that somebody may ask in now, and no others."""
        setup = self._setup
        groups = setup.ntp_sockets.groups
        families = self._families(table)
        wanted = bind_addresses(setup.config, setup.run, families.__contains__)
        present = [group.bind for group in groups if group.bind in wanted or not group.inherited]
        if families == setup.families and set(wanted) == set(present):
            return
        setup.families = families
        if not self._overseer.serve_families(families, setup.reloads.count):
            self._serve_here(setup.wanted_binds(setup.config))

    def _families(self, table: AccessTable) -> frozenset[int]:
        """Those that somebody may ask in, or that an association needs which a command has added."""
        setup = self._setup
        families = frozenset(version for version in (4, 6) if table.any_allowed(version))
        wanted = bind_addresses(setup.config, setup.run, families.__contains__)
        needed = {
            source.address.version
            for source in self._upstream.sources.ntp_sources
            if source.address is not None and (source.is_peer or source.port == setup.config.ptpport)
        }
        unwanted = {group.bind.version for group in setup.ntp_sockets.unwanted(wanted)}
        return families | needed & unwanted

    def _serve_here(self, wanted: Sequence[BindAddress]) -> None:
        sockets = self._setup.ntp_sockets
        for group in sockets.unwanted(wanted):
            self.end(sockets.take(group.bind))
        for bind in sockets.missing(wanted):
            try:
                group = sockets.extend(bind, 0)
            except OSError as error:
                log.error("Could not open NTP socket on %s : %s", bind, error.strerror)
                continue
            self.begin(group)

    def begin(self, group: Group) -> None:
        """Serve an address that was opened just now; with workers only what control does there itself."""
        opened = group.control
        assert opened is not None
        has_workers = self._setup.workers > 0
        self._upstream.poller.attach_server_socket(opened, own=has_workers, ptp=group.bind.ptp)
        if not has_workers:
            self.serve(opened)
        self._upstream.sources.facts.serving = True

    def end(self, group: Group) -> None:
        """Serve an address no longer: answer what has come, and close our sockets."""
        opened = group.control
        assert opened is not None
        name = address_of(opened)
        self._upstream.poller.detach_server_socket(opened)
        cut_off(group)
        if self._engine is not None:
            # a socket of a kind that is not served from here is not there
            with contextlib.suppress(KeyError):
                self._engine.drop(name)
        close_group(group)
        self._upstream.sources.facts.serving = bool(self._setup.ntp_sockets.groups)

    def close(self) -> None:
        """Stop answering; what is queued stays in the sockets."""
        if self._engine is not None:
            self._engine.detach()
        if self._reader is not None:
            self._reader.close()
        for end in self._pair:
            end.close()
