"""Names over real sources, on a simulated machine with scripted names: what their tests stand on."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast.client.names import (
    Names,
)
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.sources import Sources, key_authenticators
from ntpd_fast.client.transport import Receiver
from ntpd_fast.clock.reference import Reference, ReferenceOptions
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.model import SourceConfig
from ntpd_fast.config.sources import SourceFiles
from tests.sim.machine import Machine
from tests.sim.resolver import SimResolver
from tests.sim.world import World

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def configs(*lines: str) -> tuple[SourceConfig, ...]:
    return parse_lines(lines).sources


def config(line: str) -> SourceConfig:
    (only,) = configs(line)
    return only


class NoNetwork:
    """A transport over which nothing can be sent, with routes that may be missing."""

    def __init__(self) -> None:
        self.unreachable: set[str] = set()

    def open(
        self, address: IPv4Address | IPv6Address, port: int, receiver: Receiver, *, symmetric: bool
    ) -> None:
        return None

    def can_reach(self, address: IPv4Address | IPv6Address, port: int) -> bool:
        return str(address) not in self.unreachable


class Daemon:
    """Names over real sources, on a simulated machine and with scripted names."""

    def __init__(self, *lines: str, refresh_s: float = 0.0, seed: int = 1) -> None:
        self.world = World(seed)
        self.machine = Machine(self.world)
        clock = self.machine.boot()
        log = self.machine.log
        rng = random.Random(seed)
        reference = Reference(clock, ReferenceOptions(), log=log, random=rng)
        self.network = NoNetwork()
        self.sources = Sources(
            clock,
            reference,
            self.network,
            parse_lines([]),
            log=log,
            random=rng,
            authenticators=key_authenticators({}, log),
        )
        self.resolver = SimResolver(self.world)
        self.files = SourceFiles((), ())
        self.names = Names(
            self.sources,
            self.resolver,
            clock.scheduler,
            can_reach=self.network.can_reach,
            refresh_s=refresh_s,
            log=log,
            random=rng,
            read_dirs=lambda directories: self.files,
        )
        self.configured = configs(*lines)

    def start(self, run_s: float = 1.0) -> Daemon:
        self.names.start(self.configured)
        self.world.run(run_s)
        return self

    def put_files(self, *lines: str, notes: tuple[str, ...] = ()) -> None:
        self.files = SourceFiles(configs(*lines), notes)

    @property
    def shown(self) -> list[str]:
        return [source.text for source in self.sources.ntp_sources]

    @property
    def addresses(self) -> list[str]:
        return [source.text for source in self.sources.ntp_sources if source.address is not None]

    def source(self, text: str) -> NtpSource:
        (found,) = (source for source in self.sources.ntp_sources if source.text == text)
        return found

    def confirm(self, text: str) -> None:
        hook = self.sources.hooks.confirmed
        assert hook is not None
        hook(self.source(text))

    def complain(self, text: str) -> None:
        hook = self.sources.hooks.wants_replacement
        assert hook is not None
        hook(self.source(text))

    def lines(self, part: str = "") -> list[str]:
        return self.machine.lines(part)


def some(first: int, count: int) -> list[str]:
    return [f"10.1.{i // 250}.{i % 250}" for i in range(first, first + count)]
