"""A system clock with an imperfect oscillator, as nodes of the simulator have it.

dC/dτ = (1 + f(τ))·(1 + a(τ)): f is the oscillator's own error, a random walk that steps at each whole
second of true time; a is what the driver has set. Readings are integer nanoseconds; fractions are
carried, so nothing is lost over any number of changes. The monotonic clock is the same without steps
and stands still while the machine sleeps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

NS_PER_S = 1_000_000_000


class SystemClock:
    """One machine's clock, advanced lazily."""

    def __init__(
        self,
        utc_ns: int,
        *,
        frequency: float = 0.0,
        wander: float = 0.0,
        rng: random.Random | None = None,
        now_ns: int = 0,
    ) -> None:
        """`frequency`: error of the oscillator; `wander`: its random step per √s. Both s/s."""
        self.frequency = frequency
        self.steered = 0.0
        self._wander = wander
        self._gauss = (rng or random.Random(0)).gauss
        self._tau = now_ns
        self._base = utc_ns
        self._fraction = 0.0
        self._rate = 0.0
        self._stepped_ns = 0
        self._asleep = False
        self._set_rate()
        self.on_rate_change: list[Callable[[], None]] = []
        """Called when timers may be due earlier or later than computed before."""

    @property
    def rate(self) -> float:
        """dC/dτ − 1 now."""
        return self._rate

    def read(self, tau: int) -> int:
        """The clock at a true time that is not before any earlier one."""
        self._advance(tau)
        elapsed = tau - self._tau
        return self._base + elapsed + math.floor(self._fraction + elapsed * self._rate)

    def read_monotonic(self, tau: int) -> int:
        """The same without steps."""
        return self.read(tau) - self._stepped_ns

    def true_delay_ns(self, local_ns: int) -> int:
        """True time until the clock has advanced by `local_ns`, at the present rate, rounded up."""
        return math.ceil(local_ns / (1.0 + self._rate))

    def steer(self, tau: int, steered: float) -> None:
        """Set what the driver adds to the rate, s/s."""
        self._rebase(tau)
        self.steered = steered
        self._set_rate()
        self._rate_changed()

    def set_frequency(self, tau: int, frequency: float) -> None:
        """Give the oscillator another error, s/s."""
        self._rebase(tau)
        self.frequency = frequency
        self._set_rate()
        self._rate_changed()

    def step(self, tau: int, step_ns: int) -> None:
        """Set the clock forward by `step_ns`."""
        self._rebase(tau)
        self._base += step_ns
        self._stepped_ns += step_ns

    def sleep(self, tau: int, duration_ns: int) -> None:
        """The machine wakes at `tau` from a sleep that began `duration_ns` before: only UTC went on."""
        self.step(tau, duration_ns)
        self._base -= duration_ns

    def _set_rate(self) -> None:
        self._rate = (1.0 + self.frequency) * (1.0 + self.steered) - 1.0

    def _rate_changed(self) -> None:
        for observer in self.on_rate_change:
            observer()

    def _rebase(self, tau: int) -> None:
        self._advance(tau)
        elapsed = tau - self._tau
        self._fraction += elapsed * self._rate
        whole = math.floor(self._fraction)
        self._base += elapsed + whole
        self._fraction -= whole
        self._tau = tau

    def _advance(self, tau: int) -> None:
        """Walk the oscillator over the whole seconds up to `tau`."""
        if tau < self._tau:
            raise ValueError("clocks are read forward in time")
        wander = self._wander
        if wander <= 0.0:
            return
        boundary = (self._tau // NS_PER_S + 1) * NS_PER_S
        if boundary > tau:
            return
        gauss = self._gauss
        base, fraction, at, rate = self._base, self._fraction, self._tau, self._rate
        frequency, steering = self.frequency, 1.0 + self.steered
        while boundary <= tau:
            elapsed = boundary - at
            fraction += elapsed * rate
            whole = math.floor(fraction)
            base += elapsed + whole
            fraction -= whole
            at = boundary
            frequency += gauss(0.0, wander)
            rate = (1.0 + frequency) * steering - 1.0
            boundary += NS_PER_S
        self._base, self._fraction, self._tau, self._rate = base, fraction, at, rate
        self.frequency = frequency
