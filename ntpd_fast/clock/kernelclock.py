"""Serving the system clock as it is kept by somebody else (`kernelclock`): the kernel's own word is the reference.

Who keeps the clock (another daemon, a PTP stack, the host of a container) tells the kernel how good it is, and the
kernel lets that grow worse until it is told again. This reads it, and changes nothing: whether the clock is
synchronised, its maximum error (which becomes the root dispersion), a leap second to come. Nothing of this says where
the time comes from: the stratum is the administrator's to give.
"""

from __future__ import annotations

from ntpd_fast._clock import adjtimex as kernel_adjtimex
from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.drivers.timex import ERROR_MAX_US, STA_DEL, STA_INS, STA_UNSYNC, TIME_WAIT, AdjTimex, Timex
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Reference
from ntpd_fast.config.model import KernelClockOptions
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import TimerHandle

INTERVAL_S = 1.0
"""How soon a clock that is no longer kept is found out."""

ERROR_RATE = 500e-6
"""The kernel's maximum error grows by this between two words about it (MAXFREQ of linux/timex.h), s/s."""

STA_CLOCKERR = 0x1000
_TOLD_BETTER_S = 1e-6
"""A maximum error this much below what it had grown to was told anew (it is kept in µs)."""
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class KernelState:
    """What the kernel says of its clock. `max_error_s`: bound of its error; `tai_offset_s`: TAI − UTC, 0: unknown."""

    synchronised: bool
    max_error_s: float
    leap: Leap
    tai_offset_s: int


def read_state(adjtimex: AdjTimex = kernel_adjtimex) -> KernelState:
    """Ask the kernel, changing nothing. Raises OSError."""
    answer = Timex(modes=0)
    state = adjtimex(answer)
    leap = Leap.NORMAL
    # after a leap second the flag stays up until somebody takes it down
    if state != TIME_WAIT:
        if answer.status & STA_INS:
            leap = Leap.INSERT
        elif answer.status & STA_DEL:
            leap = Leap.DELETE
    return KernelState(
        synchronised=not answer.status & (STA_UNSYNC | STA_CLOCKERR) and answer.maxerror < ERROR_MAX_US,
        max_error_s=answer.maxerror * 1e-6,
        leap=leap,
        tai_offset_s=answer.tai,
    )


class KernelClock:
    """Keeps a `Reference` at what the kernel says."""

    def __init__(
        self,
        clock: LocalClock,
        reference: Reference,
        options: KernelClockOptions,
        log: Log,
        adjtimex: AdjTimex = kernel_adjtimex,
    ) -> None:
        self._clock = clock
        self._reference = reference
        self._options = options
        self._log = log
        self._adjtimex = adjtimex
        self._timer: TimerHandle | None = None
        self._told: bool | None = None
        self._tai_offset_s = 0
        self._failed = False
        self._ref_time_ns = 0
        self._error_s = 0.0
        self._leap = Leap.UNSYNCHRONISED

    def start(self) -> None:
        """Read now and from now on."""
        self._timer = self._clock.scheduler.call_later(INTERVAL_S, self.start)
        try:
            state = read_state(self._adjtimex)
        except OSError as error:
            if not self._failed:
                self._log(Severity.ERROR, f"Could not read the state of the system clock : {error.strerror}")
            self._failed = True
            state = KernelState(False, 0.0, Leap.UNSYNCHRONISED, 0)
        else:
            self._failed = False
        self._follow(state)

    def close(self) -> None:
        """Read no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _follow(self, state: KernelState) -> None:
        if state.synchronised != self._told:
            self._told = state.synchronised
            what = "is kept right by others" if state.synchronised else "is not synchronised"
            self._log(Severity.INFO, f"System clock {what}")
        if state.tai_offset_s != self._tai_offset_s:
            self._tai_offset_s = state.tai_offset_s
            self._log(Severity.INFO, f"System clock has a TAI offset of {state.tai_offset_s} seconds")
        if not state.synchronised:
            if self._reference.synchronised:
                self._reference.set_unsynchronised()
            return
        now_ns = self._clock.cooked_ns()
        expected_s = self._error_s + (now_ns - self._ref_time_ns) / _NS_PER_S * ERROR_RATE
        told_anew = abs(state.max_error_s - expected_s) > ERROR_RATE * INTERVAL_S + _TOLD_BETTER_S
        # what the kernel counts in whole seconds, and somebody's slew of the clock, is not worth a new reference time
        if self._reference.synchronised and not told_anew and state.leap == self._leap:
            return
        if told_anew or not self._reference.synchronised:
            self._ref_time_ns = now_ns
            self._error_s = state.max_error_s
        self._leap = state.leap
        self._reference.mirror(
            stratum=self._options.stratum,
            refid=int.from_bytes(self._options.refid, "big"),
            ref_time_ns=self._ref_time_ns,
            dispersion_s=self._error_s,
            rate=ERROR_RATE,
            leap=state.leap,
        )
