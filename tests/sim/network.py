"""The simulated network: datagrams between addresses, with delay, jitter, loss and whoever listens in.

A direction between two addresses is a `Path`; its delays come from a random stream of its own. Delay is
base + jitter·Exp(1); a packet may be lost, and a scenario may change a path at any time (routes change,
links go down). Taps see every datagram when it is sent, as an eavesdropper on the path would.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from tests.sim.world import NS_PER_S, World

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port."""

    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class Datagram:
    """What travels."""

    source: Endpoint
    destination: Endpoint
    data: bytes
    residence_s: float = 0.0
    """Time in queues on the way, as the devices there have measured it."""


@dataclass(slots=True)
class Path:
    """One direction between two hosts."""

    base_s: float = 1e-4
    jitter_s: float = 1e-4
    loss: float = 0.0
    down: bool = False
    step_s: float = 0.0
    """Delays are rounded to multiples of this, if it is positive."""
    measured: Callable[[float], float] | None = None
    """What the devices on the path say of a packet's time in their queues; None: they measure nothing."""

    def delay_s(self, rng: random.Random) -> float | None:
        """The delay of one packet; None: it is lost."""
        if self.down or (self.loss > 0.0 and rng.random() < self.loss):
            return None
        delay_s = self.base_s
        if self.jitter_s > 0.0:
            delay_s += self.jitter_s * -math.log(1.0 - rng.random())
        return delay_s


Receiver = Callable[[Datagram], None]


class Network:
    """All hosts and the paths between them."""

    def __init__(self, world: World, default: Path | None = None) -> None:
        self.world = world
        self.default = default or Path()
        self.sent = 0
        self.lost = 0
        self.taps: list[Callable[[Datagram], None]] = []
        self._hosts: dict[IPAddress, Receiver] = {}
        self._paths: dict[tuple[IPAddress, IPAddress], Path] = {}
        self._rngs: dict[tuple[IPAddress, IPAddress], random.Random] = {}

    def attach(self, address: IPAddress, receiver: Receiver) -> None:
        """Let a host receive what is sent to an address."""
        self._hosts[address] = receiver

    def detach(self, address: IPAddress) -> None:
        """Nobody is there any more."""
        self._hosts.pop(address, None)

    def path(self, source: IPAddress, destination: IPAddress) -> Path:
        """One direction, to be looked at or changed; a copy of the default until then."""
        key = (source, destination)
        path = self._paths.get(key)
        if path is None:
            default = self.default
            path = Path(default.base_s, default.jitter_s, default.loss, default.down, default.step_s)
            self._paths[key] = path
        return path

    def both_ways(self, one: IPAddress, other: IPAddress) -> tuple[Path, Path]:
        """Both directions between two addresses."""
        return self.path(one, other), self.path(other, one)

    def send(self, datagram: Datagram) -> bool:
        """Send; False when there is no route (the path is down)."""
        source, destination = datagram.source.address, datagram.destination.address
        self.sent += 1
        for tap in self.taps:
            tap(datagram)
        path = self.path(source, destination)
        rng = self._rngs.get((source, destination))
        if rng is None:
            rng = self._rngs[source, destination] = self.world.random(f"path/{source}/{destination}")
        delay_s = path.delay_s(rng)
        if delay_s is None:
            self.lost += 1
            return not path.down
        if path.measured is not None:
            datagram = replace(datagram, residence_s=path.measured(delay_s - path.base_s))
        self.inject(datagram, delay_s)
        return True

    def inject(self, datagram: Datagram, delay_s: float = 0.0) -> None:
        """Deliver a datagram after a delay, whoever made it (its source may be forged)."""
        self.world.at(
            self.world.now_ns + round(delay_s * NS_PER_S), lambda: self._deliver(datagram)
        )

    def _deliver(self, datagram: Datagram) -> None:
        receiver = self._hosts.get(datagram.destination.address)
        if receiver is not None:
            receiver(datagram)
