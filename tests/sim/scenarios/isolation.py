"""Sites on their own: local references, orphans, peers, and nodes that were away or restarted."""

from __future__ import annotations

from ntpd_fast.clock.served import REFID_LOCAL
from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from tests.sim.monitor import Monitor
from tests.sim.node import Node
from tests.sim.scenario import Site, scenario, variants
from tests.sim.world import NS_PER_S

HOUR_S = 3600
DAY_S = 86_400


def spread_s(nodes: list[Node]) -> float:
    """The greatest difference between the clocks of nodes."""
    readings = [node.machine.kernel.read() for node in nodes]
    return (max(readings) - min(readings)) / NS_PER_S


@scenario(fast=1)
def a_site_without_the_internet_stays_together(seed: int) -> None:
    """Clients of a server that serves its own time follow it wherever it goes."""
    site = Site(seed)
    server = site.node("local stratum 8", serving=True, frequency=5e-5, wander=1e-9).start()
    clients = [
        site.node(f"server {server.address} iburst", offset_s=0.01 * k, frequency=-1e-5 * k, wander=1e-9).start()
        for k in range(1, 4)
    ]
    site.run(3 * HOUR_S)
    assert spread_s([server, *clients]) < 1e-3
    for client in clients:
        assert client.reference.params(client.local.cooked_ns()).stratum == 9
    assert abs(server.machine.offset_s()) > 0.1


POLL_S = 16
WAIT_S = 60


def orphans(site: Site, count: int, kind: str) -> list[Node]:
    """Nodes that know only each other."""
    addresses = [f"10.0.1.{index + 1}" for index in range(count)]
    nodes = []
    rng = site.world.random("orphans")
    for index in range(count):
        others = [a for a in addresses if a != addresses[index]]
        nodes.append(
            site.node(
                *(f"{kind} {other} minpoll 4 maxpoll 4" for other in others),
                f"local stratum 10 orphan distance 0 waitunsynced {WAIT_S} waitsynced {WAIT_S}",
                serving=True,
                offset_s=rng.uniform(-0.02, 0.02),
                frequency=rng.uniform(-5e-5, 5e-5),
                wander=1e-9,
            )
        )
    return nodes


def leaders(nodes: list[Node]) -> list[str]:
    """Members that serve their own time."""
    return [
        node.name
        for node in nodes
        if node.running and node.reference.params(node.local.cooked_ns()).refid == REFID_LOCAL
    ]


@variants("server", "peer", seeds=8)
def orphans_elect_one_leader_and_another_when_it_dies(seed: int, kind: str) -> None:
    site = Site(seed)
    nodes = orphans(site, 3, kind)
    for node in nodes:
        node.start()
    take_over_s = 8 * POLL_S + WAIT_S
    site.run(2 * take_over_s)
    for _ in range(100):
        assert leaders(nodes) == [nodes[0].name]
        site.run(30)
    assert spread_s(nodes) < 2e-3
    nodes[0].stop()
    rest = nodes[1:]
    site.run(take_over_s)
    for _ in range(1000):
        assert leaders(rest) == [rest[0].name]
        site.run(1)
    for _ in range(100):
        assert leaders(rest) == [rest[0].name]
        site.run(30)
    assert spread_s(rest) < 2e-3


KEYS = {1: SymmetricKey(1, KeyType.AES128, bytes(range(16))), 2: SymmetricKey(2, KeyType.SHA256, bytes(32))}


@variants("", "xleave", "key 2", "xleave key 1", seeds=8, fast=0)
def peers_are_as_good_as_clients(seed: int, option: str) -> None:
    site = Site(seed)
    site.server()
    one = site.node(
        "server 10.0.0.1 minpoll 4 maxpoll 4",
        f"peer 10.0.1.2 minpoll 4 maxpoll 4 {option}",
        # or a peer with a key would count for more than a server without
        "authselectmode ignore",
        serving=True,
        frequency=1e-5,
        wander=1e-9,
        keys=KEYS,
    )
    other = site.node(
        f"peer 10.0.1.1 minpoll 4 maxpoll 4 {option}",
        serving=True,
        frequency=-1e-5,
        wander=1e-9,
        offset_s=0.01,
        keys=KEYS,
    )
    one.start()
    other.start()
    monitors = [Monitor(node.machine) for node in (one, other)]
    site.run(20_000)
    # row 9 of the accuracy table, and another hop of the same kind
    assert monitors[0].accuracy().offset_rms_s < 3e-5
    assert monitors[1].accuracy().offset_rms_s < 6e-5
    assert other.reference.params(other.local.cooked_ns()).stratum == 3
    # the better one does not follow the worse
    assert one.selected == "10.0.0.1"
    assert one.reference.params(one.local.cooked_ns()).stratum == 2


PEER_ROWS = {
    # options of the peers; base and jitter of the path, s; time to settle and to measure, s; greatest RMS of offset
    # (s) and frequency: the row of the accuracy table for a client under these conditions
    "4": ("minpoll 0 maxpoll 0 xleave key 1", 20e-6, 1e-6, 1000, 3000, 4e-7, 2e-7),
    "9": ("minpoll 4 maxpoll 4 xleave key 1", 1e-4, 1e-4, 4000, 12_000, 3e-5, 1e-6),
}


@variants("4", "9", seeds=8, fast=0)
def a_peer_of_the_right_time_is_as_good_as_a_client(seed: int, row: str) -> None:
    """Authenticated and interleaved, with a partner whose clock needs no correction."""
    options, base_s, jitter_s, settle_s, duration_s, offset_s, frequency = PEER_ROWS[row]
    site = Site(seed, base_s=base_s, jitter_s=jitter_s)
    right = site.node(f"peer 10.0.1.2 {options}", "local stratum 1", serving=True, keys=KEYS, control=False)
    other = site.node(
        f"peer 10.0.1.1 {options}", serving=True, frequency=1e-5, wander=1e-9, offset_s=0.01, keys=KEYS
    )
    right.start()
    other.start()
    monitor = Monitor(other.machine)
    site.run(settle_s + duration_s)
    accuracy = monitor.accuracy(settle_s)
    assert accuracy.offset_rms_s < offset_s
    assert accuracy.frequency_rms < frequency
    assert other.measurements[-1].interleaved
    assert abs(right.machine.offset_s()) < 1e-9


@scenario(fast=1)
def peers_without_the_key_are_not_believed(seed: int) -> None:
    """A stranger who sits at the peer's address, or a peer whose key is another one."""
    site = Site(seed)
    wrong = {1: SymmetricKey(1, KeyType.AES128, bytes(16))}
    liar = site.node("peer 10.0.1.2 minpoll 4 maxpoll 4 key 1", "local stratum 1", serving=True, keys=wrong)
    node = site.node("peer 10.0.1.1 minpoll 4 maxpoll 4 key 1", serving=True, keys=KEYS, offset_s=0.01)
    liar.start()
    node.start()
    site.run(2000)
    assert not node.reference.synchronised
    assert node.source("10.0.1.1").selectable.reach == 0
    assert abs(node.machine.offset_s() - 0.01) < 1e-6


@scenario(seeds=8, fast=1)
def seventeen_nodes_in_three_strata_with_peers_stay_together(seed: int) -> None:
    """Three primary servers, six and eight below them with their neighbours as peers; then one loses its servers."""
    site = Site(seed)
    rng = site.world.random("clocks")

    def layer(first: int, count: int, servers: list[str]) -> list[Node]:
        names = [f"10.0.1.{first + index}" for index in range(count)]
        nodes = []
        for index in range(count):
            neighbours = names[index - 1], names[(index + 1) % count]
            chosen = rng.sample(servers, min(3, len(servers)))
            nodes.append(
                site.node(
                    *(f"server {server} minpoll 4 maxpoll 6" for server in chosen),
                    *(f"peer {neighbour} minpoll 4 maxpoll 6 xleave" for neighbour in neighbours),
                    serving=True,
                    offset_s=rng.uniform(-0.1, 0.1),
                    frequency=rng.uniform(-1e-4, 1e-4),
                    wander=1e-9,
                )
            )
        return nodes

    primary = [site.node("local stratum 1", serving=True, control=False) for _ in range(3)]
    second = layer(4, 6, [node.name for node in primary])
    third = layer(10, 8, [node.name for node in second])
    monitors = [Monitor(node.machine) for node in second + third]
    for node in primary + second + third:
        node.start()
    site.run(3000)

    def stratum(node: Node) -> int:
        return node.reference.params(node.local.cooked_ns()).stratum

    assert [stratum(node) for node in second + third] == [2] * 6 + [3] * 8
    cut = second[0]
    for server in primary:
        for path in site.network.both_ways(cut.address, server.address):
            path.down = True
    # what was measured of the servers is good for as long as the neighbours' registers reach back: 64 polls of 64 s
    site.run(5500)
    # it follows a neighbour, and no neighbour follows it
    assert stratum(cut) == 3
    assert cut.selected in (second[1].name, second[-1].name)
    assert [stratum(node) for node in second[1:]] == [2] * 5
    assert {stratum(node) for node in third} == {3}
    assert all(node.selected != cut.name for node in second + third)
    for monitor in monitors:
        accuracy = monitor.accuracy(1000)
        assert accuracy.offset_max_s < 1e-3
        assert accuracy.offset_rms_s < 5e-4
        assert accuracy.frequency_rms < 1e-5


@variants(25.0, -3.0, fast=1)
def a_site_set_up_by_the_guides_finds_its_time_again(seed: int, error_s: float) -> None:
    """The isolated network of Red Hat's guides: the server that is rebooted asks those who have kept the time."""
    site = Site(seed)
    addresses = ["10.0.1.2", "10.0.1.3"]
    server = site.node(
        "driftfile /var/lib/chrony/drift",
        f"initstepslew 10 {' '.join(addresses)} 10.0.1.9",
        "local stratum 8",
        "manual",
        serving=True,
        frequency=3e-5,
        wander=1e-9,
    )
    clients = [
        site.node(
            f"server {server.address}",
            "driftfile /var/lib/chrony/drift",
            "local stratum 10",
            f"initstepslew 20 {server.address}",
            serving=True,
            offset_s=0.01 * k,
            frequency=-2e-5 * k,
            wander=1e-9,
        )
        for k in (1, 2)
    ]
    for node in (server, *clients):
        node.start()
    site.run(3 * HOUR_S)
    for client in clients:
        assert client.selected == str(server.address)
        assert client.reference.params(client.local.cooked_ns()).stratum == 9
    assert spread_s([server, *clients]) < 1e-3
    server.stop()
    site.run(300)
    machine = server.machine
    machine.clock.step(site.world.now_ns, round(error_s * NS_PER_S))
    server.start()
    site.run(30)
    line = server.lines("System's initial offset")[-1]
    assert line.endswith("(step)" if abs(error_s) > 10 else "(slew)")
    site.run(HOUR_S)
    assert spread_s([server, *clients]) < 1e-3
    for client in clients:
        assert client.selected == str(server.address)
        assert not client.lines("time jump")


@scenario(fast=1)
def a_restarted_node_remembers_its_frequency(seed: int) -> None:
    site = Site(seed)
    site.server()
    lines = ("driftfile /drift", "makestep 1 3")
    node = site.client(*lines, options="minpoll 4 maxpoll 6", frequency=8e-5, wander=1e-9)
    site.run(10_000)
    node.stop()
    drift = node.drift_file.drift
    assert drift is not None
    assert abs(drift.frequency_ppm - node.machine.clock.frequency * 1e6) < 0.5
    # the machine is switched off for an hour; its clock kept time by the RTC to a fraction of a second
    site.run(HOUR_S)
    node.machine.clock.steer(site.world.now_ns, 0.0)
    node.machine.clock.step(site.world.now_ns, round(0.02 * NS_PER_S) - round(node.machine.offset_s() * NS_PER_S))
    before = len(node.machine.logged)
    node.start()
    assert node.machine.logged[before][2].startswith("Frequency ")
    assert abs(node.machine.clock.rate) < 1e-6
    monitor = Monitor(node.machine)
    site.run(5000)
    assert monitor.accuracy(200).offset_max_s < 1e-3
    assert monitor.accuracy(200).frequency_max < 2e-5


@scenario(fast=1)
def a_day_without_a_network_costs_what_the_frequency_is_wrong_by(seed: int) -> None:
    site = Site(seed)
    server = site.server()
    node = site.client(options="minpoll 4 maxpoll 10", frequency=3e-5, wander=1e-10)
    monitor = Monitor(node.machine)
    site.run(20_000)
    for path in site.network.both_ways(server.address, node.address):
        path.down = True
    site.run(DAY_S)
    page = node.reference.page()
    assert page.synchronised
    now_ns = node.local.cooked_ns()
    assert abs(node.machine.offset_s()) < page.distance_s(now_ns)
    assert abs(node.machine.offset_s()) < 0.05
    for path in site.network.both_ways(server.address, node.address):
        path.down = False
    site.run(10_000)
    assert monitor.accuracy(20_000 + DAY_S + 5000).offset_max_s < 1e-3


@scenario(fast=1)
def dead_servers_and_no_network_at_start_do_no_harm(seed: int) -> None:
    site = Site(seed)
    server, dead = site.server(), site.server()
    dead.answering = False
    node = site.node(
        f"server {server.address} iburst", f"server {dead.address} iburst", frequency=1e-5, wander=1e-9
    )
    for path in site.network.both_ways(server.address, node.address):
        path.down = True
    node.start()
    monitor = Monitor(node.machine)
    site.run(2 * HOUR_S)
    assert not node.reference.synchronised
    assert abs(node.machine.clock.rate - 1e-5) < 1e-6
    for path in site.network.both_ways(server.address, node.address):
        path.down = False
    site.run(2 * HOUR_S)
    assert node.selected == str(server.address)
    assert monitor.accuracy().offset_max_s < 0.1
    assert abs(monitor.offsets_ns[-1]) < 1e6
