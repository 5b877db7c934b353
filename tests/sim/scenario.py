"""Scenarios: what must be true of simulated sites, each a function of a seed whose name says it.

A scenario fails by an AssertionError. The registry knows for each how many seeds the whole run takes and how many
the fast part of the tests; `tests.sim.run` and `test_scenarios` go through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from tests.sim.monitor import Monitor
from tests.sim.network import Network, Path
from tests.sim.node import Node
from tests.sim.refserver import ReferenceServer, ServerState
from tests.sim.resolver import SimResolver
from tests.sim.world import EPOCH_S, World


@dataclass(frozen=True, slots=True)
class Scenario:
    """One registered scenario."""

    name: str
    run: Callable[[int], None]
    seeds: int
    fast_seeds: int


SCENARIOS: dict[str, Scenario] = {}


def scenario(*, seeds: int = 16, fast: int = 1) -> Callable[[Callable[[int], None]], Callable[[int], None]]:
    """Register a function; `fast` seeds of it (0: none) are run with the other tests."""

    def register(function: Callable[[int], None]) -> Callable[[int], None]:
        name = function.__name__
        assert name not in SCENARIOS, name
        SCENARIOS[name] = Scenario(name, function, seeds, fast)
        return function

    return register


def variants(*parameters: Any, seeds: int = 16, fast: int = 1) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function once for each parameter, which it takes after the seed."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        for parameter in parameters:
            values = parameter if isinstance(parameter, tuple) else (parameter,)
            name = f"{function.__name__}[{','.join(map(str, values))}]"

            def run(seed: int, values: tuple[Any, ...] = values) -> None:
                function(seed, *values)

            assert name not in SCENARIOS, name
            SCENARIOS[name] = Scenario(name, run, seeds, fast)
        return function

    return register


class Site:
    """A world with a network, servers 10.0.0.N and clients 10.0.1.N."""

    def __init__(
        self,
        seed: int,
        *,
        base_s: float = 1e-4,
        jitter_s: float = 1e-4,
        loss: float = 0.0,
        epoch_s: int = EPOCH_S,
    ) -> None:
        self.world = World(seed, epoch_s=epoch_s)
        self.network = Network(self.world, Path(base_s, jitter_s, loss))
        self.resolver = SimResolver(self.world)
        """The name system of all nodes."""
        self.servers: list[ReferenceServer] = []
        self.nodes: list[Node] = []

    def server(
        self, *, error_s: Callable[[float], float] | None = None, state: ServerState | None = None
    ) -> ReferenceServer:
        """Add a server with a clock that is off by `error_s` of true time."""
        address = IPv4Address(f"10.0.0.{len(self.servers) + 1}")
        server = ReferenceServer(self.world, self.network, address, error_s=error_s, state=state)
        self.servers.append(server)
        return server

    def client(self, *lines: str, options: str = "", **hardware: Any) -> Node:
        """Add a client of all servers so far (lines of its own replace them) and start it."""
        return self.node(*[f"server {s.address} {options}" for s in self.servers], *lines, **hardware).start()

    def node(self, *lines: str, **hardware: Any) -> Node:
        """Add a node; it is not started."""
        address = f"10.0.1.{len(self.nodes) + 1}"
        node = Node(self.network, address, "clockprecision 1e-9", *lines, resolver=self.resolver, **hardware)
        self.nodes.append(node)
        return node

    def run(self, duration_s: float) -> None:
        """Let time pass."""
        self.world.run(duration_s)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a clock has to keep once it is synchronised, and when it has to be."""

    max_offset_s: float = 1e-3
    max_frequency: float = 5e-4
    rms_offset_s: float = 3e-4
    rms_frequency: float = 1e-5
    sync_s: tuple[float, float] = (120, 210)

    def check(self, monitor: Monitor, start_s: float = 0.0) -> None:
        """Assert that they were kept."""
        sync_s = monitor.sync_time(self.max_offset_s, self.max_frequency)
        low, high = self.sync_s
        assert start_s + low <= sync_s <= start_s + high, f"synchronised after {sync_s - start_s} s"
        accuracy = monitor.accuracy(sync_s)
        assert accuracy.offset_max_s <= self.max_offset_s, accuracy
        assert accuracy.frequency_max <= self.max_frequency, accuracy
        assert accuracy.offset_rms_s <= self.rms_offset_s, accuracy
        assert accuracy.frequency_rms <= self.rms_frequency, accuracy
