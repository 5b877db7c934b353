"""Smoothing of served time (`smoothtime`): the clock may jump for us, for our clients it glides.

Served time is cooked time plus S(t). When the clock is adjusted, S takes up what cooked time loses, and
is then brought back to zero within the configured limits of frequency and wander, by three stages of
constant wander (server-datapath §6). Conventions of the state: `offset_s` is S, `frequency` is −dS/dt,
a stage's wander the derivative of that.

Invariants, held by tests: served time is continuous over an adjustment; re-planning at any time
converges; the frequency never exceeds its limit once it is inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ntpd_fast._record import dataclass
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.system.messages import Log, Severity

NS_PER_S = 1_000_000_000
PPM = 1e-6

UNLOCK_SKEW_WANDER_RATIO_S = 10_000.0
"""Smoothing starts when the skew is below the allowed wander over this time."""

Stage = tuple[float, float]
"""Wander (s/s²) and length (s)."""

NO_STAGES: tuple[Stage, Stage, Stage] = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


@dataclass(frozen=True, slots=True)
class SmoothingState:
    """S(t) from one moment on."""

    origin_ns: int = 0
    """Cooked time at which the state holds, ns."""
    offset_s: float = 0.0
    frequency: float = 0.0
    stages: tuple[Stage, Stage, Stage] = NO_STAGES

    def at(self, elapsed_s: float) -> tuple[float, float, float]:
        """S, −dS/dt and the wander `elapsed_s` after the origin."""
        offset_s, frequency, wander = self.offset_s, self.frequency, 0.0
        for stage_wander, stage_length_s in self.stages:
            length_s = min(stage_length_s, elapsed_s)
            offset_s -= length_s * (2.0 * frequency + stage_wander * length_s) / 2.0
            frequency += stage_wander * length_s
            elapsed_s -= length_s
            if elapsed_s <= 0.0:
                wander = stage_wander
                break
        return offset_s - elapsed_s * frequency, frequency, wander

    def offset_at_s(self, cooked_ns: int) -> float:
        """What served time is ahead of cooked time, s."""
        return self.at((cooked_ns - self.origin_ns) / NS_PER_S)[0]


@dataclass(frozen=True, slots=True)
class SmoothingReport:
    """What `smoothing` shows. Signs are the clients': positive is ahead, fast."""

    active: bool
    leap_only: bool
    offset_s: float
    frequency_ppm: float
    wander_ppm_s: float
    last_update_ago_s: float
    remaining_s: float


def plan_stages(
    offset_s: float, frequency: float, max_frequency: float, max_wander: float
) -> tuple[Stage, Stage, Stage]:
    """The stages that bring offset and frequency to zero at the same time, as fast as the limits allow."""
    from_offset = offset_s / max_wander
    from_frequency = frequency * frequency / (2.0 * max_wander * max_wander)
    best_error = math.inf
    direction, first_s, third_s = 1.0, 0.0, 0.0
    for sign in (1.0, -1.0):
        error = 0.0
        square = sign * from_offset + from_frequency
        if square < 0.0:
            error -= square
            square = 0.0
        last_s = math.sqrt(square)
        start_s = last_s - sign * frequency / max_wander
        if start_s < 0.0:
            error += start_s * start_s
            start_s = 0.0
        if error < best_error:
            best_error = error
            direction, first_s, third_s = sign, start_s, last_s

    second_s = 0.0
    excess = direction * frequency + first_s * max_wander - max_frequency
    if excess > 0.0:
        cut_s = excess / max_wander
        top = max_frequency
        if cut_s > first_s:
            cut_s = first_s
            top = direction * frequency
        second_s = cut_s * (2.0 + excess / top)
        first_s -= cut_s
        third_s -= cut_s
    wander = direction * max_wander
    return (wander, first_s), (0.0, second_s), (-wander, third_s)


class Smoothing:
    """The smoothing process; its `handle_change` is a handler of the local clock."""

    def __init__(
        self,
        max_frequency_ppm: float,
        max_wander_ppm_s: float,
        *,
        leap_only: bool = False,
        skew: Callable[[], float],
        log: Log,
        on_command: Callable[[], None] = lambda: None,
    ) -> None:
        """Both limits must be positive. `skew` tells the error bound of the clock's frequency, s/s.

        `on_command` is called when a command (`activate`, `reset`) has changed what is served.
        """
        if not (max_frequency_ppm > 0.0 and max_wander_ppm_s > 0.0):
            raise ValueError("smoothing limits must be positive")
        self._max_frequency = max_frequency_ppm * PPM
        self._max_wander = max_wander_ppm_s * PPM
        self._leap_only = leap_only
        self._skew = skew
        self._log = log
        self._on_command = on_command
        self._locked = True
        self._state = SmoothingState()

    @property
    def active(self) -> bool:
        """Whether adjustments are smoothed (it starts locked, until the clock has settled)."""
        return not self._locked

    @property
    def state(self) -> SmoothingState:
        """S(t) as it is planned now."""
        return self._state

    def activate(self, cooked_ns: int) -> None:
        """Start smoothing now, whatever the skew is."""
        if self._locked:
            self._unlock(cooked_ns)
            self._on_command()

    def resume(self, state: SmoothingState) -> None:
        """Go on with the process of a predecessor."""
        self._locked = False
        self._state = state

    def reset(self, cooked_ns: int) -> None:
        """Serve cooked time as it is, from now on."""
        self._state = SmoothingState(origin_ns=cooked_ns)
        self._log(Severity.INFO, "Reset time smoothing")
        self._on_command()

    def report(self, cooked_ns: int) -> SmoothingReport:
        """The process at a cooked time."""
        if self._locked:
            return SmoothingReport(False, self._leap_only, 0.0, 0.0, 0.0, 0.0, 0.0)
        elapsed_s = (cooked_ns - self._state.origin_ns) / NS_PER_S
        offset_s, frequency, wander = self._state.at(elapsed_s)
        remaining_s = sum(length for _, length in self._state.stages) - elapsed_s
        return SmoothingReport(
            active=True,
            leap_only=self._leap_only,
            offset_s=offset_s,
            frequency_ppm=-frequency / PPM,
            wander_ppm_s=-wander / PPM,
            last_update_ago_s=elapsed_s,
            remaining_s=max(0.0, remaining_s),
        )

    def handle_change(self, change: ClockChange) -> None:
        """Take up what a change of the clock would have done to the clients."""
        if change.kind is ChangeKind.ADJUST:
            if self._locked:
                if self._leap_only or self._skew() / self._max_wander < UNLOCK_SKEW_WANDER_RATIO_S:
                    self._unlock(change.slewed_ns(change.cooked_ns))
                return
            if self._leap_only:
                self._replan(change.cooked_ns, 0.0, 0.0)
            else:
                self._replan(change.cooked_ns, change.doffset_s, change.dfreq)
            self._move_origin(-change.doffset_s)
        elif change.kind is ChangeKind.LEAP:
            if not self._locked:
                self._replan(change.cooked_ns, change.doffset_s, 0.0)
                self._move_origin(-change.doffset_s)
        else:
            self._state = SmoothingState(origin_ns=change.cooked_ns - round(change.doffset_s * NS_PER_S))

    def _unlock(self, cooked_ns: int) -> None:
        self._locked = False
        self._state = SmoothingState(origin_ns=cooked_ns)
        only = " (leap seconds only)" if self._leap_only else ""
        self._log(Severity.INFO, f"Activated time smoothing{only}")

    def _move_origin(self, shift_s: float) -> None:
        state = self._state
        origin_ns = state.origin_ns + round(shift_s * NS_PER_S)
        self._state = SmoothingState(origin_ns, state.offset_s, state.frequency, state.stages)

    def _replan(self, cooked_ns: int, doffset_s: float, dfreq: float) -> None:
        offset_s, frequency, _ = self._state.at((cooked_ns - self._state.origin_ns) / NS_PER_S)
        offset_s += doffset_s
        frequency = (frequency - dfreq) / (1.0 - dfreq)
        stages = plan_stages(offset_s, frequency, self._max_frequency, self._max_wander)
        self._state = SmoothingState(cooked_ns, offset_s, frequency, stages)
