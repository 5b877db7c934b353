"""Sources that come and go while the daemon runs: by command, by reload, in turns where they are many."""

from __future__ import annotations

import pytest

from ntpd_fast.client.names import (
    CHANGES_A_TURN,
    MAX_LOOKUPS,
    MAX_TOLD,
)
from ntpd_fast.client.sources import MAX_SOURCES, AlreadyInUseError, TooManySourcesError
from tests.unit.client.naming import DAY_S, Daemon, config, configs, some


def test_add_and_remove_at_run_time() -> None:
    daemon = Daemon().start()
    daemon.resolver.set("a.example", "10.0.0.1")
    daemon.resolver.set("p.example", "10.0.0.5")
    daemon.names.add(config("server a.example"))
    daemon.names.add(config("server 10.0.0.2"))
    daemon.names.add(config("pool p.example maxsources 1"))
    with pytest.raises(AlreadyInUseError):
        daemon.names.add(config("server 10.0.0.2 iburst"))
    daemon.world.run(1.0)
    daemon.names.remove(daemon.source("10.0.0.1"))
    daemon.names.remove(daemon.source("10.0.0.2"))
    daemon.names.remove(daemon.source("10.0.0.5"))
    daemon.names.remove(daemon.source("ID#0000000003"))
    assert daemon.shown == []
    assert daemon.lines() == [
        "Added source ID#0000000001 (a.example)",
        "Added source 10.0.0.2",
        "Added pool p.example",
        "Removed source 10.0.0.1 (a.example)",
        "Removed source 10.0.0.2",
        "Removed source 10.0.0.5 (p.example)",
        "Removed source ID#0000000003 (p.example)",
    ]
    asked = len(daemon.resolver.asked)
    daemon.world.run(DAY_S)
    assert len(daemon.resolver.asked) == asked


def test_reload_keeps_equal_sources_and_follows_the_others() -> None:
    daemon = Daemon("server 10.0.0.9")
    daemon.resolver.set("p.example", "10.0.1.1")
    daemon.put_files("server 10.0.0.1", "server 10.0.0.2 iburst", "pool p.example maxsources 1")
    daemon.start()
    kept = daemon.source("10.0.0.1")
    daemon.machine.logged.clear()
    daemon.put_files("server 10.0.0.2", "server 10.0.0.1", "server 10.0.0.3")
    daemon.names.reload()
    assert daemon.source("10.0.0.1") is kept
    assert daemon.shown == ["10.0.0.9", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert daemon.lines() == [
        "Removed source 10.0.0.2",
        "Removed pool p.example",
        "Added source 10.0.0.2",
        "Added source 10.0.0.3",
    ]
    daemon.names.reload()
    assert len(daemon.lines()) == 4


def test_reload_before_the_start_is_ignored() -> None:
    daemon = Daemon()
    daemon.put_files("server 10.0.0.1")
    daemon.names.reload()
    assert daemon.shown == []
    assert daemon.start().shown == ["10.0.0.1"]


def test_what_cannot_be_added_is_told_once_over_reloads() -> None:
    daemon = Daemon("server 10.0.0.1")
    daemon.put_files("server 10.0.0.1 iburst", "server fóo.example", notes=("Ignored line: x",))
    daemon.start()
    for _ in range(3):
        daemon.names.reload()
    assert daemon.lines() == [
        "Ignored line: x",
        "Could not add source 10.0.0.1 : Already in use",
        "Could not add source fóo.example : Invalid name",
    ]
    # once the address is free the source comes
    daemon.names.remove(daemon.source("10.0.0.1"))
    daemon.names.reload()
    assert daemon.shown == ["10.0.0.1"]
    assert daemon.source("10.0.0.1").config.options.iburst
    # and it is told again when it comes back after it had gone
    daemon.put_files()
    daemon.names.reload()
    daemon.put_files("server fóo.example")
    daemon.names.reload()
    assert len(daemon.lines("Could not add source fóo.example : Invalid name")) == 2


def test_source_deleted_by_hand_stays_away_until_its_line_changes() -> None:
    daemon = Daemon()
    daemon.put_files("server 10.0.0.1", "server 10.0.0.2")
    daemon.start()
    daemon.names.remove(daemon.source("10.0.0.1"))
    daemon.names.reload()
    assert daemon.shown == ["10.0.0.2"]
    daemon.put_files("server 10.0.0.1 iburst", "server 10.0.0.2")
    daemon.names.reload()
    assert daemon.shown == ["10.0.0.2", "10.0.0.1"]


def test_equal_lines_are_counted() -> None:
    daemon = Daemon()
    daemon.put_files("pool p.example maxsources 1", "pool p.example maxsources 1")
    daemon.start()
    assert len(daemon.shown) == 4
    daemon.put_files("pool p.example maxsources 1")
    daemon.names.reload()
    assert len(daemon.shown) == 2


def test_main_configuration_can_be_replaced() -> None:
    daemon = Daemon("server 10.0.0.1", "server 10.0.0.2").start()
    kept = daemon.source("10.0.0.2")
    daemon.names.configure(configs("server 10.0.0.2", "server 10.0.0.3"))
    assert daemon.shown == ["10.0.0.2", "10.0.0.3"]
    assert daemon.source("10.0.0.2") is kept
    assert daemon.lines() == ["Removed source 10.0.0.1", "Added source 10.0.0.3"]


def test_ten_thousand_names_that_never_resolve() -> None:
    daemon = Daemon()
    daemon.put_files(*(f"server n{i}.example" for i in range(10_000)))
    daemon.start(120.0)
    assert len(daemon.shown) == 10_000
    assert daemon.resolver.pending_max == MAX_LOOKUPS
    told = daemon.lines("No address")
    assert len(told) == MAX_TOLD + 1
    assert told[-1] == f"No address for {10_000 - MAX_TOLD} more names yet"
    daemon.put_files()
    daemon.names.reload()
    daemon.world.run(60.0)
    assert daemon.shown == []
    asked = len(daemon.resolver.asked)
    daemon.world.run(DAY_S)
    assert len(daemon.resolver.asked) == asked


def test_ten_thousand_sources_of_a_directory() -> None:
    daemon = Daemon()
    daemon.put_files(*(f"server 10.0.{i // 250}.{i % 250}" for i in range(10_000)))
    daemon.start()
    daemon.sources.start()
    assert len(daemon.shown) == 10_000
    daemon.names.reload()
    assert len(daemon.lines()) == 10_000
    daemon.put_files("server 10.0.0.1")
    daemon.names.reload()
    daemon.world.run(1.0)
    assert daemon.shown == ["10.0.0.1"]


def test_many_changes_are_made_in_turns() -> None:
    daemon = Daemon().start()
    kept, gone, new = some(0, 10), some(10, 2 * CHANGES_A_TURN), some(1000, CHANGES_A_TURN + 1)
    daemon.put_files(*(f"server {address}" for address in kept + gone))
    daemon.names.reload()
    assert len(daemon.shown) == CHANGES_A_TURN
    # a new reload finds the one before it done
    daemon.put_files(*(f"server {address}" for address in kept + new))
    sources = [daemon.source(address) for address in kept]
    daemon.names.reload()
    assert daemon.shown == kept + gone[CHANGES_A_TURN:]
    daemon.world.run(1.0)
    assert daemon.shown == kept + new
    assert [daemon.source(address) for address in kept] == sources
    daemon.names.reload()
    daemon.world.run(1.0)
    assert len(daemon.lines()) == 10 + 2 * len(gone) + len(new)


@pytest.mark.parametrize("count", [CHANGES_A_TURN, 1])
def test_few_changes_are_made_at_once(count: int) -> None:
    daemon = Daemon().start()
    daemon.put_files(*(f"server {address}" for address in some(0, count)))
    daemon.names.reload()
    assert daemon.shown == some(0, count)
    daemon.names.configure(configs(*(f"server {address}" for address in some(500, count))))
    assert daemon.shown == some(0, count) + some(500, count)


def test_the_last_turn_of_all_changes_is_told() -> None:
    daemon = Daemon().start()
    told: list[int] = []
    daemon.names.when_settled(lambda: told.append(len(daemon.shown)))
    assert told == [0]
    lines = [f"server {address}" for address in some(0, 2 * CHANGES_A_TURN + 1)]
    daemon.names.configure(configs(*lines))
    daemon.put_files(f"server {some(1000, 1)[0]}")
    daemon.names.reload()
    daemon.names.when_settled(lambda: told.append(len(daemon.shown)))
    assert told == [0]
    daemon.world.run(1.0)
    assert told == [0, len(lines) + 1]
    daemon.names.configure(())
    daemon.names.when_settled(lambda: told.append(len(daemon.shown)))
    assert told == [0, len(lines) + 1]
    # an update brings the one before it to its end
    daemon.names.configure(())
    assert told == [0, len(lines) + 1, 1]


def test_a_source_may_be_removed_by_hand_while_others_are_in_turns() -> None:
    daemon = Daemon().start()
    addresses = some(0, 2 * CHANGES_A_TURN)
    daemon.names.configure(configs(*(f"server {address}" for address in addresses)))
    daemon.world.run(1.0)
    daemon.names.configure(())
    daemon.names.remove(daemon.source(addresses[-1]))
    daemon.world.run(1.0)
    assert daemon.shown == []
    assert len([line for line in daemon.lines() if "emoved" in line]) == len(addresses)


def test_nothing_follows_the_end() -> None:
    daemon = Daemon().start()
    daemon.names.configure(configs(*(f"server {address}" for address in some(0, 3 * CHANGES_A_TURN))))
    daemon.names.close()
    daemon.world.run(10.0)
    assert len(daemon.shown) == CHANGES_A_TURN


def test_table_of_sources_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SOURCES == 65536
    monkeypatch.setattr("ntpd_fast.client.sources.MAX_SOURCES", 100)
    daemon = Daemon()
    daemon.put_files(*(f"server 10.0.0.{i}" for i in range(95)), "pool p.example", *("server x.example",) * 30)
    daemon.start()
    assert len(daemon.shown) == 100
    failures = daemon.lines("Could not add")
    assert failures[0] == "Could not add source p.example : Too many sources"
    assert len(failures) == MAX_TOLD + 1
    assert failures[-1] == f"Could not add {1 + 25 - MAX_TOLD} more sources"
    with pytest.raises(TooManySourcesError):
        daemon.names.add(config("server 10.1.0.1"))
