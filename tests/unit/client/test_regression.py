"""Fits against NumPy, the tables against the formulas they stand for."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from ntpd_fast import _regress
from ntpd_fast.client.regression import (
    MAX_POINTS,
    asymmetry_slope,
    chi_square_90,
    critical_runs,
    distance_weights,
    fit_robust,
    fit_weighted,
    is_bent,
    median,
    slew_samples,
    student_t_9995,
)


def weighted_lstsq(x: list[float], y: list[float], w: list[float]) -> tuple[float, float]:
    root = 1.0 / np.sqrt(np.asarray(w))
    design = np.stack([np.ones(len(x)), np.asarray(x)], axis=1) * root[:, None]
    solution = np.linalg.lstsq(design, np.asarray(y) * root, rcond=None)[0]
    return float(solution[0]), float(solution[1])


@pytest.mark.parametrize("n", [3, 4, 7, 8, 20, 64])
@pytest.mark.parametrize("seed", range(5))
def test_weighted_fit_equals_least_squares(n: int, seed: int) -> None:
    rng = random.Random(f"{n}/{seed}")
    x = [*sorted(-1000.0 * rng.random() for _ in range(n - 1)), 0.0]
    y = [0.3 + 1e-2 * t + rng.gauss(0.0, 0.1) for t in x]
    w = [1.0 + 9.0 * rng.random() for _ in x]
    # as many samples as there are must be kept: nothing is dropped
    fit = fit_weighted(x, y, w, n)
    assert fit is not None
    intercept, slope = weighted_lstsq(x, y, w)
    assert fit.start == 0
    assert fit.intercept == pytest.approx(intercept, rel=1e-12, abs=1e-13)
    assert fit.slope == pytest.approx(slope, rel=1e-12, abs=1e-15)


def test_weighted_fit_estimates_its_own_errors() -> None:
    rng = random.Random(5)
    x = [float(-i) for i in range(19, -1, -1)]
    errors_a, errors_b, sd_a, sd_b, variances = [], [], [], [], []
    for _ in range(4000):
        fit = fit_weighted(x, [2.0 + 0.5 * t + rng.gauss(0.0, 1.0) for t in x], [1.0] * 20, 20)
        assert fit is not None
        errors_a.append(fit.intercept - 2.0)
        errors_b.append(fit.slope - 0.5)
        sd_a.append(fit.sd_intercept**2)
        sd_b.append(fit.sd_slope**2)
        variances.append(fit.variance)
    assert np.mean(variances) == pytest.approx(1.0, rel=0.03)
    assert np.var(errors_b) == pytest.approx(np.mean(sd_b), rel=0.1)
    # the intercept is taken at x = 0, the end of the data
    assert np.var(errors_a) == pytest.approx(np.mean(sd_a), rel=0.1)


def test_variance_does_not_depend_on_the_unit_of_the_weights() -> None:
    x, y = [-3.0, -2.0, -1.0, 0.0], [1.0, 3.0, 2.0, 4.0]
    one = fit_weighted(x, y, [1.0, 2.0, 1.0, 2.0], 4)
    other = fit_weighted(x, y, [1e-6, 2e-6, 1e-6, 2e-6], 4)
    assert one is not None
    assert other is not None
    assert other == pytest.approx(one)


def test_weighted_fit_drops_old_points_of_another_line() -> None:
    rng = random.Random(1)
    x = [float(-i) for i in range(39, -1, -1)]
    y = [(1.0 + 0.1 * t if t < -15.0 else -0.5) + rng.gauss(0.0, 0.01) for t in x]
    fit = fit_weighted(x, y, [1.0] * 40, 6)
    assert fit is not None
    assert 20 <= fit.start <= 32
    assert fit.slope == pytest.approx(0.0, abs=5e-3)


def test_weighted_fit_keeps_the_minimum_of_points() -> None:
    x = [float(-i) for i in range(29, -1, -1)]
    y = [t * t for t in x]
    fit = fit_weighted(x, y, [1.0] * 30, 12)
    assert fit is not None
    assert fit.start == 18
    fit = fit_weighted(x, y, [1.0] * 30, 1)
    assert fit is not None
    assert len(x) - fit.start >= 3


def test_extra_points_serve_the_runs_test_only() -> None:
    x = [float(-i) for i in range(19, -1, -1)]
    flat = [0.01 * (-1) ** (i // 2) for i in range(20)]
    alone = fit_weighted(x[10:], flat[10:], [1.0] * 10, 3)
    agreeing = fit_weighted(x, flat, [1.0] * 10, 3)
    contradicting = fit_weighted(x, [5.0] * 10 + flat[10:], [1.0] * 10, 3)
    assert alone is not None
    assert agreeing == alone
    assert contradicting is not None
    assert contradicting.start > 0


def test_fits_need_points_and_spread() -> None:
    assert fit_weighted([], [], [], 3) is None
    assert fit_weighted([-1.0, 0.0], [1.0, 1.0], [1.0, 1.0], 3) is None
    assert fit_weighted([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 3) is None
    assert fit_robust([0.0], [0.0], 1e-9) is None
    assert fit_robust([0.0, 0.0, 0.0], [0.0, 1.0, 2.0], 1e-9) is None
    assert fit_robust([0.0, 0.0], [0.0, 1.0], 1e-9) is None


def test_fits_refuse_more_than_their_bound() -> None:
    many = [float(i) for i in range(MAX_POINTS + 1)]
    with pytest.raises(ValueError, match="too many"):
        fit_weighted(many, many, many, 3)
    with pytest.raises(ValueError, match="too many"):
        fit_robust(many, many, 1e-9)
    exact = many[:MAX_POINTS]
    fit = fit_robust(exact, exact, 1e-9)
    assert fit is not None
    assert fit.slope == pytest.approx(1.0, abs=1e-8)


def test_fits_refuse_unequal_columns() -> None:
    with pytest.raises(ValueError, match="unequal"):
        fit_weighted([0.0, 1.0, 2.0], [0.0, 1.0], [1.0, 1.0, 1.0], 3)
    with pytest.raises(ValueError, match="unequal"):
        fit_robust([0.0, 1.0, 2.0], [0.0, 1.0], 1e-9)
    with pytest.raises(ValueError, match="unequal"):
        asymmetry_slope([0.0] * 5, [0.0] * 5, [0.0] * 4)


@pytest.mark.parametrize("seed", range(10))
def test_robust_fit_is_the_line_of_least_absolute_residuals(seed: int) -> None:
    rng = random.Random(seed)
    x = [float(i) for i in range(15)]
    y = [1.0 + 2.0 * t + rng.gauss(0.0, 0.3) for t in x]
    fit = fit_robust(x, y, 1e-10)
    assert fit is not None
    kept_x, kept_y = x[fit.start :], y[fit.start :]

    def cost(a: float, b: float) -> float:
        return sum(abs(v - a - b * t) for t, v in zip(kept_x, kept_y, strict=True))

    # an optimal line goes through two of the points
    best = min(
        cost(kept_y[i] - slope * kept_x[i], slope)
        for i in range(len(kept_x))
        for j in range(i)
        for slope in [(kept_y[i] - kept_y[j]) / (kept_x[i] - kept_x[j])]
    )
    assert cost(fit.intercept, fit.slope) <= best * (1.0 + 1e-6)


def test_robust_fit_is_not_moved_by_outliers() -> None:
    rng = random.Random(3)
    x = [float(i) for i in range(30)]
    y = [1.0 + 1e-3 * t + rng.gauss(0.0, 1e-6) for t in x]
    for i in (4, 11, 25):
        y[i] += 100.0
    fit = fit_robust(x, y, 1e-12)
    assert fit is not None
    assert fit.slope == pytest.approx(1e-3, abs=1e-6)
    assert fit.intercept == pytest.approx(1.0, abs=1e-5)


def test_robust_fit_through_two_points_is_exact() -> None:
    fit = fit_robust([1.0, 3.0], [5.0, 9.0], 1e-9)
    assert fit is not None
    assert (fit.intercept, fit.slope) == (3.0, 2.0)


def test_critical_runs_follow_the_normal_approximation() -> None:
    for m in range(8):
        assert critical_runs(m) == 0
    for m in range(8, 130):
        assert critical_runs(m) == round(1.0 + (m - 1) / 2.0 - 1.649 * math.sqrt(m - 1) / 2.0)
    assert [critical_runs(m) for m in (8, 9, 16, 32, 54, 64, 96, 128, 129)] == [2, 3, 5, 12, 21, 26, 40, 55, 56]


def binomial_runs(m: int, r: int) -> float:
    return sum(math.comb(m - 1, k - 1) for k in range(1, r + 1)) / 2.0 ** (m - 1)


@pytest.mark.parametrize("m", [16, 32, 64, 128])
def test_critical_runs_are_near_the_lower_five_percent(m: int) -> None:
    assert binomial_runs(m, critical_runs(m) - 1) < 0.06
    assert binomial_runs(m, critical_runs(m) + 1) > 0.05


def integrate(density: np.ndarray, step: float) -> float:
    return float((density[0] + density[-1] + 4 * density[1:-1:2].sum() + 2 * density[2:-2:2].sum()) * step / 3)


@pytest.mark.parametrize("dof", [1, 2, 3, 5, 10, 20, 40])
def test_student_quantiles(dof: int) -> None:
    # P(0 < t < q) with t = √ν·tan φ, whose density is proportional to cos^(ν−1) φ
    q = student_t_9995(dof)
    angles, step = np.linspace(0.0, math.atan(q / math.sqrt(dof)), 20001, retstep=True)
    scale = math.gamma((dof + 1) / 2) / math.sqrt(math.pi) / math.gamma(dof / 2)
    assert 0.5 + scale * integrate(np.cos(angles) ** (dof - 1), float(step)) == pytest.approx(0.9995, abs=2e-6)
    assert student_t_9995(41) == 3.5


@pytest.mark.parametrize("dof", [3, 4, 8, 20, 64])
def test_chi_square_quantiles(dof: int) -> None:
    values, step = np.linspace(0.0, chi_square_90(dof), 20001, retstep=True)
    log_scale = -dof / 2 * math.log(2) - math.lgamma(dof / 2)
    with np.errstate(divide="ignore"):
        density = np.exp(log_scale - values / 2 + (dof / 2 - 1) * np.log(values))
    assert integrate(density, float(step)) == pytest.approx(0.9, abs=1e-4)
    assert chi_square_90(65) == pytest.approx(1.2 * 65)


def test_median() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5
    with pytest.raises(ValueError, match="nothing"):
        median([])


def test_weights_of_distances() -> None:
    # spread = (median − minimum) / 0.7; a quantum above the minimum is still free
    weights = distance_weights([1e-3, 2e-3, 3e-3], 1e-6)
    spread = 1e-3  # clamped to the minimum
    assert weights == pytest.approx([1.0, (1.0 + (1e-3 - 1e-6) / spread) ** 2, (1.0 + (2e-3 - 1e-6) / spread) ** 2])
    assert distance_weights([1e-3, 1e-3, 1e-3], 1e-6) == [1.0, 1.0, 1.0]
    # a spread below the precision counts as the precision
    assert distance_weights([1e-3, 1e-3, 1e-3 + 3e-6], 1e-6)[2] == pytest.approx(9.0)
    assert distance_weights([], 1e-6) == []


def test_asymmetry_slope_equals_least_squares() -> None:
    rng = random.Random(8)
    x = [float(-i) for i in range(30)]
    z = [rng.expovariate(1.0) for _ in x]
    y = [1.0 + 0.1 * a + 0.4 * b + rng.gauss(0.0, 0.1) for a, b in zip(x, z, strict=True)]
    design = np.stack([np.ones(30), np.asarray(x), np.asarray(z)], axis=1)
    expected = np.linalg.lstsq(design, np.asarray(y), rcond=None)[0][2]
    slope = asymmetry_slope(x, y, z)
    assert slope is not None
    assert slope == pytest.approx(float(expected), rel=1e-12)


def test_asymmetry_needs_independent_columns() -> None:
    x = [float(i) for i in range(10)]
    assert asymmetry_slope(x[:3], x[:3], [1.0, 5.0, 2.0]) is None
    assert asymmetry_slope(x, x, [2.0 * v + 1.0 for v in x]) is None
    assert asymmetry_slope(x, x, [1.0] * 10) is None


def test_slewing_samples() -> None:
    base = 1_700_000_000_000_000_000
    times, offsets = [base - 10_000_000_000, base], [0.5, 0.25]
    slew_samples(times, offsets, base, 1e-3, 0.125)
    # ten seconds before the change the clock was 10 ms behind where the new rate puts it
    assert offsets == pytest.approx([0.5 + 0.01 - 0.125, 0.25 - 0.125])
    assert times == [base - 10_000_000_000 + 10_000_000 - 125_000_000, base - 125_000_000]


def test_curvature_equals_the_t_value_of_a_quadratic_fit() -> None:
    rng = random.Random(3)
    for n in (4, 8, 30, 128):
        x = sorted(rng.uniform(-1000.0, 0.0) for _ in range(n))
        w = [rng.uniform(1.0, 4.0) for _ in x]
        y = [1e-6 * t * t + rng.gauss(0.0, 0.3 * math.sqrt(v)) for t, v in zip(x, w, strict=True)]
        root = 1.0 / np.sqrt(w)
        design = np.vander((np.array(x) - np.mean(x)) / 1000.0, 3) * root[:, None]
        solution, squares, _, _ = np.linalg.lstsq(design, np.array(y) * root, rcond=None)
        covariance = np.linalg.inv(design.T @ design) * squares[0] / (n - 3)
        result = _regress.curvature(x, y, w)
        assert result is not None
        assert result[0] == pytest.approx(abs(solution[0]) / math.sqrt(covariance[0, 0]), rel=1e-6)
        assert result[1] == pytest.approx(sum(1 / v for v in w) ** 2 / sum(1 / v**2 for v in w))


def test_curvature_needs_points_spread_and_noise() -> None:
    assert _regress.curvature([], [], []) is None
    assert _regress.curvature([-2.0, -1.0, 0.0], [1.0, 3.0, 2.0], [1.0] * 3) is None
    assert _regress.curvature([0.0] * 9, [1.0, 2.0, 3.0] * 3, [1.0] * 9) is None
    # two different times: nothing but a line can be told
    assert _regress.curvature([-1.0, 0.0] * 4, [float(i) for i in range(8)], [1.0] * 8) is None
    assert _regress.curvature([float(i) for i in range(9)], [0.0] * 9, [1.0] * 9) is None
    with pytest.raises(ValueError, match="unequal lengths"):
        _regress.curvature([0.0, 1.0], [0.0], [1.0, 1.0])


def test_false_alarms_of_a_bend_are_as_rare_as_told() -> None:
    rng = random.Random(4)
    for n in (8, 16, 64):
        x = [300.0 * i for i in range(n)]
        alarms = sum(is_bent(x, [rng.gauss(0.0, 1.0) for _ in x], [1.0] * n) for _ in range(2000))
        assert 0.08 < alarms / 2000 < 0.18


def test_a_few_points_that_carry_the_weight_tell_of_no_bend() -> None:
    x = [300.0 * i for i in range(16)]
    y = [i * i + (-1.0) ** i for i in range(16)]
    assert is_bent(x, y, [1.0] * 16)
    assert not is_bent(x, y, [1.0] * 4 + [100.0] * 12)
    assert not is_bent(x[:7], y[:7], [1.0] * 7)


def test_points_before_and_after_an_outage_tell_of_no_bend() -> None:
    def bent(outage: float) -> bool:
        x = [300.0 * (t if t < 8.0 else t + outage) for t in range(16)]
        return is_bent(x, [1e-4 * t * t + (-1) ** i for i, t in enumerate(x)], [1.0] * 16)

    assert bent(0.0)
    # the longest step is half of the span
    assert bent(13.0)
    assert not bent(13.5)


def test_over_a_short_span_nothing_is_told_of_a_bend() -> None:
    y = [i * i + (-1.0) ** i for i in range(16)]
    assert is_bent([120.0 * i for i in range(16)], y, [1.0] * 16)
    assert not is_bent([119.0 * i for i in range(16)], y, [1.0] * 16)
