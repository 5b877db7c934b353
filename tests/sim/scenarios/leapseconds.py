"""Leap seconds in a small hierarchy: a server that announces one, a node that serves, and clients of it."""

from __future__ import annotations

import calendar
from functools import partial
from itertools import pairwise

from tests.sim.monitor import Monitor
from tests.sim.node import Node
from tests.sim.scenario import Site, variants
from tests.sim.scenarios.serving import ROUNDING_S, Witness
from tests.sim.world import NS_PER_S

NEW_YEAR_S = calendar.timegm((2017, 1, 1, 0, 0, 0))
LEAD_S = 3 * 3600
LEAP = {"insert": 1, "delete": -1}
LEAP_INDICATOR = {"insert": 1, "delete": 2}


class LeapSite(Site):
    """Three hours before midnight of 31 December; its first server announces the leap until it is over."""

    def __init__(self, seed: int, leap: str) -> None:
        super().__init__(seed, epoch_s=NEW_YEAR_S - LEAD_S)
        self.leap_s = LEAP[leap]
        self.event_s = LEAD_S - (leap == "delete")
        self.world.insert_leap(self.event_s * NS_PER_S, self.leap_s)
        server = self.server()
        server.state.leap = LEAP_INDICATOR[leap]
        self.world.at(self.event_s * NS_PER_S, partial(setattr, server.state, "leap", 0))

    def members(self, *lines: str, client_lines: tuple[str, ...] = ()) -> tuple[Node, Node, Node]:
        """A node that serves, a basic client and an interleaved client of it."""
        node = self.node(
            "server 10.0.0.1 minpoll 4 maxpoll 6 iburst", *lines, serving=True, frequency=1e-5, wander=1e-9
        )
        polls = "minpoll 4 maxpoll 5"
        basic = self.node(f"server {node.address} {polls}", *client_lines, frequency=-1e-5, wander=1e-9)
        interleaved = self.node(
            f"server {node.address} {polls} xleave", *client_lines, frequency=2e-5, wander=1e-9
        )
        return node.start(), basic.start(), interleaved.start()


@variants(*((mode, leap) for mode in ("system", "step", "slew") for leap in LEAP), seeds=8)
def everybody_follows_utc_over_a_leap_second(seed: int, mode: str, leap: str) -> None:
    site = LeapSite(seed, leap)
    members = site.members(f"leapsecmode {mode}", client_lines=(f"leapsecmode {mode}",))
    monitors = [Monitor(member.machine) for member in members]
    witness = Witness(members[0])
    site.run(LEAD_S + 3600)
    # slewing a second takes 12, its rate settles with the next measurements
    settled = site.event_s + (20 if mode == "slew" else 3)
    for member, monitor in zip(members, monitors, strict=True):
        assert monitor.accuracy(1000, site.event_s - 2).offset_max_s < 1e-3, member.name
        assert monitor.accuracy(settled).offset_max_s < 1e-3, member.name
        assert monitor.accuracy(settled).frequency_max < 1e-4, member.name
        assert not member.lines("jump")
    announced = [e for e in witness.errors if site.event_s - 600 < e[0] < site.event_s - 5]
    assert {e[3] for e in announced} == {LEAP_INDICATOR[leap]}
    after = [e for e in witness.errors if e[0] > site.event_s + 300]
    assert {e[3] for e in after} == {0}
    # whoever was served a time was served UTC
    assert witness.dishonest(1000) == []


@variants("insert", "delete", seeds=8)
def a_clock_that_ignores_a_leap_second_is_corrected_by_its_sources(seed: int, leap: str) -> None:
    site = LeapSite(seed, leap)
    node = site.client("leapsecmode ignore", options="minpoll 4 maxpoll 4", frequency=1e-5, wander=1e-9)
    monitor = Monitor(node.machine)
    site.run(LEAD_S + 3600)
    assert node.lines("Ignoring leap second")
    assert abs(abs(monitor.offsets_ns[site.event_s + 2]) / 1e9 - 1.0) < 0.01
    assert monitor.accuracy(site.event_s + 120).offset_max_s < 1e-3


@variants(*((mode, leap) for mode in ("system", "step", "slew") for leap in LEAP), seeds=4, fast=0)
def smeared_time_never_steps_and_keeps_its_formula(seed: int, mode: str, leap: str) -> None:
    site = LeapSite(seed, leap)
    node, basic, interleaved = site.members(f"leapsecmode {mode}", "smoothtime 400 0.001024 leaponly")
    monitors = [Monitor(member.machine) for member in (node, basic, interleaved)]
    witness = Witness(node)
    smear_s = 62_500
    site.run(LEAD_S + smear_s + 2000)
    # the node itself follows UTC
    assert monitors[0].accuracy(site.event_s + 20).offset_max_s < 1e-3
    # its clients are told of no leap
    assert {e[3] for e in witness.errors if e[0] > 1000} <= {0, 3}
    assert {e[3] for e in witness.errors if e[0] > site.event_s + 3} == {0}
    for time_s, error_s, distance_s, indicator, _ in witness.errors:
        if time_s < 1000 or indicator == 3:
            continue
        expected = smear(time_s - site.event_s, smear_s) * site.leap_s
        assert abs(error_s - expected) < distance_s + 1e-6 + ROUNDING_S, (time_s, error_s, expected)
    for monitor, member in zip(monitors[1:], (basic, interleaved), strict=True):
        samples = monitor.offsets_ns
        for second in range(site.event_s + 5, LEAD_S + smear_s + 1900):
            expected = smear(second + 1 - site.event_s, smear_s) * site.leap_s
            assert abs(samples[second] / 1e9 - expected) < 1e-3, (member.name, second)
        uniform = [
            offset - (site.leap_s * NS_PER_S if second + 1 >= site.event_s else 0)
            for second, offset in enumerate(samples)
        ]
        steps = [abs(b - a) for a, b in pairwise(uniform[1000:])]
        assert max(steps) < 100_000, member.name
        assert not member.lines("step")


def smear(elapsed_s: float, duration_s: float) -> float:
    """What smeared time is ahead of UTC after an inserted second: a second that fades in two parabolas."""
    if elapsed_s < 0.0 or elapsed_s > duration_s:
        return 0.0
    part = elapsed_s / duration_s
    return 1.0 - 2.0 * part * part if part < 0.5 else 2.0 * (1.0 - part) ** 2
