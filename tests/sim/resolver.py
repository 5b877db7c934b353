"""The name system of a simulation: names, what they stand for, and how long it takes to say so."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from ntpd_fast.client.resolver import Resolution
from tests.sim.world import NS_PER_S, World


class SimResolver:
    """See `client.resolver.Resolver`; every answer comes after `delay_s`."""

    def __init__(self, world: World, *, delay_s: float = 0.01) -> None:
        self.delay_s = delay_s
        self.asked: list[tuple[float, str]] = []
        """True time (s) and name of every question."""
        self.pending = 0
        self.pending_max = 0
        self._world = world
        self._zone: dict[str, Resolution] = {}

    def set(self, name: str, *addresses: str) -> None:
        """Let a name stand for addresses from now on."""
        self._zone[name] = Resolution(tuple(ip_address(text) for text in addresses), "" if addresses else "No address")

    def set_impossible(self, name: str) -> None:
        """No name system can have this name."""
        self._zone[name] = Resolution(reason="Invalid name", impossible=True)

    def forget(self, name: str) -> None:
        """The name does not resolve any more."""
        self._zone.pop(name, None)

    def times(self, name: str) -> list[float]:
        """When a name was asked for."""
        return [time_s for time_s, asked in self.asked if asked == name]

    def resolve(self, name: str, done: Callable[[Resolution], None]) -> None:
        """See `Resolver`; what counts is what the name stands for when the answer comes."""
        self.asked.append((self._world.now_ns / NS_PER_S, name))
        self.pending += 1
        self.pending_max = max(self.pending_max, self.pending)

        def answer() -> None:
            self.pending -= 1
            done(self._zone.get(name, Resolution(reason="Name or service not known")))

        self._world.after(self.delay_s, answer)
