"""Names, pools and what heals by itself: name systems that change, fail and repeat themselves, servers that die."""

from __future__ import annotations

from collections.abc import Callable

from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.sources import SourceFiles
from tests.sim.monitor import Monitor
from tests.sim.node import Node
from tests.sim.scenario import Site, scenario, variants

HOUR_S = 3600
DAY_S = 24 * HOUR_S

REPLACEMENT_WAIT_S = 3584
"""Greatest distance of two replacements."""

UNREACHABLE_POLLS = 9
"""Polls until a source that does not answer is to be replaced."""

LUCK_HOURS = 72
"""Hardly ever reached: two draws an hour, of which one in ten hits."""


def addresses(node: Node) -> list[str]:
    """Of the sources that have one."""
    return [str(source.address) for source in node.sources.ntp_sources if source.address is not None]


def unresolved(node: Node) -> int:
    """Sources without an address."""
    return node.sources.activity().unresolved


@scenario(fast=1)
def a_server_that_moved_is_found_by_its_name(seed: int) -> None:
    site = Site(seed)
    old, new = site.server(), site.server()
    site.resolver.set("time.example", str(old.address))
    node = site.node("server time.example iburst minpoll 4 maxpoll 6", frequency=1e-5, wander=1e-9).start()
    monitor = Monitor(node.machine)
    site.run(2 * HOUR_S)
    assert node.selected == str(old.address)
    old.answering = False
    site.resolver.set("time.example", str(new.address))
    site.run(UNREACHABLE_POLLS * 66)
    assert node.lines("replaced") == [f"Source {old.address} replaced with {new.address} (time.example)"]
    site.run(HOUR_S)
    assert node.selected == str(new.address)
    assert node.lines("Selected source") == [
        f"Selected source {old.address} (time.example)",
        f"Selected source {new.address} (time.example)",
    ]
    assert monitor.accuracy(1000).offset_max_s < 1e-3


@scenario(fast=1)
def a_name_system_that_comes_up_late_delays_no_more_than_a_retry(seed: int) -> None:
    """It comes to work at any time of the first day; the next attempt is 28 s to 3584 s later, or at once."""
    site = Site(seed)
    server = site.server()
    node = site.node("server time.example iburst", "pool pool.example", frequency=1e-5).start()
    works_s = site.world.random("works").uniform(10.0, DAY_S)
    site.run(works_s)
    assert unresolved(node) == 9
    # one question a retry for each of the two names
    assert len(site.resolver.asked) <= 2 * (10 + works_s / REPLACEMENT_WAIT_S)
    site.resolver.set("time.example", str(server.address))
    if seed % 2:
        node.names.resolve_now()
        site.run(20)
    else:
        site.run(REPLACEMENT_WAIT_S + 20)
    assert node.selected == str(server.address)
    assert len(node.lines("No address for time.example yet")) == 1


def run_until(site: Site, condition: Callable[[], bool]) -> None:
    """Let hours pass until the draws of new addresses have hit on those that answer."""
    for _ in range(LUCK_HOURS):
        if condition():
            return
        site.run(HOUR_S)
    assert condition()


@scenario(fast=1)
def a_pool_of_sixteen_addresses_ends_with_the_four_that_answer_first(seed: int) -> None:
    site = Site(seed)
    for _ in range(16):
        site.server()
    rng = site.world.random("dead")
    names = [str(server.address) for server in site.servers]
    for server in rng.sample(site.servers, 10):
        server.answering = False
    alive = {str(server.address) for server in site.servers if server.answering}
    rng.shuffle(names)
    site.resolver.set("pool.example", *names)
    node = site.node("pool pool.example iburst minpoll 4 maxpoll 6", frequency=1e-5, wander=1e-9).start()
    first = names[:8]
    site.run(60)
    assert 4 >= len(alive & set(addresses(node))) >= min(4, len(alive & set(first)))
    # dead ones are replaced one by one until four have answered; who comes after that is not needed
    run_until(site, lambda: len(addresses(node)) == 4)
    assert set(addresses(node)) <= alive
    assert unresolved(node) == 0
    assert len(node.lines("replaced")) >= max(0, 4 - len(alive & set(first)))


@scenario(fast=1)
def no_address_is_asked_twice_whatever_names_stand_for_it(seed: int) -> None:
    site = Site(seed)
    for _ in range(6):
        site.server()
    texts = [str(server.address) for server in site.servers]
    rng = site.world.random("answers")
    node = site.node(
        "pool a.example maxsources 3",
        "pool b.example maxsources 3",
        "server c.example",
        "server d.example",
        f"server {texts[0]}",
        "refresh 600",
        frequency=1e-5,
    )

    def change() -> None:
        for name in ("a.example", "b.example", "c.example", "d.example"):
            # answers may repeat an address
            site.resolver.set(name, *rng.choices(texts, k=rng.randrange(9)))
        if rng.random() < 0.2:
            node.names.refresh()
        for server in site.servers:
            server.answering = rng.random() < 0.8
        site.world.after(rng.uniform(1.0, 2000.0), change)

    node.start()
    change()
    for _ in range(200):
        site.run(300)
        assert len(set(addresses(node))) == len(addresses(node))
        assert texts[0] in addresses(node)
        for pool in ("a.example", "b.example"):
            assert len([s for s in node.sources.ntp_sources if s.config.name == pool]) <= 6


@variants(2, fast=1)
@variants(8, fast=0)
def a_pool_whose_members_die_one_by_one_keeps_the_time(seed: int, deaths: int) -> None:
    site = Site(seed)
    for _ in range(12):
        site.server()
    texts = [str(server.address) for server in site.servers]
    site.resolver.set("pool.example", *texts)
    node = site.node("pool pool.example iburst minpoll 4 maxpoll 6", frequency=1e-5, wander=1e-9).start()
    monitor = Monitor(node.machine)
    site.run(HOUR_S)
    assert len(addresses(node)) == 4
    rng = site.world.random("deaths")
    dead: set[str] = set()
    for _ in range(deaths):
        victim = rng.choice(addresses(node))
        dead.add(victim)
        next(server for server in site.servers if str(server.address) == victim).answering = False
        # long enough for a replacement, even one that hits on dead servers first
        site.run(UNREACHABLE_POLLS * 66 + 4 * REPLACEMENT_WAIT_S)
        assert len(addresses(node)) == 4
        assert len(set(addresses(node)) - dead) >= 3
        assert node.selected not in {None, *dead}
    assert monitor.accuracy(600).offset_max_s < 1e-3
    if deaths == len(texts) - 4:
        # the last four are found, however the dead ones are drawn before them
        run_until(site, lambda: set(addresses(node)) == set(texts) - dead)


@scenario(fast=1)
def a_pool_member_that_lies_is_sent_away(seed: int) -> None:
    site = Site(seed)
    for index in range(6):
        site.server(error_s=(lambda tau: 3.0) if index == 1 else None)
    texts = [str(server.address) for server in site.servers]
    site.resolver.set("pool.example", *texts[:4])
    node = site.node("pool pool.example iburst minpoll 4 maxpoll 4", frequency=1e-5, wander=1e-9).start()
    monitor = Monitor(node.machine)
    site.run(40)
    assert sorted(addresses(node)) == texts[:4]
    site.resolver.set("pool.example", *texts)
    site.run(REPLACEMENT_WAIT_S + 120)
    assert texts[1] not in addresses(node)
    assert set(node.lines("Detected falseticker")) == {f"Detected falseticker {texts[1]} (pool.example)"}
    assert len([line for line in node.lines("replaced") if line.startswith(f"Source {texts[1]} ")]) == 1
    site.run(HOUR_S)
    assert monitor.accuracy(60).offset_max_s < 1e-3


@scenario(fast=1)
def servers_that_left_the_pool_are_left_in_time(seed: int) -> None:
    """They still answer, but are not meant to be used any more."""
    site = Site(seed)
    for _ in range(8):
        site.server()
    texts = [str(server.address) for server in site.servers]
    site.resolver.set("pool.example", *texts[:4])
    node = site.node("pool pool.example iburst", "refresh 7200", frequency=1e-5, wander=1e-9).start()
    monitor = Monitor(node.machine)
    site.run(HOUR_S)
    assert sorted(addresses(node)) == texts[:4]
    site.resolver.set("pool.example", *texts[2:6])
    site.run(5 * 7200 + 2000)
    assert sorted(addresses(node)) == texts[2:6]
    # two moved, one at a time, and the other two were left alone
    assert len(node.lines("replaced")) == 2
    assert monitor.accuracy(600).offset_max_s < 1e-3


@scenario(fast=1)
def a_node_that_is_offline_for_a_day_comes_back(seed: int) -> None:
    site = Site(seed)
    for _ in range(4):
        site.server()
    site.resolver.set("pool.example", *(str(server.address) for server in site.servers))
    node = site.node("pool pool.example iburst minpoll 4 maxpoll 6", frequency=2e-5, wander=1e-10).start()
    monitor = Monitor(node.machine)
    site.run(4 * HOUR_S)
    before = node.reference.params(node.local.cooked_ns())
    node.sources.switch_offline(lambda source: True)
    for server in site.servers:
        for path in site.network.both_ways(server.address, node.address):
            path.down = True
    requests = sum(len(server.requests) for server in site.servers)
    site.resolver.forget("pool.example")
    site.run(DAY_S)
    assert sum(len(server.requests) for server in site.servers) == requests
    assert not node.lines("replaced")
    held = node.reference.params(node.local.cooked_ns())
    assert held.synchronised
    # what is served is honest about the day
    assert held.root_dispersion_s > before.root_dispersion_s
    assert abs(node.machine.cooked_offset_s()) < held.root_dispersion_s + held.root_delay_s / 2
    for server in site.servers:
        for path in site.network.both_ways(server.address, node.address):
            path.down = False
    node.names.resolve_now()
    node.sources.switch_online(lambda source: True)
    site.run(10)
    assert node.selected is not None
    site.run(2 * HOUR_S)
    assert monitor.accuracy(4 * HOUR_S + DAY_S + 600).offset_max_s < 1e-3


@scenario(fast=1)
def sources_of_a_directory_come_and_go_without_losing_the_time(seed: int) -> None:
    """A laptop that moves through networks, each with a server of its own from DHCP."""
    site = Site(seed)
    home = site.server()
    node = site.node(f"server {home.address} iburst minpoll 4 maxpoll 4", "sourcedir /run/dhcp", frequency=1e-5)
    monitor = Monitor(node.machine)
    node.start()
    for _ in range(10):
        server = site.server()
        lines = [f"server {server.address} iburst minpoll 4 maxpoll 4"]
        node.source_files = SourceFiles(parse_lines(lines).sources, ())
        node.names.reload()
        node.names.reload()
        site.run(600)
        assert addresses(node) == [str(home.address), str(server.address)]
        assert len(node.lines(f"Added source {server.address}")) == 1
    site.run(200)
    assert len(node.lines("Removed source")) == 9
    assert monitor.accuracy(60).offset_max_s < 1e-3


@variants(True, False, fast=1)
def a_restart_with_saved_measurements_is_not_felt(seed: int, reload_dumps: bool) -> None:
    site = Site(seed)
    server = site.server()
    site.resolver.set("time.example", str(server.address))
    node = site.node(
        "server time.example minpoll 6 maxpoll 6", "dumpdir /var/lib", "driftfile /var/lib/drift", frequency=5e-5
    ).start()
    site.run(2 * HOUR_S)
    node.stop()
    site.run(2)
    monitor = Monitor(node.machine)
    node.start(reload_dumps=reload_dumps)
    site.run(20)
    assert node.dump_files.files == {}
    # at once with the old measurements, with the third new one otherwise
    assert node.reference.synchronised is reload_dumps
    assert bool(node.lines(f"Loaded dump file for {server.address}")) is reload_dumps
    site.run(180)
    assert node.reference.synchronised
    site.run(HOUR_S)
    assert monitor.accuracy(0).offset_max_s < 1e-3
    assert node.sources.ntp_sources[0].selectable.stats.n_samples > (20 if reload_dumps else 2)


@scenario(fast=1)
def saved_measurements_of_a_clock_that_was_set_meanwhile_do_no_harm(seed: int) -> None:
    """Somebody sets the clock by seconds between the two runs: what was saved contradicts what is measured."""
    site = Site(seed)
    for _ in range(3):
        site.server()
    lines = [f"server {server.address} iburst minpoll 4 maxpoll 4" for server in site.servers]
    node = site.node(*lines, "dumpdir /var/lib", "makestep 1 3", frequency=1e-5).start()
    site.run(HOUR_S)
    node.stop()
    node.machine.clock.step(site.world.now_ns, 5_000_000_000)
    node.start(reload_dumps=True)
    site.run(HOUR_S)
    assert len(node.lines("Loaded dump file")) == 3
    assert abs(node.machine.offset_s()) < 1e-3
