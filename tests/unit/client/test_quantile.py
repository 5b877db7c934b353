"""Streaming quantiles."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from ntpd_fast.client.quantile import REPEATS, QuantileEstimator


@pytest.mark.parametrize("seed", range(3))
def test_deciles_of_uniform_values_stay_in_order(seed: int) -> None:
    rng = random.Random(seed)
    deciles = [k / 10 for k in range(1, 10)]
    estimator = QuantileEstimator(deciles, 1e-9, random.Random(f"draws/{seed}"))
    violations = 0
    for _ in range(3000):
        estimator.accumulate(rng.random() * 1e-6)
        estimates = [estimator.query(k) for k in range(9)]
        assert None not in estimates
        violations += sum(lower > upper for lower, upper in pairwise(estimates) if lower and upper)
    assert violations < 0.01 * 3000 * 8
    for k, p in enumerate(deciles):
        assert estimator.query(k) == pytest.approx(p * 1e-6, abs=0.06e-6)


def test_follows_a_change_of_the_distribution() -> None:
    rng = random.Random(1)
    estimator = QuantileEstimator([0.5], 1e-7, random.Random(2))
    for _ in range(500):
        estimator.accumulate(1e-3 + rng.random() * 1e-5)
    before = estimator.query(0)
    for _ in range(3000):
        estimator.accumulate(2e-3 + rng.random() * 1e-5)
    after = estimator.query(0)
    assert before == pytest.approx(1e-3, rel=0.02)
    assert after == pytest.approx(2e-3, rel=0.02)


def test_first_values_initialise_the_copies() -> None:
    estimator = QuantileEstimator([0.1, 0.9], 1.0, random.Random(0))
    assert estimator.query(0) is None
    for value in range(REPEATS):
        estimator.accumulate(float(value))
    assert estimator.query(0) == estimator.query(1) == (REPEATS - 1) / 2
    estimator.reset()
    assert estimator.query(1) is None


def test_even_number_of_copies_averages_the_middle() -> None:
    estimator = QuantileEstimator([0.5], 1.0, random.Random(0), repeats=2)
    estimator.accumulate(1.0)
    estimator.accumulate(2.0)
    assert estimator.query(0) == 1.5
