"""The file of points of a `tempcomp` directive: one `TEMPERATURE PPM` pair a line, ascending."""

from __future__ import annotations

import math
from itertools import pairwise

from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.words import NotANumber, Scanner

POINTS_MAX = 10_000
FILE_SIZE_MAX = 1024 * 1024


def read_points(path: str) -> tuple[tuple[float, float], ...]:
    """(temperature, compensation in ppm) pairs, at least two, by rising temperature.

    Raises ConfigError, also for more than POINTS_MAX points.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"Could not open {path} : {reason}") from error
    bad = ConfigError(f"Could not read tempcomp point from {path}")
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if len(data) > FILE_SIZE_MAX or len(lines) > POINTS_MAX:
        raise bad
    points = []
    for line in lines:
        scanner = Scanner([word.decode("ascii", "replace") for word in line.split()])
        try:
            point = scanner.real_value(), scanner.real_value()
        except NotANumber:
            raise bad from None
        if not all(map(math.isfinite, point)):
            raise bad
        points.append(point)
    if any(warmer[0] <= colder[0] for colder, warmer in pairwise(points)):
        raise bad
    if len(points) < 2:
        raise ConfigError(f"Not enough points in {path}")
    return tuple(points)
