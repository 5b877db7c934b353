"""The sources of the daemon put together: sockets, names, associations, and the packets that workers hand over."""

from __future__ import annotations

import asyncio

from ntpd_fast.client.names import Names
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.poller import Poller, PollerOptions
from ntpd_fast.client.resolver import SystemResolver
from ntpd_fast.client.sources import DaemonFacts, Sources, SourcesHooks
from ntpd_fast.client.stamps import Stamp
from ntpd_fast.config.model import Config
from ntpd_fast.control.associations import Handed
from ntpd_fast.control.clockwork import Clockwork
from ntpd_fast.control.dataplane import DataPlane, PeerRow
from ntpd_fast.control.ntsclient import NtsClient
from ntpd_fast.control.signing import Signer
from ntpd_fast.system.messages import Log


class Upstream:
    """Sources, their sockets, and what turns names into them.

    `nts` knows sources from here on. `serving`: whether somebody may ask us. `signer` takes answers that Samba is to
    sign.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        clockwork: Clockwork,
        plane: DataPlane,
        nts: NtsClient,
        *,
        serving: bool,
        family: int | None,
        log: Log,
        signer: Signer,
    ) -> None:
        self._loop = loop
        self._config = config
        self._clockwork = clockwork
        self._plane = plane
        self.signer = signer
        self._published: frozenset[PeerRow] = frozenset()
        self._publishing = False
        """It will be looked at before the loop's next turn which rows there are."""
        self.poller = Poller(loop, clockwork.clock, PollerOptions.from_config(config), log)
        self.sources = Sources(
            clockwork.clock,
            clockwork.reference,
            self.poller,
            config,
            log=log,
            random=clockwork.random,
            authenticators=nts.authenticator,
            facts=DaemonFacts(serving=serving, net_corrections=config.ptpport != 0),
            hooks=SourcesHooks(added=nts.adopt, addresses_changed=self._addresses_changed),
        )
        nts.bind(clockwork.clock, self.sources)
        self._resolver = SystemResolver(loop, family=family)
        self.names = Names(
            self.sources,
            self._resolver,
            clockwork.scheduler,
            can_reach=self.poller.can_reach,
            refresh_s=config.refresh_s,
            log=log,
            random=clockwork.random,
            sourcedirs=config.sourcedirs,
        )

    def start(self) -> None:
        """Begin to look names up and to ask."""
        self.sources.start()
        self.names.start(self._config.sources)

    def close(self) -> None:
        """Stop looking names up and asking."""
        self.names.close()
        self._resolver.close()
        self.sources.close()
        self.poller.close()
        self.signer.close()

    def reconfigure(self, config: Config) -> None:
        """Follow a changed configuration: sources, names, and by which way their packets come."""
        old, self._config = self._config, config
        self.poller.set_options(PollerOptions.from_config(config))
        if config.refresh_s != old.refresh_s:
            self.names.set_refresh(config.refresh_s)
        if config.sources != old.sources:
            self.names.configure(config.sources)
        if config.sourcedirs != old.sourcedirs:
            self.names.set_sourcedirs(config.sourcedirs)
        self._publish_peers()

    def receive(self, handed: Handed) -> None:
        """A packet that a worker handed over."""
        if handed.to_sign:
            self.signer.sign(handed)
            return
        self._clockwork.scheduler.begin_event()
        cooked_ns, err_s = self._clockwork.clock.cook(handed.rx_raw_ns)
        stamp = Stamp(cooked_ns, err_s, handed.rx_source)
        self.sources.receive(handed.remote, handed.port, handed.data, stamp, handed.local)

    def _uses_server_port(self, source: NtpSource) -> bool:
        config = self._config
        return (
            source.is_peer
            or (config.acquisitionport is not None and config.acquisitionport == config.port)
            or (config.ptpport != 0 and source.port == config.ptpport)
        )

    def _addresses_changed(self) -> None:
        # thousands of sources may come with one reload: one look at all of them, not one for each
        if not self._publishing:
            self._publishing = True
            self._loop.call_soon(self._publish_peers)

    def _publish_peers(self) -> None:
        self._publishing = False
        rows = frozenset(
            PeerRow(source.address, source.port, source.is_peer)
            for source in self.sources.ntp_sources
            if source.address is not None and self._uses_server_port(source)
        )
        if rows != self._published:
            self._published = rows
            self._plane.publish_peers(rows)
