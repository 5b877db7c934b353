"""Runs for one measurement: `-q`, `-Q` and `initstepslew`."""

from __future__ import annotations

from ntpd_fast.clock.reference import ReferenceMode
from tests.sim.monitor import Monitor
from tests.sim.refserver import ServerState
from tests.sim.scenario import Site, scenario, variants

MODES = {"-q": ReferenceMode.UPDATE_ONCE, "-Q": ReferenceMode.PRINT_ONCE}


@variants(("-q", 2.5), ("-q", -0.3), ("-Q", 2.5), fast=1)
def a_run_for_one_measurement_takes_seconds(seed: int, option: str, offset_s: float) -> None:
    site = Site(seed)
    for _ in range(3):
        site.server()
    site.resolver.set("pool.example", *(str(server.address) for server in site.servers))
    node = site.node("pool pool.example iburst", offset_s=offset_s).start(MODES[option])
    site.run(6)
    assert node.mode_result is True
    word = "step" if option == "-q" else "ignored"
    (line,) = node.lines("System clock wrong by")
    assert line.endswith(f"seconds ({word})")
    assert abs(float(line.split()[4]) + offset_s) < 1e-3
    expected = 0.0 if option == "-q" else offset_s
    assert abs(node.machine.offset_s() - expected) < 1e-3
    # nothing of the usual chatter
    assert len(node.lines()) == 1
    site.run(600)
    assert len(node.lines()) == 1


@variants("dead", "unsynchronised", "late", "offline", "nothing", fast=1)
def a_run_for_one_measurement_gives_up_in_time(seed: int, what: str) -> None:
    site = Site(seed, base_s=0.05 if what == "late" else 1e-4)
    server = site.server(state=ServerState(leap=3 if what == "unsynchronised" else 0))
    server.answering = what != "dead"
    options = {"late": "maxdelay 0.01", "offline": "offline"}.get(what, "")
    lines = [] if what == "nothing" else [f"server {server.address} iburst {options}"]
    node = site.node(*lines, offset_s=1.0)
    node.start(MODES["-q"])
    # the fifth poll without use is the first after which three samples can't come any more
    soon = what in ("offline", "nothing")
    site.run(0.01 if soon else 8.0)
    assert (node.mode_result is False) == soon
    site.run(5.0)
    assert node.mode_result is False
    assert node.lines() == ["No suitable source for synchronisation"]
    assert abs(node.machine.offset_s() - 1.0) < 1e-3


@scenario(fast=1)
def names_that_do_not_resolve_are_waited_for_in_a_run_for_one_measurement(seed: int) -> None:
    site = Site(seed)
    server = site.server()
    node = site.node("server time.example iburst", offset_s=1.0).start(MODES["-q"])
    site.run(20)
    assert node.mode_result is None
    site.resolver.set("time.example", str(server.address))
    site.run(20)
    assert node.mode_result is True


@variants(("step", 0.5), ("slew", 100.0), fast=1)
def the_initial_correction_precedes_the_normal_start(seed: int, how: str, threshold_s: float) -> None:
    site = Site(seed)
    initial, normal = site.server(), site.server()
    node = site.node(
        f"initstepslew {threshold_s} {initial.address} {initial.address} 10.0.9.9",
        f"server {normal.address} minpoll 4 maxpoll 4",
        offset_s=-2.0,
    )
    monitor = Monitor(node.machine)
    node.start()
    site.run(4.0)
    assert not node.mode_result
    site.run(1.0)
    assert node.mode_result
    assert not normal.requests
    (line,) = node.lines("System's initial offset : ")
    assert abs(float(line.split()[4]) - 2.0) < 1e-3
    assert line.endswith(f"seconds slow of true ({how})")
    site.run(2.0)
    # 2 s later the daemon begins with its own sources only
    assert len(normal.requests) == 1
    assert [source.text for source in node.sources.ntp_sources] == [str(normal.address)]
    site.run(300.0)
    assert len(initial.requests) <= 4
    assert node.lines("Selected source") == [f"Selected source {normal.address}"]
    assert node.reference.synchronised
    assert not node.lines("Can't synchronise")
    assert monitor.accuracy(200).offset_max_s < 1e-3


@scenario(fast=1)
def the_initial_correction_without_an_answer_is_given_up(seed: int) -> None:
    site = Site(seed)
    normal = site.server()
    node = site.node("initstepslew 1 10.0.9.9", f"server {normal.address} iburst", offset_s=0.01).start()
    site.run(20.0)
    assert node.mode_result is False
    assert node.lines() == ["No suitable source for initstepslew", f"Selected source {normal.address}"]
    assert node.reference.synchronised
