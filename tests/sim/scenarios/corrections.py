"""Networks whose devices measure how long packets wait in them and say so (extension field 0x010A, NTP over PTP)."""

from __future__ import annotations

from ntpd_fast.client.stamps import StampSource
from tests.sim.monitor import Monitor
from tests.sim.scenario import Site, variants

JITTER_S = 1e-5
WITHOUT_S = (3e-7, 3e-6)
"""Least and greatest RMS of the offset under this jitter where nothing is corrected (accuracy table, row 5)."""

WITH_S = 5e-8
"""Greatest RMS where it is: without jitter it would be some nanoseconds (row 1)."""


def offset_rms_s(seed: int, option: str, measured: str) -> float:
    """The client's offset on a path with queues, RMS."""
    site = Site(seed, base_s=2e-5, jitter_s=JITTER_S)
    server = site.server()
    rng = site.world.random("measured")
    node = site.node(
        f"server {server.address} minpoll 0 maxpoll 0 {option}",
        "ptpport 319",
        frequency=1e-5,
        wander=1e-9,
        stamp_source=StampSource.HARDWARE,
    )
    for path in site.network.both_ways(server.address, node.address):
        path.measured = {
            "truly": lambda queue_s: queue_s,
            "wrongly": lambda queue_s: rng.choice((-1.0, 10.0, 1e9, -1e9)) * (queue_s + 1e-4),
            "not": None,
        }[measured]
    node.start()
    monitor = Monitor(node.machine)
    site.run(1000)
    return monitor.accuracy(400).offset_rms_s


@variants("extfield F324", seeds=8, fast=0)
@variants("xleave extfield F324", seeds=8)
def queues_that_are_measured_cost_nothing(seed: int, option: str) -> None:
    assert offset_rms_s(seed, option, "truly") < WITH_S


@variants(("xleave extfield F324", "not"), ("xleave", "truly"), ("extfield F324", "wrongly"), seeds=8, fast=0)
@variants(("xleave extfield F324", "wrongly"), seeds=8)
def queues_that_are_not_measured_cost_what_they_cost(seed: int, option: str, measured: str) -> None:
    """Nobody has authenticated the values: what can't be is not believed, and harms no more than silence."""
    least_s, greatest_s = WITHOUT_S
    assert least_s < offset_rms_s(seed, option, measured) < greatest_s
