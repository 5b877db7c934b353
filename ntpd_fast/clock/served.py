"""What is served, and the inputs it is computed from.

`Reference` publishes a `ServedReference` at every change; the data plane copies it to shared memory and
computes, per packet, what `served_at` computes here for the control plane (reports, symmetric peers).
Field names, units and meaning are those of the reference page in shared memory.
"""

from __future__ import annotations

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.slew import Mapping
from ntpd_fast.clock.smoothing import NO_STAGES, SmoothingState, Stage

NS_PER_S = 1_000_000_000

REFID_UNSYNCHRONISED = 0
REFID_LOCAL = 0x7F7F0101
REFID_SMOOTHED = 0x7F7F01FF
REFID_MANUAL = 0x4D414E55

STRATUM_UNSYNCHRONISED = 16
UNSYNCHRONISED_DELAY_S = 1.0
UNSYNCHRONISED_DISPERSION_S = 1.0


@dataclass(frozen=True, slots=True)
class ServedReference:
    """Inputs of the served reference data. Times in ns since the Unix epoch, cooked unless named raw."""

    synchronised: bool = False
    local: bool = False
    """`local` is enabled."""
    local_activated: bool = False
    """Its `activate` condition has been met."""
    stepping: bool = False
    """The clock is being stepped at this moment: answer nothing."""
    smoothing: bool = False
    leap_lock: bool = False
    """A leap second is in progress: LI is 3 whatever else holds."""
    leap: int = Leap.UNSYNCHRONISED
    stratum: int = STRATUM_UNSYNCHRONISED
    """Ours, when synchronised."""
    refid: int = REFID_UNSYNCHRONISED
    ref_time_ns: int = 0
    root_delay_s: float = UNSYNCHRONISED_DELAY_S
    """At the reference time."""
    root_dispersion_s: float = UNSYNCHRONISED_DISPERSION_S
    """At the reference time."""
    dispersion_rate: float = 0.0
    """Growth of the dispersion, s/s."""
    precision: int = -20
    """log2 s."""
    local_stratum: int = 10
    local_distance_s: float = 1.0
    local_wait_sync_s: float = 0.0
    local_wait_unsync_s: float = 0.0
    local_ref_time_ns: int = 0
    unsync_since_ns: int = 0
    map_raw_ns: int = 0
    """cooked = raw + map_freq·(raw − map_raw) − map_offset"""
    map_freq: float = 0.0
    map_offset_s: float = 0.0
    slew_epoch: int = 0
    """Counts adjustments and steps of the clock, modulo 2^16."""
    slew_last_s: float = 0.0
    """How far the last of them moved cooked time back."""
    step_count: int = 0
    mono_offset_s: float = 0.0
    """Sum of the offset corrections since the last step."""
    mono_epoch: int = 0
    """32 random bits, new after every step."""
    smooth_origin_ns: int = 0
    smooth_offset_s: float = 0.0
    smooth_freq: float = 0.0
    smooth_stages: tuple[Stage, Stage, Stage] = NO_STAGES
    """Wander (s/s²) and length (s)."""
    base_freq_ppm: float = 0.0
    """What the driver is to be set to when nobody steers the clock any more."""

    @property
    def mapping(self) -> Mapping:
        """From raw to cooked time."""
        return Mapping(self.map_raw_ns, self.map_freq, self.map_offset_s)

    def smoothed_s(self, cooked_ns: int) -> float:
        """What smoothing adds to a cooked time for clients."""
        state = SmoothingState(
            self.smooth_origin_ns, self.smooth_offset_s, self.smooth_freq, self.smooth_stages
        )
        return state.offset_at_s(cooked_ns) if self.smoothing else 0.0

    def dispersion_s(self, cooked_ns: int) -> float:
        """Root dispersion at a cooked time."""
        if self.ref_time_ns == 0:
            return self.root_dispersion_s
        return self.root_dispersion_s + abs(cooked_ns - self.ref_time_ns) / NS_PER_S * self.dispersion_rate

    def distance_s(self, cooked_ns: int) -> float:
        """Root distance at a cooked time."""
        return self.root_delay_s / 2.0 + self.dispersion_s(cooked_ns)

    def is_local_active(self, cooked_ns: int) -> bool:
        """Whether the local reference is what is served at a cooked time."""
        if not (self.local and self.local_activated):
            return False
        if self.synchronised:
            waited_s = (cooked_ns - self.ref_time_ns) / NS_PER_S
            return waited_s >= self.local_wait_sync_s and self.distance_s(cooked_ns) > self.local_distance_s
        return (cooked_ns - self.unsync_since_ns) / NS_PER_S >= self.local_wait_unsync_s


@dataclass(frozen=True, slots=True)
class Served:
    """Reference data at one moment, as a packet carries it (before rounding)."""

    leap: Leap
    stratum: int
    refid: int
    ref_time_ns: int
    """0: never."""
    root_delay_s: float
    root_dispersion_s: float

    @property
    def synchronised(self) -> bool:
        """Whether there is a time to serve at all."""
        return self.stratum < STRATUM_UNSYNCHRONISED


UNSYNCHRONISED = Served(
    Leap.UNSYNCHRONISED,
    STRATUM_UNSYNCHRONISED,
    REFID_UNSYNCHRONISED,
    0,
    UNSYNCHRONISED_DELAY_S,
    UNSYNCHRONISED_DISPERSION_S,
)


def served_at(page: ServedReference, cooked_ns: int) -> Served:
    """Reference data at a cooked time."""
    if page.is_local_active(cooked_ns):
        return Served(Leap.NORMAL, page.local_stratum, REFID_LOCAL, page.local_ref_time_ns, 0.0, 0.0)
    if not page.synchronised:
        return UNSYNCHRONISED
    return Served(
        Leap.UNSYNCHRONISED if page.leap_lock else Leap(page.leap),
        page.stratum,
        page.refid,
        page.ref_time_ns,
        page.root_delay_s,
        page.dispersion_s(cooked_ns),
    )
