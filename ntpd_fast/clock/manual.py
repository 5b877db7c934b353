"""Manual input (`manual`, `settime`): the operator's watch as a source of time.

Up to 16 entries are kept; a robust line through them gives the frequency. Each entry sets the clock as a
stratum-0 reference with a leap indicator of "unsynchronised", which is followed but not served.
"""

from __future__ import annotations

from ntpd_fast import _regress
from ntpd_fast._record import dataclass, replace
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.estimate import Estimate, Update
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Reference
from ntpd_fast.clock.served import REFID_MANUAL

NS_PER_S = 1_000_000_000

SAMPLES_MAX = 16
SEPARATION_MIN_S = 1.0
SLOPE_TOLERANCE = 1e-8
MANUAL_SKEW = 0.1


@dataclass(frozen=True, slots=True)
class ManualSample:
    """One entry."""

    time_ns: int
    """Cooked time of the entry, ns."""
    offset_s: float
    """How fast the clock was, moved by all corrections since."""
    original_offset_s: float
    """As entered."""
    residual_s: float = 0.0
    """Distance from the line through the entries."""


@dataclass(frozen=True, slots=True)
class ManualResult:
    """What an entry has done."""

    offset_s: float
    """How fast the clock was."""
    dfreq_ppm: float
    frequency_ppm: float
    """The absolute frequency since."""


class Manual:
    """The entries and what follows from them."""

    def __init__(self, clock: LocalClock, reference: Reference, *, enabled: bool) -> None:
        self._clock = clock
        self._reference = reference
        self.enabled = enabled
        self._samples: list[ManualSample] = []
        clock.add_handler(self._clock_changed)

    @property
    def samples(self) -> tuple[ManualSample, ...]:
        """The entries, oldest first."""
        return tuple(self._samples)

    def reset(self) -> None:
        """Forget all entries."""
        self._samples.clear()

    def settime(self, utc_ns: int) -> ManualResult | None:
        """Enter that it is `utc_ns` now.

        None, having done nothing, for an impossible time or within a second of the entry before.
        """
        now_ns = self._clock.cooked_ns()
        offset_s = (now_ns - utc_ns) / NS_PER_S
        if not self._clock.is_sane(now_ns, offset_s):
            return None
        if self._samples and now_ns - self._samples[-1].time_ns < SEPARATION_MIN_S * NS_PER_S:
            return None
        if len(self._samples) >= SAMPLES_MAX:
            del self._samples[0]
        self._samples.append(ManualSample(now_ns, offset_s, offset_s))
        return self._set_clock(now_ns, offset_s)

    def delete(self, index: int) -> bool:
        """Forget one entry and set the clock by the others; False if there is none of this index."""
        if not 0 <= index < len(self._samples):
            return False
        del self._samples[index]
        if self._samples:
            self._set_clock(self._clock.cooked_ns(), None)
        return True

    def _set_clock(self, now_ns: int, offset_s: float | None) -> ManualResult:
        """Follow the entries; `offset_s` None: take it from the line through them."""
        ages = [(now_ns - sample.time_ns) / NS_PER_S for sample in self._samples]
        offsets = [sample.offset_s for sample in self._samples]
        fit = _regress.robust_fit(ages, offsets, SLOPE_TOLERANCE)
        intercept, slope = offsets[-1], 0.0
        if fit is not None:
            intercept, slope, _, start = fit
            del self._samples[:start]
            ages, offsets = ages[start:], offsets[start:]
        self._samples = [
            replace(sample, residual_s=offset - intercept - slope * age)
            for sample, age, offset in zip(self._samples, ages, offsets, strict=True)
        ]
        if offset_s is None:
            offset_s = intercept
        before_ppm = self._clock.absolute_frequency_ppm
        self._reference.update(
            Update(
                Estimate(now_ns, offset_s, frequency=-slope, skew=MANUAL_SKEW),
                stratum=0,
                leap=Leap.UNSYNCHRONISED,
                refid=REFID_MANUAL,
            )
        )
        after_ppm = self._clock.absolute_frequency_ppm
        return ManualResult(offset_s, after_ppm - before_ppm, after_ppm)

    def _clock_changed(self, change: ClockChange) -> None:
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self.reset()
            return
        self._samples = [
            replace(
                sample,
                time_ns=change.slewed_ns(sample.time_ns),
                offset_s=sample.offset_s + change.shift_s(sample.time_ns),
            )
            for sample in self._samples
        ]
