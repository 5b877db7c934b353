"""The driver of `-x`: makes no system call that could change anything, and says so."""

from __future__ import annotations

from ntpd_fast.clock.driver import DriverLimits, Leap

MAX_FREQUENCY_PPM = 100_000.0


class NullDriver:
    """A clock that belongs to somebody else."""

    @property
    def limits(self) -> DriverLimits:
        """Frequencies exist in cooked time only, where they take effect at once."""
        return DriverLimits(max_frequency_ppm=MAX_FREQUENCY_PPM, frequency_change_delay_s=0.0)

    @property
    def controls_clock(self) -> bool:
        """Never."""
        return False

    @property
    def handles_leap(self) -> bool:
        """Never."""
        return False

    def read_frequency_ppm(self) -> float:
        """What compensates the clock is not ours: we start from nothing."""
        return 0.0

    def set_frequency_ppm(self, frequency_ppm: float) -> float:
        """Accepted exactly."""
        return min(max(frequency_ppm, -MAX_FREQUENCY_PPM), MAX_FREQUENCY_PPM)

    def step(self, offset_s: float) -> float | None:
        """Refused."""
        return None

    def set_leap(self, leap: Leap, tai_offset_s: int | None) -> None:
        """The kernel is told nothing."""

    def set_sync_status(self, synchronised: bool, est_error_s: float, max_error_s: float) -> None:
        """The kernel is told nothing."""
