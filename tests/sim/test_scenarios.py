"""The fast part of the scenarios: each with the seeds that its registration grants to the ordinary tests."""

from __future__ import annotations

import pytest

import tests.sim.scenarios  # noqa: F401  (fills the registry)
from tests.sim.scenario import SCENARIOS

FAST = [(name, seed) for name, entry in SCENARIOS.items() for seed in range(entry.fast_seeds)]


@pytest.mark.parametrize(("name", "seed"), FAST, ids=[f"{name}-{seed}" for name, seed in FAST])
def test_scenario(name: str, seed: int) -> None:
    SCENARIOS[name].run(seed)


def test_every_scenario_has_enough_seeds() -> None:
    assert all(entry.seeds >= 4 for entry in SCENARIOS.values())
