"""NTS of the daemon's own sources: authenticators, key exchange, trusted certificates, keys over a restart.

Made before the clock and the sources, which ask it for authenticators; `bind` ties it to them.
"""

from __future__ import annotations

import asyncio
import logging
import time

from ntpd_fast._tls import TlsError
from ntpd_fast.client.auth import Authenticator, KeyStore
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.nts_sources import NtsSources
from ntpd_fast.client.ntske_client import KeClient
from ntpd_fast.client.ntske_trust import TrustStore
from ntpd_fast.client.resolver import SystemResolver
from ntpd_fast.client.sources import Sources, key_authenticators
from ntpd_fast.clock.events import NS_PER_S, ChangeKind, ClockChange
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.config.model import Config, IPAddress, SourceConfig
from ntpd_fast.system.log import log_function

log = logging.getLogger(__name__)
tell = log_function(log)


class NtsClient:
    """`family`: 4 or 6 where the daemon was told to use no other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: Config, keys: KeyStore, *, family: int | None) -> None:
        self._config = config
        self._clock: LocalClock | None = None
        self._sources: Sources | None = None
        self._updates = 0
        self._resolver = SystemResolver(loop, family=family)
        self._trust = TrustStore(config.ntstrustedcerts, tell, system=not config.nosystemcert)
        addresses, device = _source_of(config)
        self._client = KeClient(
            loop,
            self._trust,
            self._resolver,
            check_times=self._certificates_have_times,
            time_offset_s=self._time_offset_s,
            bind_addresses=addresses,
            bind_device=device,
        )
        others = key_authenticators(keys, tell)
        self._nts = NtsSources(config, self._client, others, tell, monotonic_ns=time.monotonic_ns)

    def authenticator(self, config: SourceConfig) -> Authenticator:
        """For `Sources`: the authenticator of any source."""
        return self._nts.authenticator(config)

    def adopt(self, source: NtpSource) -> None:
        """For `SourcesHooks.added`."""
        self._nts.adopt(source)

    def bind(self, clock: LocalClock, sources: Sources) -> None:
        """Name the clock that judges certificates and the set of sources; before these are started."""
        self._clock = clock
        self._sources = sources
        self._nts.bind(sources)
        clock.add_handler(self._clock_changed)
        self._preload()

    def follow(self, config: Config) -> None:
        """Take what another configuration says of NTS clients; sources keep the keys they have.

        Sources that came or went are not ours.
        """
        self._config = config
        self._client.bind_to(*_source_of(config))
        self._trust.follow(config.ntstrustedcerts, system=not config.nosystemcert)
        self._nts.follow(config)
        self._preload()

    def save(self) -> None:
        """Write keys and cookies to `ntsdumpdir`."""
        if self._sources is not None:
            self._nts.save(self._sources.now())

    def close(self) -> None:
        """Save, and look nothing up any more."""
        self.save()
        self._resolver.close()

    def _preload(self) -> None:
        """Read trusted certificates now: it takes a while, and later their files may be out of reach."""
        for certset in {s.options.certset for s in self._config.sources if s.options.nts}:
            try:
                self._trust.credentials(certset)
            except TlsError as error:
                log.error("No NTS-KE with certset %d : %s", certset, error)

    def _clock_changed(self, change: ClockChange) -> None:
        if change.kind is not ChangeKind.UNKNOWN_STEP:
            self._updates += 1

    def _certificates_have_times(self) -> bool:
        """Whether the clock has been updated often enough to be believed about certificates (`nocerttimecheck`)."""
        return self._updates >= self._config.nocerttimecheck

    def _time_offset_s(self) -> float:
        if self._clock is None:
            return 0.0
        raw_ns = self._clock.raw_ns()
        return (self._clock.cook(raw_ns)[0] - raw_ns) / NS_PER_S


def _source_of(config: Config) -> tuple[list[IPAddress], str | None]:
    """Addresses and interface that connections leave from."""
    bind = (config.bindacqaddress_ipv4, config.bindacqaddress_ipv6)
    return [address for address in bind if address is not None], config.bindacqdevice
