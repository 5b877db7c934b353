"""Line fits that the source statistics, the sample filter and the clock models stand on.

The loops are in `ntpd_fast._regress`; here they get names, units and the statistical tables. Weights are
like variances: a term counts 1/weight. All fits are of at most `MAX_POINTS` points.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from ntpd_fast import _regress
from ntpd_fast._regress import MAX_POINTS, critical_runs, median, slew_samples

__all__ = [
    "MAX_POINTS",
    "RobustFit",
    "WeightedFit",
    "asymmetry_slope",
    "chi_square_90",
    "critical_runs",
    "distance_weights",
    "fit_robust",
    "fit_weighted",
    "is_bent",
    "median",
    "slew_samples",
    "student_t_9995",
]

# One-sided 99.95 % quantiles of Student's t distribution for 1…40 degrees of freedom.
_STUDENT_T_9995 = (
    *(636.62, 31.599, 12.924, 8.6103, 6.8688, 5.9588, 5.4079, 5.0413, 4.7809, 4.5869),
    *(4.437, 4.3178, 4.2208, 4.1405, 4.0728, 4.015, 3.9651, 3.9216, 3.8834, 3.8495),
    *(3.8193, 3.7921, 3.7676, 3.7454, 3.7251, 3.7066, 3.6896, 3.6739, 3.6594, 3.646),
    *(3.6335, 3.6218, 3.6109, 3.6007, 3.5911, 3.5821, 3.5737, 3.5657, 3.5581, 3.551),
)
_STUDENT_T_9995_LARGE = 3.5

# 90 % quantiles of the chi-square distribution for 1…64 degrees of freedom.
_CHI_SQUARE_90 = (
    *(2.7055, 4.6052, 6.2514, 7.7794, 9.2364, 10.645, 12.017, 13.362, 14.684, 15.987),
    *(17.275, 18.549, 19.812, 21.064, 22.307, 23.542, 24.769, 25.989, 27.204, 28.412),
    *(29.615, 30.813, 32.007, 33.196, 34.382, 35.563, 36.741, 37.916, 39.087, 40.256),
    *(41.422, 42.585, 43.745, 44.903, 46.059, 47.212, 48.363, 49.513, 50.66, 51.805),
    *(52.949, 54.09, 55.23, 56.369, 57.505, 58.641, 59.774, 60.907, 62.038, 63.167),
    *(64.295, 65.422, 66.548, 67.673, 68.796, 69.919, 71.04, 72.16, 73.279, 74.397),
    *(75.514, 76.63, 77.745, 78.86),
)
_CHI_SQUARE_90_LARGE = 1.2


def student_t_9995(dof: int) -> float:
    """One-sided 99.95 % quantile of Student's t with `dof` ≥ 1 degrees of freedom."""
    return _STUDENT_T_9995[dof - 1] if dof <= len(_STUDENT_T_9995) else _STUDENT_T_9995_LARGE


def chi_square_90(dof: int) -> float:
    """90 % quantile of the chi-square distribution with `dof` ≥ 1 degrees of freedom."""
    return _CHI_SQUARE_90[dof - 1] if dof <= len(_CHI_SQUARE_90) else _CHI_SQUARE_90_LARGE * dof


class WeightedFit(NamedTuple):
    """A weighted least-squares line y = intercept + slope·x through the newest points."""

    intercept: float
    slope: float
    variance: float
    """Variance of the points about the line, scaled to the mean weight."""
    sd_intercept: float
    sd_slope: float
    runs: int
    """Runs of residuals of one sign among the points kept."""
    start: int
    """How many of the oldest weighted points the runs test told to drop."""


def fit_weighted(x: list[float], y: list[float], weights: list[float], min_samples: int) -> WeightedFit | None:
    """Fit the newest points, dropping the oldest until their residuals look random.

    `x` and `y` may start with more points than there are weights: those serve the runs test only.
    A fit keeps at least 3 points and `min_samples`. None with fewer than 3 weighted points or no spread in x.
    """
    fit = _regress.weighted_fit(x, y, weights, min_samples)
    return None if fit is None else WeightedFit(*fit)


class RobustFit(NamedTuple):
    """A line y = intercept + slope·x of least absolute residuals through the newest points."""

    intercept: float
    slope: float
    runs: int
    start: int
    """How many of the oldest points the runs test told to drop."""


def fit_robust(x: list[float], y: list[float], tolerance: float) -> RobustFit | None:
    """Fit a line that outliers don't move; `tolerance` is the resolution of the slope.

    Two points give the exact line. None with fewer, no spread in x, or no slope within ±100 of the
    least-squares one.
    """
    fit = _regress.robust_fit(x, y, tolerance)
    return None if fit is None else RobustFit(*fit)


BEND_QUANTILE = 1.5
"""Two-sided 13 % of the normal distribution: a false alarm costs two of the oldest samples, a late one much more."""

BEND_MIN_POINTS = 8

BEND_EFFECTIVE_SHARE = 0.5
"""Least ratio of the effective number of points to their number."""

BEND_MIN_SPAN = 1800.0
"""Over less than half an hour the wander of a crystal does not stand out of the noise."""

BEND_MAX_GAP = 0.5
"""Greatest share of the span that may lie between two points."""


def is_bent(x: list[float], y: list[float], weights: list[float]) -> bool:
    """Whether a parabola fits the points significantly better than a line.

    This sees a slowly changing slope much sooner than the runs test does, which looks at signs only. Points that
    weigh little hardly count as degrees of freedom, so the quantile goes by the effective number of points,
    (Σ 1/w)² / Σ 1/w². Where a few points carry most of the weight (the jitter is many times the shortest delay)
    the errors are far from normal and nothing can be told; nor can it where the points are two heaps, before and
    after an outage. Below 8 points nothing is significant. Over a short span (`x` is in seconds) a clock does not
    wander by more than its noise: what looks like a bend is chance, which a fast poll has often.
    """
    if len(x) < BEND_MIN_POINTS or x[-1] - x[0] < BEND_MIN_SPAN:
        return False
    if max(later - earlier for earlier, later in pairwise(x)) > BEND_MAX_GAP * (x[-1] - x[0]):
        return False
    result = _regress.curvature(x, y, weights)
    if result is None:
        return False
    t, effective = result
    if effective < BEND_EFFECTIVE_SHARE * len(x):
        return False
    # first term of the expansion of Student's quantile about the normal one
    widening = 1.0 + (1.0 + BEND_QUANTILE**2) / (4.0 * (effective - 3.0))
    return t > BEND_QUANTILE * widening


def distance_weights(distances_s: list[float], precision_s: float) -> list[float]:
    """Weights of samples from their distances (half of the delay, and dispersion), s.

    Samples up to a clock quantum above the shortest distance weigh 1, farther ones grow with the square
    of the excess in units of the spread of the distances.
    """
    return _regress.distance_weights(distances_s, precision_s)


def asymmetry_slope(x: list[float], y: list[float], z: list[float]) -> float | None:
    """c of the least-squares plane y = a + b·x + c·z; None below 4 points or with x and z dependent."""
    return _regress.asymmetry_slope(x, y, z)
