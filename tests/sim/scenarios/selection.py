"""Who is believed: falsetickers, sources that turn bad, and sources that say too little."""

from __future__ import annotations

from tests.sim.monitor import Monitor
from tests.sim.refserver import ServerState
from tests.sim.scenario import Site, scenario, variants


@variants(1, 2)
def a_minority_of_falsetickers_is_outvoted(seed: int, liars: int) -> None:
    site = Site(seed)
    rng = site.world.random("liars")
    wrong = rng.sample(range(5), liars)
    for index in range(5):
        error = rng.choice([-1, 1]) * rng.uniform(0.05, 5.0)
        site.server(error_s=(lambda tau, error=error: error) if index in wrong else None)  # type: ignore[misc]
    node = site.client(options="iburst", frequency=1e-5, wander=1e-9)
    monitor = Monitor(node.machine)
    site.run(5000)
    assert node.selected not in [f"10.0.0.{index + 1}" for index in wrong]
    assert node.selected is not None
    for index in wrong:
        assert node.source(f"10.0.0.{index + 1}").selectable.state.value == "x"
        assert f"Detected falseticker 10.0.0.{index + 1}" in node.lines("falseticker")
    assert monitor.accuracy().offset_max_s < 1e-3


@variants((3, "only 2 of 5 sources agree"), (4, "no agreement among 5 sources"))
def a_majority_of_falsetickers_that_disagree_stops_everything(seed: int, liars: int, reason: str) -> None:
    site = Site(seed)
    for index in range(5):
        error = 10.0 * (index + 1) if index < liars else 0.0
        site.server(error_s=lambda tau, error=error: error)  # type: ignore[misc]
    node = site.client(frequency=1e-5, wander=1e-9)
    site.run(5000)
    assert node.selected is None
    assert not node.reference.synchronised
    assert node.lines(f"Can't synchronise: no majority ({reason})")
    # it was never set by any of them
    assert abs(node.machine.offset_s()) < 0.2


@scenario(fast=1)
def a_source_that_goes_bad_slowly_is_left(seed: int) -> None:
    """One of four servers drifts away by 1 µs a second from the second hour on."""
    site = Site(seed)
    bad = site.server(error_s=lambda tau: max(0.0, tau - 3600.0) * 1e-6)
    for _ in range(3):
        site.server()
    node = site.client(options="minpoll 4 maxpoll 6", frequency=1e-5, wander=1e-9)
    monitor = Monitor(node.machine)
    site.run(20_000)
    assert node.selected not in (None, str(bad.address))
    assert node.source(str(bad.address)).selectable.state.value in "xD"
    assert monitor.accuracy(1000).offset_max_s < 2e-3


@scenario(fast=1)
def a_single_source_that_turns_into_a_liar_does_not_move_a_trusting_client_far(seed: int) -> None:
    """With maxchange, the client of one server stops following it when it jumps by 10 s."""
    site = Site(seed)
    site.server(error_s=lambda tau: 10.0 if tau > 3000.0 else 0.0)
    node = site.client("maxchange 0.1 3 2", options="minpoll 4 maxpoll 4", frequency=1e-5, wander=1e-9)
    site.run(6000)
    assert node.terminated
    assert len(node.lines("exceeds the allowed maximum")) == 3
    assert abs(node.machine.offset_s()) < 0.1


@scenario(fast=1)
def unsynchronised_servers_are_never_followed(seed: int) -> None:
    site = Site(seed)
    site.server(error_s=lambda tau: 7.0, state=ServerState(leap=3))
    site.server(error_s=lambda tau: 7.0, state=ServerState(stratum=0))
    site.server(error_s=lambda tau: 7.0, state=ServerState(stratum=16))
    site.server(error_s=lambda tau: 7.0, state=ServerState(root_dispersion_s=20.0))
    node = site.client(options="iburst", frequency=1e-5)
    site.run(3000)
    assert not node.reference.synchronised
    assert node.selected is None


@scenario(fast=1)
def distant_servers_are_not_selected(seed: int) -> None:
    site = Site(seed)
    site.server(state=ServerState(root_delay_s=7.0))
    node = site.client(options="iburst")
    site.run(3000)
    assert node.selected is None
    assert node.lines("Root distance of 10.0.0.1 exceeds maxdistance of 3.000 seconds")


@scenario(fast=1)
def the_nearer_of_two_good_servers_is_preferred(seed: int) -> None:
    site = Site(seed)
    near, far = site.server(), site.server()
    node = site.client(options="minpoll 4 maxpoll 4", wander=1e-9)
    for path in site.network.both_ways(far.address, node.address):
        path.base_s = 0.05
    site.run(5000)
    assert node.selected == str(near.address)
