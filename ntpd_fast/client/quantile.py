"""Streaming estimates of quantiles with a few numbers of state (after Ma, Muthukrishnan and Sandler 2013).

For the delay filter `maxdelayquant` and the reading delays of hardware clocks. An estimate moves towards
each value with a probability that balances at the wanted quantile; steps grow while it keeps going one way.
The answer is the median of independent copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from ntpd_fast.system.timers import Random

REPEATS = 7
LARGE_STEP_DELAY = 100


class _Copy:
    """One estimator of one quantile."""

    __slots__ = ("estimate", "sign", "step")

    def __init__(self, value: float, step: float) -> None:
        self.estimate = value
        self.step = step
        self.sign = 1

    def update(self, value: float, p: float, u: float, min_step: float, min_limit: float) -> None:
        """Move towards `value`; u is uniform in [0, 1)."""
        up = 1 if value >= self.estimate else -1
        if u < (1.0 - p if up > 0 else p):
            return
        self.step += min_step if self.sign == up else -min_step
        self.estimate += up * max(self.step, min_step)
        overshoot = up * (self.estimate - value)
        if overshoot > 0.0:
            self.step -= overshoot
            self.estimate = value + up * min_step / 4.0
        if self.sign != up and self.step > min_step:
            self.step = min_step
        self.sign = up
        self.step = max(self.step, min_limit)


class QuantileEstimator:
    """Estimates of the given quantiles (each in 0…1) of a stream of values."""

    def __init__(
        self,
        quantiles: Sequence[float],
        min_step: float,
        random: Random,
        *,
        repeats: int = REPEATS,
        large_step_delay: int = LARGE_STEP_DELAY,
    ) -> None:
        """`min_step` is the resolution; `large_step_delay` of them delay how soon steps grow."""
        self._quantiles = tuple(quantiles)
        self.min_step = min_step
        self._min_limit = -large_step_delay * min_step
        self._random = random
        self._repeats = repeats
        self._copies: list[list[_Copy]] = [[] for _ in self._quantiles]

    def reset(self) -> None:
        """Forget everything."""
        self._copies = [[] for _ in self._quantiles]

    def accumulate(self, value: float) -> None:
        """Take one value into account; the first ones initialise a copy each."""
        if len(self._copies[0]) < self._repeats:
            for copies in self._copies:
                copies.append(_Copy(value, self.min_step))
            return
        draw = self._random.random
        for p, copies in zip(self._quantiles, self._copies, strict=True):
            for copy in copies:
                copy.update(value, p, draw(), self.min_step, self._min_limit)

    def query(self, index: int) -> float | None:
        """The estimate of the quantile with that index; None before any value."""
        estimates = sorted(copy.estimate for copy in self._copies[index])
        if not estimates:
            return None
        middle = len(estimates) // 2
        if len(estimates) % 2:
            return estimates[middle]
        return 0.5 * (estimates[middle - 1] + estimates[middle])
