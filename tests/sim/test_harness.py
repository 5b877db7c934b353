"""The simulator itself: clocks, kernel, timers and network do what they claim before anything is judged by them."""

from __future__ import annotations

import math
import random
from ipaddress import IPv4Address

import numpy as np
import pytest

from tests.sim.clock import SystemClock
from tests.sim.kernel import ModelKernel
from tests.sim.machine import Machine
from tests.sim.monitor import Monitor
from tests.sim.network import Datagram, Endpoint, Network, Path
from tests.sim.refserver import HEADER, ReferenceServer, ntp64
from tests.sim.scenario import Site
from tests.sim.scheduler import SimScheduler
from tests.sim.world import NS_PER_S, World


def test_events_happen_in_order_of_time_and_request() -> None:
    world = World(1)
    seen: list[str] = []
    world.at(20, lambda: seen.append("c"))
    world.at(10, lambda: seen.append("a"))
    world.at(10, lambda: (seen.append("b"), world.at(5, lambda: seen.append("now"))))  # type: ignore[arg-type]
    world.run_until(20)
    assert seen == ["a", "b", "now", "c"]
    assert world.now_ns == 20


def test_streams_of_random_numbers_depend_on_seed_and_purpose_only() -> None:
    draws = [World(seed).random(purpose).random() for seed in (1, 2) for purpose in ("a", "b")]
    assert len(set(draws)) == 4
    assert World(1).random("a").random() == draws[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_clock_without_wander_keeps_every_fraction_of_a_nanosecond(seed: int) -> None:
    rng = random.Random(seed)
    clock = SystemClock(10**18)
    tau, exact = 0, 10.0**18
    total = 0.0
    for _ in range(2000):
        step = rng.randrange(1, 3 * NS_PER_S)
        total += step * clock.rate
        tau += step
        assert abs(clock.read(tau) - 10**18 - tau - total) < 1.001
        clock.set_frequency(tau, rng.uniform(-1e-4, 1e-4))
        clock.steer(tau, rng.uniform(-0.1, 0.1))
    assert exact == 10.0**18


def test_the_random_walk_is_the_analytic_one() -> None:
    """Without an engine the variance of the offset grows as w²·t³/3, that of the frequency as w²·t."""
    wander, seconds, runs = 1e-8, 2000, 200
    offsets, frequencies = [], []
    for seed in range(runs):
        clock = SystemClock(0, wander=wander, rng=random.Random(seed))
        offsets.append((clock.read(seconds * NS_PER_S) - seconds * NS_PER_S) / NS_PER_S)
        frequencies.append(clock.frequency)
    assert np.std(frequencies) == pytest.approx(wander * math.sqrt(seconds), rel=0.12)
    assert np.std(offsets) == pytest.approx(wander * math.sqrt(seconds**3 / 3), rel=0.12)


def test_without_an_engine_the_monitor_sees_the_plain_drift() -> None:
    world = World(1)
    machine = Machine(world, frequency=1e-5, offset_s=0.25)
    monitor = Monitor(machine)
    world.run(1000)
    accuracy = monitor.accuracy()
    assert len(monitor.offsets_ns) == 1000
    assert accuracy.offset_max_s == pytest.approx(0.26, abs=1e-6)
    assert accuracy.frequency_rms == pytest.approx(1e-5)
    assert monitor.sync_time(0.255, 1.0) == 1001
    assert monitor.sync_time(1.0, 1.0) == 1


def test_the_monotonic_clock_does_not_step_and_stands_still_in_sleep() -> None:
    clock = SystemClock(1_000 * NS_PER_S, frequency=1e-5)
    start = clock.read_monotonic(0)
    clock.step(10 * NS_PER_S, 5 * NS_PER_S)
    assert clock.read_monotonic(10 * NS_PER_S) - start == 10_000_100_000
    assert clock.read(10 * NS_PER_S) == 1_015_000_100_000
    clock.sleep(20 * NS_PER_S, 7 * NS_PER_S)
    assert clock.read_monotonic(20 * NS_PER_S) - start == 13_000_200_000


def scheduler(frequency: float = 0.0) -> tuple[World, ModelKernel, SimScheduler]:
    world = World(1)
    kernel = ModelKernel(SystemClock(world.utc_ns(), frequency=frequency), lambda: world.now_ns)
    return world, kernel, SimScheduler(world, kernel, random.Random(1))


@pytest.mark.parametrize("frequency", [0.0, 0.05, -0.05])
def test_timers_run_by_the_local_clock(frequency: float) -> None:
    world, _, timers = scheduler(frequency)
    fired: list[int] = []
    timers.call_later(100.0, lambda: fired.append(world.now_ns))
    world.run(200.0)
    assert fired[0] / NS_PER_S == pytest.approx(100.0 / (1 + frequency), abs=1e-8)


def test_timers_follow_changes_of_the_rate_and_ignore_steps() -> None:
    world, kernel, timers = scheduler()
    fired: list[float] = []
    timers.call_later(100.0, lambda: fired.append(world.now_ns / NS_PER_S))
    world.run(50.0)
    kernel.clock.steer(world.now_ns, 0.1)
    kernel.clock.step(world.now_ns, 1000 * NS_PER_S)
    world.run(100.0)
    assert fired == [pytest.approx(50.0 + 50.0 / 1.1, abs=1e-8)]


def test_a_sleeping_node_runs_nothing_and_a_dead_one_never_again() -> None:
    world, kernel, timers = scheduler()
    fired: list[float] = []
    timers.call_later(10.0, lambda: fired.append(world.now_ns / NS_PER_S))
    timers.sleep()
    world.run(100.0)
    assert fired == []
    kernel.clock.sleep(world.now_ns, 100 * NS_PER_S)
    timers.wake()
    world.run(11.0)
    assert fired == [pytest.approx(110.0)]
    timers.call_later(1.0, lambda: fired.append(0.0))
    timers.stopped = True
    world.run(10.0)
    assert len(fired) == 1


def test_delays_and_losses_are_those_of_the_path() -> None:
    world = World(1)
    network = Network(world, Path(base_s=1e-3, jitter_s=2e-3, loss=0.25))
    one, other = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
    arrived: list[float] = []
    network.attach(other, lambda datagram: arrived.append(world.now_ns / NS_PER_S))
    sent = 20_000
    for _ in range(sent):
        assert network.send(Datagram(Endpoint(one, 1), Endpoint(other, 2), b""))
    world.run(10.0)
    assert len(arrived) == pytest.approx(0.75 * sent, rel=0.02)
    assert min(arrived) == pytest.approx(1e-3, abs=1e-5)
    assert np.mean(arrived) == pytest.approx(3e-3, rel=0.03)
    assert np.std(arrived) == pytest.approx(2e-3, rel=0.05)
    network.path(one, other).down = True
    assert not network.send(Datagram(Endpoint(one, 1), Endpoint(other, 2), b""))


def test_the_reference_server_interleaves_as_the_wire_facts_say() -> None:
    world = World(1)
    server = ReferenceServer(world, Network(world), IPv4Address("10.0.0.1"))

    def ask(origin: int, receive: int, transmit: int, first: int = 0x23) -> tuple[int, int, int]:
        world.run(1.0)
        request = HEADER.pack(first, 0, 6, 32, 0, 0, 0, 0, origin, receive, transmit)
        answer = server.answer(request)
        assert answer is not None
        fields = HEADER.unpack(answer)
        assert fields[9] & 1
        assert not fields[10] & 1
        return fields[8], fields[9], fields[10]

    _, r1, _ = ask(0, 0, 7)
    _, r2, t2 = ask(r1, 5, 6)
    # the second answer was saved and is sent with the third
    origin, r3, tx = ask(r2, 8, 9)
    assert (origin, tx) == (8, t2)
    # used up
    assert ask(r2, 8, 9)[0] == 9
    # rx equal to tx, an even origin, version 3: basic
    assert ask(r3, 4, 4)[0] == 4
    assert ask(r3 & ~1, 3, 4)[0] == 4
    assert ask(r3, 3, 4, first=0x1B)[0] == 4
    assert server.interleaved == 1
    assert server.answer(HEADER.pack(0x24, *[0] * 10)) is None
    assert ntp64(0) == 2_208_988_800 << 32


def test_a_leap_second_of_utc_is_in_nobodys_true_time() -> None:
    world = World(1)
    world.insert_leap(10 * NS_PER_S, 1)
    assert world.utc_ns(10 * NS_PER_S - 1) == world.epoch_ns + 10 * NS_PER_S - 1
    assert world.utc_ns(10 * NS_PER_S) == world.epoch_ns + 9 * NS_PER_S


@pytest.mark.parametrize("seed", range(3))
def test_a_steady_clock_on_a_steady_path_is_exact_after_three_samples(seed: int) -> None:
    site = Site(seed, jitter_s=0.0)
    site.server()
    node = site.client(options="minpoll 4 maxpoll 4", frequency=1e-5, offset_s=1e-3)
    monitor = Monitor(node.machine)
    site.run(400)
    polls = len(site.servers[0].requests)
    assert polls == 25
    assert abs(monitor.offsets_ns[-1]) <= 2
    third_s = site.servers[0].requests[2] // NS_PER_S + 1
    rate = (1 + node.machine.clock.frequency) * (1 - node.local.absolute_frequency_ppm * 1e-6) - 1
    assert abs(rate) < 1e-9
    settled = [abs(offset) for offset in monitor.offsets_ns[third_s + 2 * 17 :]]
    assert max(settled) <= 3


def test_runs_repeat_exactly_and_differ_by_seed() -> None:
    def trace(seed: int) -> list[int]:
        site = Site(seed)
        site.server()
        node = site.client(options="minpoll 2 maxpoll 4 iburst", frequency=1e-5, wander=1e-9, offset_s=0.01)
        monitor = Monitor(node.machine)
        site.run(300)
        return monitor.offsets_ns

    first = trace(1)
    assert trace(1) == first
    assert trace(2) != first
