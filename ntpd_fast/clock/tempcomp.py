"""Temperature compensation (`tempcomp`): let the hardware clock run as its temperature wants.

A sensor's file is read at each interval; the compensation in ppm follows from a quadratic function or from
points between which it is interpolated (and beyond which extrapolated). It is applied below everything else:
the frequency that the discipline sees stays that of a clock at constant temperature. A sensor that cannot be
read, or a compensation beyond ±10 ppm, is told once and leaves things as they are.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol

from ntpd_fast.clock.local import TEMPCOMP_MAX_PPM, LocalClock
from ntpd_fast.config.model import TempComp
from ntpd_fast.config.tempcomp import read_points
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import TimerHandle

NS_PER_S = 1_000_000_000
READ_MAX_BYTES = 256

TEMPCOMP_LOG_TITLE = "   Date (UTC) Time        Temp.       Comp."


class Model(Protocol):
    """Compensation as a function of temperature."""

    def compensation_ppm(self, temperature: float) -> float:
        """Positive: the clock is to run faster."""


class Quadratic:
    """k0 + (T − T0)·k1 + (T − T0)²·k2."""

    def __init__(self, t0: float, k0_ppm: float, k1_ppm: float, k2_ppm: float) -> None:
        self._t0, self._k0, self._k1, self._k2 = t0, k0_ppm, k1_ppm, k2_ppm

    def compensation_ppm(self, temperature: float) -> float:
        """See `Model`."""
        difference = temperature - self._t0
        return self._k0 + difference * self._k1 + difference * difference * self._k2


class Points:
    """Linear between the neighbouring points, and along the outermost two beyond them."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """At least two, by rising temperature."""
        self._points = tuple(points)
        self._temperatures = [point[0] for point in points]

    def compensation_ppm(self, temperature: float) -> float:
        """See `Model`."""
        index = min(max(bisect_right(self._temperatures, temperature), 1), len(self._points) - 1)
        (colder, low), (warmer, high) = self._points[index - 1 : index + 1]
        return low + (temperature - colder) / (warmer - colder) * (high - low)


def model_of(config: TempComp) -> Model:
    """The function that a directive describes; raises ConfigError for a bad file of points."""
    if config.points_file is not None:
        return Points(read_points(config.points_file))
    return Quadratic(config.t0, config.k0_ppm, config.k1_ppm, config.k2_ppm)


def read_temperature(path: str) -> float | None:
    """The number a sensor's file starts with; None if there is none."""
    try:
        with open(path, "rb") as file:
            words = file.read(READ_MAX_BYTES).split()
        temperature = float(words[0])
    except (OSError, ValueError, IndexError):
        return None
    return temperature if math.isfinite(temperature) else None


def format_record(time_ns: int, temperature: float, compensation_ppm: float) -> str:
    """A line of tempcomp.log."""
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_ns // NS_PER_S))
    return f"{date} {temperature:11.4e} {compensation_ppm:11.4e}"


class TemperatureCompensation:
    """Reads the sensor now and then and compensates."""

    def __init__(
        self,
        clock: LocalClock,
        model: Model,
        *,
        path: str,
        interval_s: float,
        log: Log,
        write_line: Callable[[str], None] | None = None,
        read: Callable[[str], float | None] = read_temperature,
    ) -> None:
        self._clock = clock
        self._model = model
        self._path = path
        self._interval_s = interval_s
        self._log = log
        self._write_line = write_line
        self._read = read
        self._failing = ""
        self._timer: TimerHandle | None = None
        self.failures = 0
        """Readings that could not be used."""

    def start(self) -> None:
        """Compensate now and from now on."""
        self._timer = self._clock.scheduler.call_later(self._interval_s, self.start)
        temperature = self._read(self._path)
        if temperature is None:
            self._fail(f"Could not read temperature from {self._path}")
            return
        compensation_ppm = self._model.compensation_ppm(temperature)
        if not self._clock.set_temperature_compensation_ppm(compensation_ppm):
            self._fail(
                f"Temperature compensation of {compensation_ppm:.3f} ppm exceeds sanity limit "
                f"of {TEMPCOMP_MAX_PPM:.1f}",
                kind="limit",
            )
            return
        self._failing = ""
        if self._write_line is not None:
            self._write_line(format_record(self._clock.cooked_ns(), temperature, compensation_ppm))

    def end(self) -> None:
        """Compensate no longer."""
        self.close()
        self._clock.set_temperature_compensation_ppm(0.0)

    def close(self) -> None:
        """Stop reading; the last compensation stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, text: str, *, kind: str = "reading") -> None:
        self.failures += 1
        if self._failing != kind:
            self._failing = kind
            self._log(Severity.WARNING, text)
