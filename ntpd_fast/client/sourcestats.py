"""Statistics of one source: a register of samples and the line through them.

Offsets here are positive when the local clock is ahead (the opposite of `Sample.offset_s`), frequencies
positive when it gains. The register is followed through every change of the clock; samples that the
regression dropped stay for a while to serve its runs test, the minimum delay and the asymmetry.
"""

from __future__ import annotations

import enum
import math
from itertools import pairwise

from ntpd_fast._record import dataclass
from ntpd_fast.client.regression import (
    asymmetry_slope,
    distance_weights,
    fit_weighted,
    is_bent,
    slew_samples,
    student_t_9995,
)
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.stamps import diff_s
from ntpd_fast.clock.events import ChangeKind, ClockChange

MAX_SAMPLES = 64
MIN_SAMPLES_FOR_FIT = 3
MIN_SAMPLES_FOR_DELAY_TESTS = 6

# Until a line can be fitted nothing is known beyond these.
UNKNOWN_SKEW = 2000e-6
UNKNOWN_STD_DEV_S = 4.0

MIN_SKEW = 1e-12
MAX_SKEW = 1.0
MIN_STD_DEV_S = 1e-9

# A line that bends gives up this many of its oldest samples at once, and keeps so many.
BEND_DROPS = 2
MIN_SAMPLES_OF_BENT_LINE = 7

# Asymmetry of the jitter is believed when it looked the same in this many updates.
ASYMMETRY_RUN = 10
MAX_ASYMMETRY_RUN = 1000
MIN_ASYMMETRY = 0.45
MAX_ASYMMETRY = 0.5


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """Limits of the register of one source."""

    min_samples: int = 6
    max_samples: int = MAX_SAMPLES
    min_delay_s: float = 0.0
    """Known minimum delay, 0: estimate."""
    asymmetry: float | None = None
    """Known asymmetry of the jitter, −0.5…0.5 (0: none); None: estimate."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_samples <= MAX_SAMPLES or not 1 <= self.min_samples <= self.max_samples:
            raise ValueError(f"sample limits {self.min_samples}…{self.max_samples}")


@dataclass(frozen=True, slots=True)
class SelectionData:
    """What selection wants to know of a source at a moment."""

    offset_lo_s: float
    offset_hi_s: float
    root_distance_s: float
    std_dev_s: float
    first_sample_ago_s: float
    last_sample_ago_s: float
    available: bool


@dataclass(frozen=True, slots=True)
class TrackingData:
    """The estimate that a source gives for the clock."""

    ref_time_ns: int
    """Cooked time of the newest sample, at which the offset holds, ns."""
    offset_s: float
    offset_sd_s: float
    frequency: float
    frequency_sd: float
    skew: float
    root_delay_s: float
    root_dispersion_s: float
    span_s: float
    """From the oldest to the newest sample in the estimate, s."""


@dataclass(frozen=True, slots=True)
class DelayTestData:
    """What the delay filters B and C compare a measurement with."""

    sample_age_s: float
    """From the newest sample to the measurement, s."""
    predicted_offset_s: float
    min_delay_s: float
    skew: float
    std_dev_s: float


@dataclass(frozen=True, slots=True)
class StatsReport:
    """A `sourcestats` line."""

    n_samples: int
    n_runs: int
    span_s: float
    std_dev_s: float
    residual_frequency: float
    skew: float
    offset_s: float
    offset_error_s: float


@dataclass(frozen=True, slots=True)
class SourceReport:
    """The part of a `sources` line that comes from the samples."""

    last_sample_ago_s: float
    original_offset_s: float
    """The newest offset as it was measured."""
    offset_s: float
    """The same, moved by all slews since."""
    offset_error_s: float


class Accumulated(enum.Enum):
    """What became of a sample."""

    ADDED = enum.auto()
    NOT_NEWER = enum.auto()
    """Its time doesn't advance: the register was reset, the sample is not in it."""


class SourceStats:
    """The register of one source and the estimates from it."""

    def __init__(self, options: StatsOptions, precision_s: float) -> None:
        """`precision_s` is the quantum of the local clock."""
        self._options = options
        self._precision_s = precision_s
        # parallel lists, oldest first; the first `_n_runs_samples` entries are dropped ones
        self._times_ns: list[int] = []
        self._offsets: list[float] = []
        self._original_offsets: list[float] = []
        self._delays: list[float] = []
        self._peer_dispersions: list[float] = []
        self._root_delays: list[float] = []
        self._root_dispersions: list[float] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        for column in self._columns():
            column.clear()
        self._n_runs_samples = 0
        self._frequency: float = 0.0
        self._asymmetry_run = 0
        self._asymmetry = 0.0
        self._fail(0.0)

    @property
    def options(self) -> StatsOptions:
        """Limits of the register."""
        return self._options

    def set_options(self, options: StatsOptions) -> None:
        """Other limits; samples beyond them are retired, the next one is fitted by them."""
        self._options = options
        if self.n_samples > options.max_samples:
            self._drop(self.n_samples - options.max_samples)
            self._regress()

    @property
    def n_samples(self) -> int:
        """Live samples."""
        return len(self._times_ns) - self._n_runs_samples

    @property
    def n_runs(self) -> int:
        """Runs of residuals of one sign in the last fit."""
        return self._n_runs

    @property
    def best_start(self) -> int:
        """How many samples were dropped at the last one."""
        return self._best_start

    @property
    def stress(self) -> float:
        """Change of the frequency at the last fit in units of its error bound before."""
        return self._stress

    @property
    def newest_ns(self) -> int:
        """Cooked time of the newest sample, ns; needs one."""
        return self._times_ns[-1]

    @property
    def fitted(self) -> bool:
        """Whether a line goes through the samples."""
        return self._fitted

    @property
    def frequency(self) -> float:
        """Estimated frequency of the local clock against the source, s/s."""
        return self._frequency

    @property
    def skew(self) -> float:
        """Bound of the error of the frequency, s/s."""
        return self._skew

    @property
    def std_dev_s(self) -> float:
        """Standard deviation of the samples about the line, s."""
        return self._std_dev

    @property
    def offset_s(self) -> float:
        """Estimated offset at the newest sample, s."""
        return self._offset

    @property
    def offset_sd_s(self) -> float:
        """Standard deviation of the estimated offset, s."""
        return self._offset_sd

    @property
    def asymmetry(self) -> float:
        """Asymmetry of the jitter that the last fit corrected for, −0.5…0.5."""
        return self._asymmetry

    def accumulate(self, sample: Sample) -> Accumulated:
        """Add a sample and fit again."""
        if self.n_samples >= self._options.max_samples:
            self._drop(1)
        if self.n_samples and sample.time_ns <= self._times_ns[-1]:
            self.reset()
            return Accumulated.NOT_NEWER
        delay = sample.peer_delay_s
        if delay < self._options.min_delay_s:
            delay = 2.0 * self._options.min_delay_s - delay
        self._append(
            sample.time_ns,
            -sample.offset_s,
            -sample.offset_s,
            delay,
            sample.peer_dispersion_s,
            sample.root_delay_s,
            sample.root_dispersion_s,
        )
        frequency, skew = self.frequency, self.skew
        self._regress()
        if self._drop_bend():
            self._stress = abs(self._frequency - frequency) / skew
        return Accumulated.ADDED

    def correct_offsets(self, correction_s: float) -> None:
        """Add a correction to every stored offset and to the estimate (the source's own clock was moved)."""
        self._offsets = [offset + correction_s for offset in self._offsets]
        self._offset += correction_s

    def handle_change(self, change: ClockChange) -> None:
        """Follow the clock."""
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self.reset()
            return
        if not self._times_ns or change.kind is ChangeKind.LEAP:
            return
        self._offset += change.shift_s(self._times_ns[-1])
        slew_samples(self._times_ns, self._offsets, change.cooked_ns, change.dfreq, change.doffset_s)
        self._frequency = (self._frequency - change.dfreq) / (1.0 - change.dfreq)

    def add_dispersion(self, dispersion_s: float) -> None:
        """Account for an imperfect change of the clock."""
        self._peer_dispersions = [value + dispersion_s for value in self._peer_dispersions]
        self._root_dispersions = [value + dispersion_s for value in self._root_dispersions]

    def predict(self, cooked_ns: int) -> float:
        """Offset expected at a time, s; 0 without samples."""
        if not self._times_ns:
            return 0.0
        if not self._fitted:
            return self._offsets[-1]
        return self._offset + self._frequency * diff_s(cooked_ns, self._times_ns[-1])

    def min_delay_s(self) -> float:
        """The configured minimum delay or the smallest seen, s; needs a sample."""
        if self._options.min_delay_s > 0.0:
            return self._options.min_delay_s
        return min(self._delays)

    def selection_data(self, cooked_ns: int, max_jitter_s: float) -> SelectionData:
        """Interval, distance and ages for selection at a time; needs a sample."""
        best = self._best
        elapsed = abs(diff_s(cooked_ns, self._times_ns[best]))
        offset = self._offsets[best] + elapsed * self._frequency
        distance = 0.5 * self._root_delays[best] + self._root_dispersions[best] + elapsed * self._skew
        available = self._fitted
        std_dev = self._std_dev
        # a source limited to one or two samples can't have a line; it is judged by its interval
        if not available and self.n_samples == self._options.max_samples:
            available = True
            std_dev = max_jitter_s
        return SelectionData(
            offset_lo_s=offset - distance,
            offset_hi_s=offset + distance,
            root_distance_s=distance,
            std_dev_s=std_dev,
            first_sample_ago_s=diff_s(cooked_ns, self._times_ns[self._n_runs_samples]),
            last_sample_ago_s=diff_s(cooked_ns, self._times_ns[-1]),
            available=available,
        )

    def tracking_data(self) -> TrackingData:
        """The estimate for the clock at the newest sample; needs a sample."""
        best = self._best
        newest_ns = self._times_ns[-1]
        return TrackingData(
            ref_time_ns=newest_ns,
            offset_s=self._offset,
            offset_sd_s=self._offset_sd,
            frequency=self._frequency,
            frequency_sd=self._frequency_sd,
            skew=self._skew,
            root_delay_s=self._root_delays[best],
            root_dispersion_s=self._root_dispersions[best]
            + self._skew * diff_s(newest_ns, self._times_ns[best])
            + self._offset_sd,
            span_s=diff_s(newest_ns, self._times_ns[self._n_runs_samples]),
        )

    def delay_test_data(self, cooked_ns: int) -> DelayTestData | None:
        """What a measurement at a time is compared with; None below 6 samples."""
        if self.n_samples < MIN_SAMPLES_FOR_DELAY_TESTS:
            return None
        return DelayTestData(
            sample_age_s=diff_s(cooked_ns, self._times_ns[-1]),
            predicted_offset_s=self.predict(cooked_ns),
            min_delay_s=self.min_delay_s(),
            skew=self._skew,
            std_dev_s=self._std_dev,
        )

    def stats_report(self, cooked_ns: int) -> StatsReport:
        """A `sourcestats` line for a moment."""
        if not self.n_samples:
            return StatsReport(0, 0, 0.0, self._std_dev, self._frequency, self._skew, 0.0, UNKNOWN_STD_DEV_S)
        newest_ns = self._times_ns[-1]
        elapsed = abs(diff_s(cooked_ns, newest_ns))
        return StatsReport(
            n_samples=self.n_samples,
            n_runs=self._n_runs,
            span_s=diff_s(newest_ns, self._times_ns[self._n_runs_samples]),
            std_dev_s=self._std_dev,
            residual_frequency=self._frequency,
            skew=self._skew,
            offset_s=self.predict(cooked_ns),
            offset_error_s=self._offset_sd + elapsed * self._skew,
        )

    def source_report(self, cooked_ns: int) -> SourceReport | None:
        """The newest sample for a `sources` line; None without any."""
        if not self.n_samples:
            return None
        return SourceReport(
            last_sample_ago_s=diff_s(cooked_ns, self._times_ns[-1]),
            original_offset_s=self._original_offsets[-1],
            offset_s=self._offsets[-1],
            offset_error_s=0.5 * self._root_delays[-1] + self._root_dispersions[-1],
        )

    def dump_lines(self) -> list[str]:
        """The register as text: `n asymmetry_run`, then a line a live sample."""
        lines = [f"{self.n_samples} {self._asymmetry_run}"]
        for i in range(self._n_runs_samples, len(self._times_ns)):
            seconds, ns = divmod(self._times_ns[i], 1_000_000_000)
            values = (
                self._offsets[i],
                self._original_offsets[i],
                self._delays[i],
                self._peer_dispersions[i],
                self._root_delays[i],
                self._root_dispersions[i],
            )
            lines.append(f"{seconds}.{ns:09d} " + " ".join(f"{value:.6e}" for value in values))
        return lines

    def load_lines(self, lines: list[str], now_ns: int) -> bool:
        """Replace the register by a dumped one; False (and an empty register) when it isn't sane."""
        self.reset()
        try:
            n, run, samples = _parse_register(lines)
        except ValueError:
            return False
        times = [sample[0] for sample in samples]
        if (
            n != len(samples)
            or not 1 <= n <= MAX_SAMPLES
            or abs(run) > MAX_ASYMMETRY_RUN
            or any(later <= earlier for earlier, later in pairwise(times))
            or times[-1] > now_ns
            or times[0] < 0
        ):
            return False
        for time_ns, values in samples[-self._options.max_samples :]:
            self._append(time_ns, *values)
        self._asymmetry_run = run
        self._regress()
        return True

    def _columns(self) -> tuple[list[int], *tuple[list[float], ...]]:
        return (
            self._times_ns,
            self._offsets,
            self._original_offsets,
            self._delays,
            self._peer_dispersions,
            self._root_delays,
            self._root_dispersions,
        )

    def _append(self, time_ns: int, *values: float) -> None:
        times, *columns = self._columns()
        times.append(time_ns)
        for column, value in zip(columns, values, strict=True):
            column.append(value)

    def _drop(self, count: int) -> None:
        """Retire the oldest live samples to the runs samples, of which no more than live ones are kept."""
        self._n_runs_samples += count
        excess = self._n_runs_samples - self.n_samples
        if excess > 0:
            for column in self._columns():
                del column[:excess]
            self._n_runs_samples -= excess

    def _fail(self, offset: float) -> None:
        self._fitted = False
        self._stress = 0.0
        self._n_runs = 0
        self._best_start = 0
        self._best = len(self._times_ns) - 1
        self._offset = offset
        self._offset_sd = UNKNOWN_STD_DEV_S
        self._frequency_sd = UNKNOWN_SKEW
        self._skew: float = UNKNOWN_SKEW
        self._std_dev = UNKNOWN_STD_DEV_S

    def _weights(self) -> list[float]:
        first = self._n_runs_samples
        distances = [
            0.5 * delay + dispersion
            for delay, dispersion in zip(self._delays[first:], self._peer_dispersions[first:], strict=True)
        ]
        return distance_weights(distances, self._precision_s)

    def _drop_bend(self) -> bool:
        """Let go of the oldest samples of a line that bends, a few at each new sample; whether any went.

        A clock's frequency is never constant, so a long line bends long before the runs test notices; by then it
        is off by many times its error, all to be corrected at once. A few samples at a time move it smoothly.
        This is no part of the fit of a given register, which stays chrony's.
        """
        dropped = self._best_start
        least = max(self._options.min_samples, MIN_SAMPLES_OF_BENT_LINE)
        for _ in range(BEND_DROPS):
            if not self._fitted or self.n_samples <= least:
                break
            first, newest_ns = self._n_runs_samples, self._times_ns[-1]
            x = [diff_s(t, newest_ns) for t in self._times_ns[first:]]
            if not is_bent(x, self._without_asymmetry()[first:], self._weights()):
                break
            self._drop(1)
            self._regress(again=True)
            dropped += 1 + self._best_start
        changed = dropped > self._best_start
        self._best_start = dropped
        return changed

    def _regress(self, *, again: bool = False) -> None:
        """Fit; `again`: without another sample, so that the asymmetry is not counted twice."""
        newest_ns = self._times_ns[-1]
        x = [diff_s(t, newest_ns) for t in self._times_ns]
        if not again:
            self._update_asymmetry(x)
        y = self._without_asymmetry()
        weights = self._weights()
        fit = fit_weighted(x, y, weights, self._options.min_samples)
        if fit is None:
            self._fail(self._offsets[-1])
        else:
            dof = len(weights) - fit.start - 2
            self._stress = abs(fit.slope - self._frequency) / self._skew
            self._fitted = True
            self._n_runs = fit.runs
            self._best_start = fit.start
            self._offset = fit.intercept
            self._offset_sd = fit.sd_intercept
            self._frequency = fit.slope
            self._frequency_sd = _clamp_skew(fit.sd_slope)
            self._skew = _clamp_skew(fit.sd_slope * student_t_9995(dof))
            self._std_dev = max(math.sqrt(fit.variance), MIN_STD_DEV_S)
            self._drop(fit.start)
        self._best = self._find_best(newest_ns)

    def _find_best(self, newest_ns: int) -> int:
        """The live sample with the shortest root distance, aged to the newest."""
        best = -1
        best_distance = math.inf
        for i in range(self._n_runs_samples, len(self._times_ns)):
            distance = (
                self._root_dispersions[i]
                + diff_s(newest_ns, self._times_ns[i]) * self._skew
                + 0.5 * self._root_delays[i]
            )
            if distance < best_distance:
                best = i
                best_distance = distance
        return best

    def _update_asymmetry(self, x: list[float]) -> None:
        """The part of the extra delay that is in the offsets, if it has been seen there for long."""
        configured = self._options.asymmetry
        self._asymmetry = configured or 0.0
        if configured is None:
            self._asymmetry = self._estimate_asymmetry(x, self._extra_delays())

    def _extra_delays(self) -> list[float]:
        min_delay = self.min_delay_s()
        return [delay - min_delay for delay in self._delays]

    def _without_asymmetry(self) -> list[float]:
        asymmetry = self._asymmetry
        if asymmetry == 0.0:
            return self._offsets
        return [y - asymmetry * extra for y, extra in zip(self._offsets, self._extra_delays(), strict=True)]

    def _estimate_asymmetry(self, x: list[float], extra_delays: list[float]) -> float:
        slope = asymmetry_slope(x, self._offsets, extra_delays)
        if slope is None or slope * self._asymmetry_run < 0.0:
            self._asymmetry_run = 0
            return 0.0
        if slope >= MIN_ASYMMETRY:
            self._asymmetry_run = min(self._asymmetry_run + 1, MAX_ASYMMETRY_RUN)
        elif slope <= -MIN_ASYMMETRY:
            self._asymmetry_run = max(self._asymmetry_run - 1, -MAX_ASYMMETRY_RUN)
        if abs(self._asymmetry_run) < ASYMMETRY_RUN:
            return 0.0
        return min(max(slope, -MAX_ASYMMETRY), MAX_ASYMMETRY)


def _clamp_skew(value: float) -> float:
    return min(max(value, MIN_SKEW), MAX_SKEW)


def _parse_register(lines: list[str]) -> tuple[int, int, list[tuple[int, list[float]]]]:
    """Numbers of a dumped register; ValueError when there is anything else in it."""
    if not 1 <= len(lines) <= 1 + MAX_SAMPLES:
        raise ValueError("number of lines")
    n_text, run_text = lines[0].split()
    samples = []
    for line in lines[1:]:
        time_text, *value_texts = line.split()
        values = [float(text) for text in value_texts]
        if len(values) != 6 or not all(abs(value) < 2.0**32 for value in values):
            raise ValueError("values")
        if any(value < 0.0 for value in values[2:]):
            raise ValueError("negative delay or dispersion")
        samples.append((_parse_time_ns(time_text), values))
    return int(n_text), int(run_text), samples


def _parse_time_ns(text: str) -> int:
    seconds, point, fraction = text.partition(".")
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= 12):
        raise ValueError("seconds")
    if point and not (fraction.isascii() and fraction.isdecimal() and len(fraction) <= 9):
        raise ValueError("fraction")
    return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0") or "0")
