"""How finely the system clock can be read: the quantum that error bounds and NTP's precision are made of.

The precision is the smaller of the clock's resolution (the gap between distinct readings of the raw
hardware counter, taken with growing work between them) and the time one reading takes. The readings
come from the caller; the analysis is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

NS_PER_S = 1_000_000_000

PRECISION_MIN_S = 1e-9
PRECISION_MAX_S = 1.0

RESOLUTION_READINGS = 64
READ_TIME_READINGS = 100
RESOLUTION_TIME_LIMIT_S = 0.1

Readings = Callable[[int], list[int]]
"""Makes that many readings in a row, ns."""


def resolution_s(readings: Sequence[int]) -> float | None:
    """The smallest gap between the distinct differences of readings that had growing work between them.

    Only the lower half of the differences counts (the upper half has interruptions in it). None when
    there are too few distinct ones to tell.
    """
    differences = sorted(b - a for a, b in pairwise(readings) if b > a)
    distinct: list[int] = []
    for difference in differences[: (len(differences) + 1) // 2]:
        if not distinct or difference - distinct[-1] > 1:
            distinct.append(difference)
    if len(distinct) < 3:
        return None
    return min(b - a for a, b in pairwise(distinct)) / NS_PER_S


def read_time_s(readings: Sequence[int]) -> float:
    """The smallest positive difference of consecutive readings; the worst precision if there is none."""
    positive = [b - a for a, b in pairwise(readings) if b > a]
    return min(positive) / NS_PER_S if positive else PRECISION_MAX_S


def measure_precision_s(
    realtime_readings: Readings,
    monotonic_raw_readings: Readings,
    monotonic_ns: Callable[[], int],
) -> float:
    """Measure the precision of this machine's clock, 1e-9 to 1 s; takes at most about 0.1 s."""
    best = read_time_s(realtime_readings(READ_TIME_READINGS))
    give_up_ns = monotonic_ns() + round(RESOLUTION_TIME_LIMIT_S * NS_PER_S)
    # a counter so coarse that 64 readings show fewer than three gaps may show them in more
    for _ in range(READ_TIME_READINGS):
        resolution = resolution_s(monotonic_raw_readings(RESOLUTION_READINGS))
        if resolution is not None:
            best = min(best, resolution)
            break
        if monotonic_ns() >= give_up_ns:
            break
    return min(max(best, PRECISION_MIN_S), PRECISION_MAX_S)
