"""From names to sources: lookups, pools, replacements."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from ntpd_fast.client.names import (
    InvalidAddressError,
    InvalidNameError,
)
from ntpd_fast.system.messages import Severity
from tests.unit.client.naming import DAY_S, HOUR_S, Daemon, config


def test_literal_address_is_used_directly() -> None:
    daemon = Daemon("server 10.0.0.1 port 1123", "peer 2001:db8::1").start()
    assert daemon.shown == ["10.0.0.1", "2001:db8::1"]
    assert daemon.source("10.0.0.1").port == 1123
    assert daemon.source("2001:db8::1").is_peer
    assert daemon.resolver.asked == []
    assert daemon.lines() == []


def test_name_shows_a_number_until_it_is_resolved() -> None:
    daemon = Daemon("server 10.0.0.9", "server a.example", "server b.example")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.names.start(daemon.configured)
    assert daemon.shown == ["10.0.0.9", "ID#0000000001", "ID#0000000002"]
    assert daemon.sources.activity().unresolved == 2
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.9", "10.0.0.1", "ID#0000000002"]
    assert daemon.source("10.0.0.1").config.name == "a.example"


def test_unresolved_name_is_asked_for_ever_more_rarely() -> None:
    daemon = Daemon("server a.example").start(11_000.0)
    times = daemon.resolver.times("a.example")
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([28, 56, 112, 224, 448, 896, 1792, 3584, 3584], abs=0.1)
    assert daemon.lines() == ["No address for a.example yet : Name or service not known"]
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.world.run(HOUR_S)
    assert daemon.shown == ["10.0.0.1"]
    daemon.world.run(DAY_S)
    assert len(daemon.resolver.asked) == len(times) + 1


def test_going_online_asks_at_once_and_starts_the_waits_afresh() -> None:
    daemon = Daemon("server a.example").start(1000.0)
    before = len(daemon.resolver.asked)
    daemon.names.resolve_now()
    daemon.names.resolve_now()
    daemon.world.run(40.0)
    times = daemon.resolver.times("a.example")[before:]
    assert times == pytest.approx([1000.0, 1028.0], abs=0.1)


def test_impossible_name_is_dropped_with_a_warning() -> None:
    daemon = Daemon("server a..b", "pool c..d", "server ok.example")
    daemon.resolver.set_impossible("a..b")
    daemon.resolver.set_impossible("c..d")
    daemon.resolver.set("ok.example", "10.0.0.1")
    daemon.start()
    assert daemon.shown == ["10.0.0.1"]
    assert sorted(daemon.lines("Invalid")) == ["Invalid host a..b", "Invalid host c..d"]


@pytest.mark.parametrize(
    ("option", "expected"), [("", "2001:db8::1"), ("ipv4", "10.0.0.1"), ("ipv6", "2001:db8::1")]
)
def test_family_option_chooses_among_the_addresses(option: str, expected: str) -> None:
    daemon = Daemon(f"server a.example {option}")
    daemon.resolver.set("a.example", "2001:db8::1", "10.0.0.1")
    assert daemon.start().shown == [expected]


def test_name_without_an_address_of_the_family_is_told_and_asked_for_again() -> None:
    daemon = Daemon("server a.example ipv6")
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.start()
    assert daemon.lines() == ["No address for a.example yet : No IPv6 address"]
    daemon.resolver.set("a.example", "10.0.0.1", "2001:db8::1")
    daemon.world.run(30.0)
    assert daemon.shown == ["2001:db8::1"]


def test_literal_of_the_other_family_cannot_be_added() -> None:
    daemon = Daemon().start()
    with pytest.raises(InvalidAddressError):
        daemon.names.add(config("server 10.0.0.1 ipv6"))
    assert daemon.shown == []


def test_names_that_no_host_has_cannot_be_added() -> None:
    daemon = Daemon("server fóo.example", "server " + "a." * 130).start()
    with pytest.raises(InvalidNameError):
        daemon.names.add(config("server fóo.example"))
    assert daemon.shown == []
    assert daemon.lines() == ["Could not add source fóo.example", f"Could not add source {'a.' * 130}"]


def test_addresses_without_a_route_are_passed_over() -> None:
    daemon = Daemon("server a.example")
    daemon.resolver.set("a.example", "2001:db8::1", "10.0.0.1")
    daemon.network.unreachable = {"2001:db8::1"}
    assert daemon.start().shown == ["10.0.0.1"]


def test_name_is_tried_again_when_there_was_no_route() -> None:
    daemon = Daemon("server a.example")
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.network.unreachable = {"10.0.0.1"}
    daemon.start()
    assert daemon.lines() == ["No address for a.example yet : No route"]
    daemon.network.unreachable = set()
    daemon.world.run(30.0)
    assert daemon.shown == ["10.0.0.1"]


def test_two_names_of_one_address_are_one_source() -> None:
    daemon = Daemon("server a.example", "server b.example", "server c.example")
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.resolver.set("b.example", "10.0.0.1")
    daemon.resolver.set("c.example", "10.0.0.1", "10.0.0.3")
    daemon.start()
    assert daemon.shown == ["10.0.0.1", "ID#0000000002", "10.0.0.3"]
    assert daemon.lines() == ["No address for b.example yet : Already in use"]
    daemon.names.remove(daemon.source("10.0.0.1"))
    daemon.world.run(30.0)
    assert sorted(daemon.shown) == ["10.0.0.1", "10.0.0.3"]


def test_same_address_twice_in_the_main_configuration() -> None:
    daemon = Daemon("server 10.0.0.1", "peer 10.0.0.1 port 1123").start()
    assert daemon.shown == ["10.0.0.1"]
    assert daemon.lines() == ["Could not add source 10.0.0.1"]


@pytest.mark.parametrize(("maxsources", "slots"), [(1, 2), (2, 4), (4, 8), (8, 16), (16, 16)])
def test_pool_tries_twice_as_many_addresses_as_it_wants(maxsources: int, slots: int) -> None:
    daemon = Daemon(f"pool p.example maxsources {maxsources}")
    answer = [f"10.0.0.{i}" for i in range(1, 17)]
    daemon.resolver.set("p.example", *answer)
    assert daemon.start().shown == answer[:slots]


def test_pool_keeps_the_first_that_answer() -> None:
    daemon = Daemon("pool p.example maxsources 2")
    daemon.resolver.set("p.example", *(f"10.0.0.{i}" for i in range(1, 5)))
    daemon.start()
    daemon.confirm("10.0.0.3")
    daemon.confirm("10.0.0.3")
    assert len(daemon.shown) == 4
    daemon.confirm("10.0.0.2")
    assert daemon.shown == ["10.0.0.2", "10.0.0.3"]
    assert daemon.lines() == []
    daemon.world.run(DAY_S)
    assert len(daemon.resolver.asked) == 1


def test_pool_asks_again_until_it_has_enough() -> None:
    daemon = Daemon("pool p.example maxsources 4")
    daemon.resolver.set("p.example", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    daemon.start()
    assert daemon.addresses == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert len(daemon.shown) == 8
    daemon.resolver.set("p.example", "10.0.0.3", "10.0.0.4", "10.0.0.5")
    daemon.world.run(30.0)
    assert daemon.addresses == [f"10.0.0.{i}" for i in range(1, 6)]
    for i in (1, 2, 3, 4):
        daemon.confirm(f"10.0.0.{i}")
    assert daemon.shown == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
    asked = len(daemon.resolver.asked)
    daemon.world.run(DAY_S)
    assert len(daemon.resolver.asked) == asked


def test_pool_of_a_literal_address_is_one_server() -> None:
    daemon = Daemon("pool 10.0.0.1").start()
    assert daemon.shown == ["10.0.0.1"]
    daemon.confirm("10.0.0.1")
    assert daemon.shown == ["10.0.0.1"]


def test_two_pools_share_no_address() -> None:
    daemon = Daemon("pool p.example maxsources 2", "pool q.example maxsources 2")
    daemon.resolver.set("p.example", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    daemon.resolver.set("q.example", "10.0.0.2", "10.0.0.3", "10.0.0.4")
    daemon.start()
    assert sorted(daemon.addresses) == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_bad_source_gets_another_address_of_its_name() -> None:
    daemon = Daemon("server a.example")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.start()
    daemon.complain("10.0.0.1")
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.2"]
    assert daemon.lines() == ["Source 10.0.0.1 replaced with 10.0.0.2 (a.example)"]


def test_configured_port_comes_back_with_a_replacement() -> None:
    daemon = Daemon("server a.example port 1123")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.start()
    daemon.sources.set_address(daemon.source("10.0.0.1"), ip_address("10.0.0.1"), 2000)
    daemon.complain("10.0.0.1")
    daemon.world.run(1.0)
    assert daemon.source("10.0.0.2").port == 1123


def test_source_given_by_address_is_never_replaced() -> None:
    daemon = Daemon("server 10.0.0.1").start()
    daemon.complain("10.0.0.1")
    daemon.world.run(DAY_S)
    assert daemon.shown == ["10.0.0.1"]
    assert daemon.resolver.asked == []


def test_source_stays_where_its_name_has_no_other_address() -> None:
    daemon = Daemon("server a.example", "server b.example")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.resolver.set("b.example", "10.0.0.2")
    daemon.start()
    daemon.complain("10.0.0.1")
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.1", "10.0.0.2"]
    assert len(daemon.resolver.times("a.example")) == 2


def test_failing_name_system_keeps_the_source() -> None:
    daemon = Daemon("server a.example")
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.start()
    daemon.resolver.forget("a.example")
    daemon.complain("10.0.0.1")
    daemon.world.run(1.0)
    daemon.resolver.set_impossible("a.example")
    daemon.names.refresh()
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.1"]
    assert daemon.lines() == []


def test_replacements_keep_a_random_distance() -> None:
    waits = []
    for seed in range(40):
        daemon = Daemon("pool p.example maxsources 8", seed=seed)
        daemon.resolver.set("p.example", *(f"10.0.0.{i}" for i in range(1, 64)))
        daemon.start()
        started = daemon.world.now_ns
        daemon.complain("10.0.0.1")
        daemon.world.run(1.0)
        assert len(daemon.lines("replaced")) == 1
        while len(daemon.lines("replaced")) == 1:
            daemon.complain("10.0.0.2")
            daemon.world.run(4.0)
        waits.append((daemon.world.now_ns - started) / 1e9)
    assert max(waits) <= 3584 + 10
    assert 1792 * 0.7 < sum(waits) / len(waits) < 1792 * 1.3


def test_replacement_begins_at_a_random_place_of_the_answer() -> None:
    chosen = set()
    for seed in range(30):
        daemon = Daemon("server a.example", seed=seed)
        daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
        daemon.start()
        assert daemon.shown == ["10.0.0.1"]
        daemon.complain("10.0.0.1")
        daemon.world.run(1.0)
        chosen |= set(daemon.shown)
    assert chosen == {"10.0.0.2", "10.0.0.3", "10.0.0.4"}


def test_replaced_member_of_a_complete_pool_is_on_probation() -> None:
    daemon = Daemon("pool p.example maxsources 2")
    daemon.resolver.set("p.example", *(f"10.0.0.{i}" for i in range(1, 5)))
    daemon.start()
    daemon.confirm("10.0.0.1")
    daemon.confirm("10.0.0.2")
    daemon.resolver.set("p.example", "10.0.0.2", "10.0.0.7")
    daemon.complain("10.0.0.1")
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.7", "10.0.0.2"]
    daemon.confirm("10.0.0.2")
    assert daemon.shown == ["10.0.0.7", "10.0.0.2"]
    daemon.confirm("10.0.0.7")
    assert daemon.shown == ["10.0.0.7", "10.0.0.2"]


def test_source_removed_during_the_lookup_for_its_replacement() -> None:
    daemon = Daemon("server a.example", "server b.example")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.resolver.set("b.example", "10.0.0.9")
    daemon.start()
    daemon.complain("10.0.0.1")
    daemon.names.remove(daemon.source("10.0.0.1"))
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.9"]
    assert daemon.lines() == ["Removed source 10.0.0.1 (a.example)"]


def test_refresh_replaces_what_is_no_longer_listed() -> None:
    daemon = Daemon("server a.example", "server b.example", "server 10.0.0.3", refresh_s=DAY_S)
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.11")
    daemon.resolver.set("b.example", "10.0.0.2")
    daemon.start()
    daemon.resolver.set("a.example", "10.0.0.12", "10.0.0.1")
    daemon.resolver.set("b.example", "10.0.0.22")
    for _ in range(5 * 24):
        daemon.world.run(HOUR_S)
        daemon.confirm("10.0.0.3")
    # one name a day, the one that was not looked at for longest
    assert [name for _, name in daemon.resolver.asked[2:]] == ["a.example", "b.example"] * 2 + ["a.example"]
    assert daemon.shown == ["10.0.0.1", "10.0.0.22", "10.0.0.3"]
    assert daemon.lines() == ["Source 10.0.0.2 replaced with 10.0.0.22 (b.example)"]


def test_refresh_of_zero_never_asks_again() -> None:
    daemon = Daemon("server a.example", refresh_s=0.0)
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.start()
    for _ in range(40):
        daemon.world.run(DAY_S)
        daemon.confirm("10.0.0.1")
    assert len(daemon.resolver.asked) == 1


def test_refresh_command_asks_for_all_names_at_once() -> None:
    daemon = Daemon("pool p.example maxsources 2", "server a.example", "server 10.0.0.9")
    daemon.resolver.set("p.example", *(f"10.0.1.{i}" for i in range(1, 5)))
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.start()
    daemon.resolver.set("p.example", "10.0.1.3", "10.0.1.5")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.names.refresh()
    daemon.world.run(1.0)
    assert sorted(daemon.resolver.asked[2:]) == [(1.0, "a.example"), (1.0, "p.example")]
    # three addresses have vanished and one is new: two sources stay with what they have
    assert daemon.shown == ["10.0.1.5", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.0.1", "10.0.0.9"]
    assert daemon.lines() == ["Source 10.0.1.1 replaced with 10.0.1.5 (p.example)"]


def test_address_from_key_establishment_is_no_reason_to_refresh() -> None:
    daemon = Daemon("server a.example")
    daemon.resolver.set("a.example", "10.0.0.1", "10.0.0.2")
    daemon.start()
    daemon.sources.set_address(daemon.source("10.0.0.1"), ip_address("10.0.0.4"), 1123)
    # the name still stands for the server that was asked for keys
    daemon.names.refresh()
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.4"]
    daemon.complain("10.0.0.4")
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.2"]
    assert daemon.source("10.0.0.2").port == 123


def test_literal_that_keys_led_astray_returns_to_its_own_address() -> None:
    daemon = Daemon("server 10.0.0.9").start()
    daemon.sources.set_address(daemon.source("10.0.0.9"), ip_address("10.0.0.8"))
    daemon.complain("10.0.0.8")
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.9"]
    assert daemon.lines("replaced") == ["Source 10.0.0.8 replaced with 10.0.0.9 (10.0.0.9)"]


def test_end_of_the_first_round_and_first_addresses_are_told() -> None:
    daemon = Daemon("server 10.0.0.1", "server a.example", "server b.example")
    daemon.resolver.set("a.example", "10.0.0.2")
    events: list[str] = []
    daemon.names.on_first_address = lambda source: events.append(source.text)
    daemon.names.on_first_round = lambda: events.append("round")
    daemon.start()
    assert events == ["10.0.0.1", "10.0.0.2", "round"]
    daemon.resolver.set("b.example", "10.0.0.3")
    daemon.world.run(60.0)
    assert events == ["10.0.0.1", "10.0.0.2", "round", "10.0.0.3"]


def test_first_round_is_over_at_once_without_names() -> None:
    daemon = Daemon("server 10.0.0.1")
    events: list[str] = []
    daemon.names.on_first_round = lambda: events.append("round")
    daemon.names.start(daemon.configured)
    assert events == ["round"]


def test_closed_names_are_silent() -> None:
    daemon = Daemon("server a.example", "server b.example").start()
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.names.resolve_now()
    daemon.names.close()
    daemon.world.run(DAY_S)
    assert daemon.addresses == []
    assert len(daemon.resolver.asked) == 4


def test_answers_that_change_at_random_keep_the_sources_consistent() -> None:
    rng = random.Random(7)
    daemon = Daemon(
        "pool p.example", "pool q.example maxsources 16", "server a.example", "server 10.0.0.3", refresh_s=HOUR_S
    )
    every = [f"10.0.0.{i}" for i in range(1, 20)] + [f"2001:db8::{i}" for i in range(1, 5)]
    daemon.start()
    actions: list[Callable[[], None]] = [
        daemon.names.refresh,
        daemon.names.resolve_now,
        daemon.names.reload,
        lambda: daemon.put_files(*(f"server {text}" for text in rng.sample(every, 3))),
        lambda: daemon.confirm(rng.choice(daemon.addresses)),
        lambda: daemon.complain(rng.choice(daemon.addresses)),
        lambda: daemon.network.unreachable.__init__(rng.sample(every, 2)),  # type: ignore[misc]
    ]
    for _ in range(1500):
        for name in ("p.example", "q.example", "a.example"):
            daemon.resolver.set(name, *rng.sample(every, rng.randrange(17)))
        rng.choice(actions)()
        daemon.world.run(rng.choice((0.005, 1.0, 100.0)))
        assert len(set(daemon.addresses)) == len(daemon.addresses)
        assert "10.0.0.3" in daemon.addresses
        for source in daemon.sources.ntp_sources:
            assert source.address is None or daemon.sources.find(source.address) is source
    assert not [line for severity, line in ((s, t) for _, s, t in daemon.machine.logged) if severity > Severity.ERROR]
