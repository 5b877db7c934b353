"""The long-term averages of the frequency."""

from __future__ import annotations

import random

import pytest

from ntpd_fast.clock.fallback import Average, FallbackDrifts
from ntpd_fast.config.model import FallbackDrift
from tests.sim.machine import Machine
from tests.sim.world import World


def test_an_average_fills_up_and_then_decays() -> None:
    average = Average(64.0)
    average.update(10.0, 32.0)
    assert (average.frequency_ppm, average.filled_s) == (10.0, 16.0)
    average.update(20.0, 32.0)
    assert average.frequency_ppm == pytest.approx(15.0)
    for _ in range(2):
        average.update(15.0, 32.0)
    assert average.filled_s == 64.0
    average.update(25.0, 64.0)
    assert average.frequency_ppm == pytest.approx(15.0 + 10.0 * (1 - 2.718281828459045**-1))
    for _ in range(100):
        average.update(-3.0, 64.0)
    assert average.frequency_ppm == pytest.approx(-3.0)


def test_each_interval_is_fallen_back_on_in_turn_and_only_when_filled() -> None:
    world = World(1)
    machine = Machine(world)
    clock = machine.boot()
    told: list[tuple[float, float]] = []
    drifts = FallbackDrifts(FallbackDrift(5, 8), clock.scheduler, lambda ppm: told.append((world.now_ns / 1e9, ppm)))
    rng = random.Random(1)
    for _ in range(20):
        world.run(16.0)
        drifts.update(5.0 + rng.uniform(-1, 1), 16.0)
    # 160 s are in the averages: 32, 64 and 128 s are full, 256 is not
    start = world.now_ns / 1e9
    world.run(1000.0)
    assert [at - start for at, _ in told] == pytest.approx([32.0, 64.0, 128.0])
    assert all(4.0 < ppm < 6.0 for _, ppm in told)
    drifts.update(5.0, 0.5)
    drifts.close()
    world.run(1000.0)
    assert len(told) == 3
