"""NTS of all sources: makes their authenticators, knows their KE servers, keeps their keys over a restart.

The engine's end of it: `authenticator` where sources get theirs made, `adopt` as the `added` hook of `Sources`,
`bind` to the set of sources, `save` at exit and on `dump`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ntpd_fast.client import ntsdump
from ntpd_fast.client.auth import Authenticator
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.nts_auth import NtsAuthenticator, NtsOptions, NtsState
from ntpd_fast.client.ntske_client import KeyExchanger
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.sources import AddSourceError
from ntpd_fast.client.stamps import Now
from ntpd_fast.config.model import Config, SourceConfig, SourceKind
from ntpd_fast.system.messages import Log, Severity


class AddressTable(Protocol):
    """The part of `Sources` that knows which source has which address."""

    def set_address(self, source: NtpSource, address: IPAddress, port: int | None = None) -> None:
        """Give a source another address; raises AddSourceError when it is taken."""


class _Host:
    """A source as its authenticator sees it (`NtsHost`)."""

    def __init__(self, source: NtpSource, auth: NtsAuthenticator, owner: NtsSources) -> None:
        self.source = source
        self.auth = auth
        self._owner = owner
        # while the source asks the server that its KE server named
        self._ke_address: IPAddress | None = None

    @property
    def ke_address(self) -> IPAddress | None:
        return self._ke_address or self.source.address

    def move(self, address: IPAddress, port: int | None) -> bool:
        ke_address = self.ke_address
        if not self._owner.move(self.source, address, self.source.config.options.port if port is None else port):
            return False
        self._ke_address = ke_address
        return True

    def moved_away(self) -> None:
        self._ke_address = None

    def take_saved(self) -> NtsState | None:
        return self._owner.load(self.ke_address)


class NtsSources:
    """The NTS sources of a daemon."""

    def __init__(
        self,
        config: Config,
        exchanger: KeyExchanger,
        others: Callable[[SourceConfig], Authenticator],
        log: Log,
        *,
        monotonic_ns: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`others` makes the authenticators of sources without NTS."""
        self._config = config
        self._exchanger = exchanger
        self._others = others
        self._log = log
        self._monotonic_ns = monotonic_ns
        self._random_bytes = random_bytes
        self._directory = config.ntsdumpdir
        self._hosts: dict[NtpSource, _Host] = {}
        self._sources: AddressTable | None = None

    def bind(self, sources: AddressTable) -> None:
        """Name the set of sources; before they are started."""
        self._sources = sources

    def follow(self, config: Config) -> None:
        """Take `ntsaeads`, `ntsrefresh` and `ntsdumpdir` of another configuration; sources keep keys and cookies."""
        self._config = config
        self._directory = config.ntsdumpdir
        for host in self._hosts.values():
            host.auth.options = replace(host.auth.options, algorithms=config.ntsaeads, refresh_s=config.ntsrefresh_s)

    def authenticator(self, config: SourceConfig) -> Authenticator:
        """The authenticator of a source; NTS beats a key, and is not for peers."""
        if not config.options.nts:
            return self._others(config)
        if config.kind is SourceKind.PEER:
            self._log(Severity.WARNING, "NTS not supported with peers")
            return self._others(config)
        options = NtsOptions(
            config.name,
            config.options.ntsport,
            config.options.certset,
            self._config.ntsaeads,
            self._config.ntsrefresh_s,
        )
        return NtsAuthenticator(
            options, self._exchanger, self._log, random_bytes=self._random_bytes, monotonic_ns=self._monotonic_ns
        )

    def adopt(self, source: NtpSource) -> None:
        """Tie a source that was just added to its authenticator."""
        auth = source.association.auth
        if isinstance(auth, NtsAuthenticator):
            host = _Host(source, auth, self)
            auth.attach(host)
            self._hosts[source] = host

    def move(self, source: NtpSource, address: IPAddress, port: int) -> bool:
        """Have a source ask another server; False when another source has that address."""
        old, old_port = source.address, source.port
        if (old, old_port) == (address, port):
            return True
        if self._sources is None:
            raise ValueError("no set of sources")
        try:
            self._sources.set_address(source, address, port)
        except AddSourceError:
            return False
        name = source.config.name
        if address != old:
            self._log(Severity.INFO, f"Source {old} changed to {address} ({name})")
        else:
            label = f"{address}" if name == f"{address}" else f"{address} ({name})"
            self._log(Severity.INFO, f"Source {label} changed port to {port}")
        return True

    def save(self, now: Now) -> None:
        """Write the dump files of all sources that have keys."""
        if self._directory is None:
            return
        for source, host in list(self._hosts.items()):
            if source.closed:
                del self._hosts[source]
                continue
            self._save(self._directory, host, now)

    def _save(self, directory: str, host: _Host, now: Now) -> None:
        address, ke_address = host.source.address, host.ke_address
        if address is None or ke_address is None:
            return
        state = host.auth.save(now, address, host.source.port)
        if state is None:
            return
        try:
            ntsdump.save(directory, ke_address, state)
        except OSError as error:
            path = ntsdump.path_of(directory, ke_address)
            self._log(Severity.ERROR, f"Could not save NTS keys to {path} : {error.strerror}")

    def load(self, ke_address: IPAddress | None) -> NtsState | None:
        """The saved keys of a source; they are gone from the disk then."""
        if self._directory is None or ke_address is None:
            return None
        try:
            state = ntsdump.load(self._directory, ke_address)
        except (OSError, ntsdump.DumpError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            path = ntsdump.path_of(self._directory, ke_address)
            self._log(Severity.WARNING, f"Could not load NTS keys from {path} : {reason}")
            return None
        if state is not None:
            self._log(Severity.INFO, f"Loaded NTS keys of {ke_address}")
        return state
