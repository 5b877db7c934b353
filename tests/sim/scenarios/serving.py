"""Served time while the clock is moved: what clients get has to be right at every moment."""

from __future__ import annotations

from tests.sim.monitor import Monitor
from tests.sim.network import Datagram
from tests.sim.node import Node
from tests.sim.refserver import HEADER, UNIX_TO_NTP_S
from tests.sim.scenario import Site, scenario, variants

ROUNDING_S = 2e-9


class Witness:
    """Looks at every answer of a node when it leaves and compares its transmit time with the truth."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.errors: list[tuple[float, float, float, int, int]] = []
        """True time, error of the time, root distance, leap, stratum of each answer."""
        node.network.taps.append(self._see)

    def _see(self, datagram: Datagram) -> None:
        if datagram.source.address != self.node.address or datagram.source.port != 123:
            return
        first, stratum, _, _, delay, dispersion, _, _, _, rx, _ = HEADER.unpack_from(datagram.data)
        world = self.node.world
        utc_ns = world.utc_ns()
        served_ns = (((rx >> 32) - UNIX_TO_NTP_S) & 0xFFFFFFFF) * 10**9 + ((rx & 0xFFFFFFFF) * 10**9 >> 32)
        distance_s = delay / 65536 / 2 + dispersion / 65536
        self.errors.append((world.now_ns / 1e9, (served_ns - utc_ns) / 1e9, distance_s, first >> 6, stratum))

    def dishonest(self, start_s: float) -> list[tuple[float, float, float, int, int]]:
        """Answers from a time on that were wrong by more than they admitted."""
        return [e for e in self.errors if e[0] >= start_s and e[3] != 3 and abs(e[1]) > e[2] + ROUNDING_S]


def served_site(seed: int, *lines: str, offset_s: float = 0.0, poll: int = 0) -> tuple[Site, Node, Node, Witness]:
    """A stratum-1 server, a node that serves, a client that asks it."""
    site = Site(seed)
    site.server()
    node = site.node(
        "server 10.0.0.1 minpoll 4 maxpoll 6 iburst",
        *lines,
        serving=True,
        offset_s=offset_s,
        frequency=2e-5,
        wander=1e-9,
    ).start()
    client = site.node(f"server {node.address} minpoll {poll} maxpoll {poll}", frequency=-1e-5).start()
    return site, node, client, Witness(node)


@scenario(fast=1)
def served_time_is_honest_while_the_clock_is_slewed(seed: int) -> None:
    site, node, _, witness = served_site(seed, offset_s=20.0)
    site.run(1000)
    assert len([e for e in witness.errors if e[3] != 3]) > 900
    assert witness.dishonest(0.0) == []
    # long before the system clock is right
    assert abs(node.machine.offset_s()) < 1e-3
    early = [abs(e[1]) for e in witness.errors if 20 < e[0] < 100]
    assert max(early) < 1e-2


@scenario(fast=1)
def no_answer_is_off_by_a_step(seed: int) -> None:
    site, node, _, witness = served_site(seed, "makestep 0.01 -1", offset_s=1000.0)
    rng = site.world.random("steps")
    start_s = 20.0
    site.run(start_s)
    for _ in range(10):
        site.run(rng.uniform(20, 60))
        # an operator's step, made good with the next update
        node.local.step(rng.uniform(-0.5, 0.5))
        site.run(0.5)
        site.run(200)
    big = [e for e in witness.errors if e[3] != 3 and abs(e[1]) > 0.55]
    assert big == []
    assert len(node.lines("System clock was stepped")) >= 10


@scenario(fast=1)
def a_server_that_synchronises_serves_the_next_stratum_with_an_honest_distance(seed: int) -> None:
    site, node, client, witness = served_site(seed, poll=4)
    monitor = Monitor(client.machine)
    site.run(5000)
    assert witness.dishonest(0.0) == []
    assert {e[4] for e in witness.errors if e[3] != 3} == {2}
    assert client.reference.params(client.local.cooked_ns()).stratum == 3
    assert monitor.accuracy().offset_max_s < 1e-3
    before = witness.errors[-1][2]
    for path in site.network.both_ways(node.address, site.servers[0].address):
        path.down = True
    site.run(20_000)
    # it has grown by its own rate since the source was lost
    assert witness.errors[-1][2] > before + 19_000 * 1e-6
    assert witness.dishonest(0.0) == []


@variants(20.0, -20.0, 1e-3)
def control_killed_in_a_slew_leaves_served_time_honest(seed: int, offset_s: float) -> None:
    site, node, client, witness = served_site(seed, offset_s=offset_s)
    monitor = Monitor(node.machine)
    rng = site.world.random("kills")
    site.run(30)
    for _ in range(5):
        site.run(rng.uniform(3, 15))
        assert node.page is not None
        base_ppm = node.page.base_freq_ppm
        node.crash(rng.uniform(0.005, 0.08))
        site.run(0.004)
        # the frequency is the base again, the clock slews no more
        assert abs(node.machine.kernel.frequency_ppm + base_ppm) < 1e-4
        site.run(0.2)
        assert node.running
        assert node.reference.synchronised
    site.run(1500)
    assert witness.dishonest(0.0) == []
    served = [e for e in witness.errors if e[0] > 20]
    assert all(e[3] == 0 and e[4] == 2 for e in served), "not served all the time"
    assert monitor.accuracy(1000).offset_max_s < 1e-3
    assert client.reference.synchronised
