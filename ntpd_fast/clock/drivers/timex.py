"""`struct timex` of adjtimex(2): its fields, constants and the shape of the call.

The Linux driver and the modelled kernel of the tests both speak in these terms; `ntpd_fast._clock`
makes the real call.
"""

from __future__ import annotations

from collections.abc import Callable

from ntpd_fast._record import dataclass

ADJ_OFFSET = 0x0001
ADJ_FREQUENCY = 0x0002
ADJ_MAXERROR = 0x0004
ADJ_ESTERROR = 0x0008
ADJ_STATUS = 0x0010
ADJ_TIMECONST = 0x0020
ADJ_TAI = 0x0080
ADJ_SETOFFSET = 0x0100
ADJ_MICRO = 0x1000
ADJ_NANO = 0x2000
ADJ_TICK = 0x4000
ADJ_OFFSET_SINGLESHOT = 0x8001

STA_PLL = 0x0001
STA_PPSFREQ = 0x0002
STA_PPSTIME = 0x0004
STA_FLL = 0x0008
STA_INS = 0x0010
STA_DEL = 0x0020
STA_UNSYNC = 0x0040
STA_FREQHOLD = 0x0080
STA_NANO = 0x2000
STA_RONLY = 0xFF00

TIME_OK = 0
TIME_INS = 1
TIME_DEL = 2
TIME_OOP = 3
TIME_WAIT = 4
TIME_ERROR = 5

FREQ_PER_PPM = 65536
"""`freq` is in ppm with a 16-bit fraction; positive makes the clock faster."""
FREQ_MAX = 500 * FREQ_PER_PPM

ERROR_MAX_US = 16_000_000
"""NTP_PHASE_LIMIT: the kernel calls itself unsynchronised from this maximum error on, µs."""


@dataclass(slots=True)
class Timex:
    """One call of adjtimex: what is asked (`modes` says which fields count) and what came back."""

    modes: int = 0
    offset: int = 0
    freq: int = 0
    maxerror: int = 0
    esterror: int = 0
    status: int = 0
    constant: int = 0
    time_sec: int = 0
    time_usec: int = 0
    tick: int = 0
    tai: int = 0


AdjTimex = Callable[[Timex], int]
"""Fills the structure in and returns the clock state (TIME_*); raises OSError."""
