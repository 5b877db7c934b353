"""The limits that chrony's defaults keep in simulations of the same conditions (facts, not our choice).

A client of a perfect server on a path with exponential jitter of 0.1 ms; its clock is 0.1 s and 100 ppm off and
wanders by 1e-9 s/s per √s, if a scenario doesn't say otherwise.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.sim.monitor import Monitor
from tests.sim.network import Path
from tests.sim.node import Node
from tests.sim.scenario import Limits, Site, scenario, variants

DURATION_S = 10_000


def one_client(site: Site, *lines: str, options: str = "", **hardware: Any) -> Monitor:
    """The usual client; returns what watches it."""
    site.server()
    values = {"offset_s": 0.1, "frequency": 1e-4, "wander": 1e-9, **hardware}
    node = site.client(*lines, options=options, **values)
    return Monitor(node.machine)


@scenario(fast=2)
def defaults_keep_a_millisecond(seed: int) -> None:
    site = Site(seed)
    monitor = one_client(site)
    site.run(DURATION_S)
    Limits().check(monitor)


@variants(5e-3, -5e-3, 5e-2, -5e-2)
def a_large_frequency_error_is_found(seed: int, frequency: float) -> None:
    site = Site(seed)
    monitor = one_client(site, frequency=frequency)
    site.run(DURATION_S)
    Limits(sync_s=(120, 1000)).check(monitor)


@variants(100.0, -100.0)
def a_large_offset_is_slewed_in_twelve_times_as_long(seed: int, offset_s: float) -> None:
    site = Site(seed)
    monitor = one_client(site, offset_s=offset_s)
    site.run(DURATION_S)
    Limits(sync_s=(1300, 1400)).check(monitor)


@scenario()
def a_very_bad_network_is_endured(seed: int) -> None:
    site = Site(seed, jitter_s=0.1)
    monitor = one_client(site, offset_s=1.0)
    site.run(DURATION_S)
    Limits(0.5, 0.2, 0.1, 5e-3).check(monitor)


@scenario()
def a_bad_oscillator_is_followed(seed: int) -> None:
    site = Site(seed)
    monitor = one_client(site, wander=1e-7)
    site.run(DURATION_S)
    Limits(5e-3, 5e-3, 1e-3, 1e-4).check(monitor)


@scenario(fast=1)
def asymmetric_jitter_is_corrected(seed: int) -> None:
    site = Site(seed)
    asymmetry, jitter_s = 0.47, 5e-4
    # nearly all of the jitter is on the way back
    site.network.default = Path(1e-4, jitter_s * (1.0 - 2.0 * asymmetry))
    monitor = one_client(site)
    server, client = site.servers[0].address, site.nodes[0].address
    site.network.path(server, client).jitter_s = jitter_s * (1.0 + 2.0 * asymmetry)
    site.run(100_000)
    Limits(sync_s=(120, 2000)).check(monitor)


@variants(*range(1, 15), seeds=4)
def a_fixed_poll_synchronises_with_its_third_sample(seed: int, poll: int) -> None:
    site = Site(seed, jitter_s=1e-6)
    monitor = one_client(site, "makestep 1e-2 1", options=f"minpoll {poll} maxpoll {poll}", wander=0.0)
    interval = 2.0**poll
    site.run(20 * interval)
    limits = Limits(1e-5, 1e-5, 5e-6, 5e-6, (2.0 * interval, 2.1 * interval + 1.0))
    limits.check(monitor)


@variants(100.0, -100.0)
def a_jump_from_outside_is_made_good(seed: int, step_s: float) -> None:
    site = Site(seed)
    monitor = one_client(site)
    machine = site.nodes[0].machine
    site.world.at(150 * 10**9, lambda: machine.clock.step(site.world.now_ns, round(step_s * 1e9)))
    site.run(DURATION_S)
    direction = "Forward" if step_s > 0 else "Backward"
    assert machine.lines("time jump detected") == [f"{direction} time jump detected!"]
    Limits(sync_s=(1500, 1550)).check(monitor)


@variants(*range(1, 12, 2), seeds=4)
def requests_keep_their_interval(seed: int, poll: int) -> None:
    site = Site(seed)
    one_client(site, options=f"minpoll {poll} maxpoll {poll}")
    interval = 2.0**poll
    site.run(300 * interval)
    times = site.servers[0].requests
    gaps = [(b - a) / 1e9 for a, b in pairwise(times)]
    kept = sum(interval - 1e-3 <= gap <= 1.1 * interval for gap in gaps)
    assert kept >= 0.99 * len(gaps), sorted(gaps)[:5] + sorted(gaps)[-5:]


@scenario(seeds=8)
def three_strata_of_four_servers_serve_five_clients(seed: int) -> None:
    site = Site(seed)
    start_s = 400.0
    for _ in range(4):
        site.server()
    layers: list[list[Node]] = []
    upstream = [str(server.address) for server in site.servers]
    for stratum in (2, 3):
        layer = []
        for _ in range(4):
            node = site.node(
                *(f"server {address}" for address in upstream),
                serving=True,
                offset_s=0.1,
                frequency=1e-4,
                wander=1e-9,
            )
            site.world.after(start_s * (stratum - 2), node.start)
            layer.append(node)
        layers.append(layer)
        upstream = [str(node.address) for node in layer]
    clients = [
        site.node(*(f"server {address}" for address in upstream), offset_s=0.1, frequency=1e-4, wander=1e-9)
        for _ in range(5)
    ]
    for client in clients:
        site.world.after(2 * start_s, client.start)
    monitors = [Monitor(client.machine) for client in clients]
    site.run(DURATION_S)
    for client, monitor in zip(clients, monitors, strict=True):
        Limits(1e-3, 5e-4, 5e-4, 1e-5, (100, 300)).check(monitor, 2 * start_s)
        assert client.reference.params(client.local.cooked_ns()).stratum == 4
