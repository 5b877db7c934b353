"""The local reference (`local`): serving our own time when there is nothing better to derive it from."""

from __future__ import annotations

from collections.abc import Callable

from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.served import NS_PER_S, STRATUM_UNSYNCHRONISED
from ntpd_fast.config.model import LocalOptions
from ntpd_fast.system.timers import Random, TimerHandle

AGE_MIN_S = 1.0
REFRESH_S = 60.0
"""The reference time of the local reference stays below 64 s of age."""


class LocalReference:
    """Options and state of the local reference; whether it is active depends on the moment (`served.py`)."""

    def __init__(self, clock: LocalClock, random: Random, on_refresh: Callable[[], None]) -> None:
        """`on_refresh` is called when the reference time was renewed."""
        self._clock = clock
        self._random = random
        self._on_refresh = on_refresh
        self._timer: TimerHandle | None = None
        self.options: LocalOptions | None = None
        self.activated = False
        """Its `activate` condition has been met."""
        self.ref_time_ns = 0
        """Cooked time of an update that we pretend."""
        self.unsync_since_ns = clock.cooked_ns()
        """Cooked time since which there is no other reference."""

    @property
    def orphan_stratum(self) -> int:
        """Stratum of sources that count as orphans; 16 when there is no orphan mode."""
        if self.options is not None and self.options.orphan:
            return self.options.stratum
        return STRATUM_UNSYNCHRONISED

    def set_options(self, options: LocalOptions | None) -> None:
        """Enable, change or (None) disable it."""
        self.options = options
        self.activated = options is not None and options.activate_s == 0.0
        self._refresh()

    def note_distance(self, distance_s: float) -> None:
        """Latch the `activate` condition; called after each update, when the distance is smallest."""
        if self.options is not None and distance_s < self.options.activate_s:
            self.activated = True

    def note_loss(self) -> None:
        """There is no other reference from now on."""
        self.unsync_since_ns = self._clock.cooked_ns()

    def handle_change(self, change: ClockChange) -> None:
        """Follow the clock."""
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self.unsync_since_ns = self._clock.cooked_ns()
            self._refresh()
        else:
            self.ref_time_ns = change.slewed_ns(self.ref_time_ns)
            self.unsync_since_ns = change.slewed_ns(self.unsync_since_ns)

    def close(self) -> None:
        """Renew nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refresh(self) -> None:
        self.close()
        if self.options is None:
            return
        age_s = AGE_MIN_S + self._random.random()
        self.ref_time_ns = self._clock.cooked_ns() - round(age_s * NS_PER_S)
        self._timer = self._clock.scheduler.call_later(REFRESH_S, self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        self._refresh()
        self._on_refresh()
