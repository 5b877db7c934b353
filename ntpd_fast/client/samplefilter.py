"""The median filter of `filter N` (and of reference clocks): several measurements become one sample.

Keeps its samples' times and offsets on the changing clock; asked for a result, it sorts by offset,
combines the middle and widens the dispersion when the scatter says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ntpd_fast._record import dataclass, replace
from ntpd_fast.client.regression import chi_square_90, fit_weighted
from ntpd_fast.clock.events import NS_PER_S, ChangeKind, ClockChange

NTP_COMBINE_RATIO = 0.0
REFCLOCK_COMBINE_RATIO = 0.6
NTP_MAX_VARIANCE = 16.0**2

MIN_VARIANCE = 1e-20
# Above this many degrees of freedom the average variance is an exponential mean.
MAX_AVERAGE_DOF = 50
# Samples much less precise than the best are left out, unless fewer than this would remain.
MIN_PRECISE_SAMPLES = 4
MAX_DISPERSION_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of the offset to a source."""

    time_ns: int
    """Cooked local time, ns."""
    offset_s: float
    """NTP sense: positive when the local clock is behind the source."""
    peer_delay_s: float
    peer_dispersion_s: float
    root_delay_s: float
    root_dispersion_s: float

    def slewed(self, change: ClockChange) -> Sample:
        """The sample re-mapped to the changed clock."""
        shift_s = change.shift_s(self.time_ns)
        return replace(self, time_ns=self.time_ns + round(shift_s * NS_PER_S), offset_s=self.offset_s - shift_s)


class SampleFilter:
    """Collects up to `size` samples; `result` combines and drops them."""

    def __init__(self, size: int, combine_ratio: float, max_variance: float) -> None:
        """`max_variance` (s², 0: any) is the largest scatter that still makes a sample."""
        self.size = size
        self._combine_ratio = combine_ratio
        self._max_variance = max_variance
        self._samples: list[Sample] = []
        self._last: Sample | None = None
        self._average_variance = 0.0
        self._average_dof = 0

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def last(self) -> Sample | None:
        """The newest sample accumulated since the last reset."""
        return self._last

    @property
    def average_variance(self) -> float:
        """Long-term variance of the samples, s²."""
        return self._average_variance

    def reset(self) -> None:
        """Forget samples and statistics."""
        self._samples.clear()
        self._last = None
        self._average_variance = 0.0
        self._average_dof = 0

    def drop_samples(self) -> None:
        """Forget the collected samples, keep the statistics."""
        self._samples.clear()

    def accumulate(self, sample: Sample) -> bool:
        """Add a sample; the oldest makes room. False (and no change) if it isn't newer than the last."""
        if self._last is not None and sample.time_ns <= self._last.time_ns:
            return False
        if len(self._samples) >= self.size:
            del self._samples[0]
        self._samples.append(sample)
        self._last = sample
        return True

    def handle_change(self, change: ClockChange) -> None:
        """Follow the clock."""
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self.reset()
            return
        self._samples = [sample.slewed(change) for sample in self._samples]
        if self._last is not None:
            self._last = self._last.slewed(change)

    def add_dispersion(self, dispersion_s: float) -> None:
        """Account for an imperfect change of the clock."""
        self._samples = [
            replace(
                sample,
                peer_dispersion_s=sample.peer_dispersion_s + dispersion_s,
                root_dispersion_s=sample.root_dispersion_s + dispersion_s,
            )
            for sample in self._samples
        ]

    def result(self) -> Sample | None:
        """Combine the collected samples into one and drop them; None if none or too scattered."""
        selected = self._select()
        self._samples.clear()
        if not selected:
            return None
        n = len(selected)
        scatter = self._scatter(selected)
        if scatter is None:
            return None
        variance, dispersion, dof = scatter
        variance = max(variance, MIN_VARIANCE)
        if 0.0 < self._max_variance < variance:
            return None
        previous = self._update_average(variance, dof) if n > 1 else self._average_variance
        # a scatter that is small by chance doesn't make the sample better than the source usually is
        if variance * dof / chi_square_90(dof) < previous:
            dispersion = math.sqrt(self._average_variance) * dispersion / math.sqrt(variance)
        base_ns = selected[0].time_ns
        return Sample(
            time_ns=base_ns + round(sum(sample.time_ns - base_ns for sample in selected) / n),
            offset_s=sum(sample.offset_s for sample in selected) / n,
            peer_delay_s=sum(sample.peer_delay_s for sample in selected) / n,
            peer_dispersion_s=max(dispersion, sum(sample.peer_dispersion_s for sample in selected) / n),
            root_delay_s=sum(sample.root_delay_s for sample in selected) / n,
            root_dispersion_s=max(dispersion, sum(sample.root_dispersion_s for sample in selected) / n),
        )

    def _select(self) -> list[Sample]:
        """The middle of the precise samples by offset, in the order of time."""
        used = self._samples
        if len(used) > MIN_PRECISE_SAMPLES:
            limit = MAX_DISPERSION_RATIO * min(sample.peer_dispersion_s for sample in used)
            precise = [sample for sample in used if sample.peer_dispersion_s <= limit]
            if len(precise) >= MIN_PRECISE_SAMPLES:
                used = precise
        n = len(used)
        used = sorted(used, key=lambda sample: sample.offset_s)
        if n > 2:
            first = min(max(int(n * (1.0 - self._combine_ratio) / 2.0), 1), (n - 1) // 2)
            used = used[first : n - first]
        return sorted(used, key=lambda sample: sample.time_ns)

    def _scatter(self, samples: Sequence[Sample]) -> tuple[float, float, int] | None:
        """Variance, dispersion of the mean and degrees of freedom of the samples to combine."""
        n = len(samples)
        mean = sum(sample.offset_s for sample in samples) / n
        if n >= 4:
            base_ns = samples[0].time_ns
            times = [(sample.time_ns - base_ns) / NS_PER_S for sample in samples]
            middle = sum(times) / n
            fit = fit_weighted(
                [t - middle for t in times],
                [sample.offset_s for sample in samples],
                [sample.peer_dispersion_s for sample in samples],
                n,
            )
            return None if fit is None else (fit.variance, fit.sd_intercept, n - 2)
        if n >= 2:
            variance = sum((sample.offset_s - mean) ** 2 for sample in samples) / (n - 1)
            return variance, math.sqrt(variance), n - 1
        return self._average_variance, math.sqrt(self._average_variance), 1

    def _update_average(self, variance: float, dof: int) -> float:
        """Average the variance over time; returns the average before (at first: the new one)."""
        previous = self._average_variance
        if self._average_dof == 0:
            self._average_variance = previous = variance
            self._average_dof = dof
        elif self._average_dof <= MAX_AVERAGE_DOF:
            total = self._average_dof + dof
            self._average_variance += dof / total * (variance - self._average_variance)
            self._average_dof = total
        else:
            self._average_variance += dof / (dof + MAX_AVERAGE_DOF) * (variance - self._average_variance)
        return previous
