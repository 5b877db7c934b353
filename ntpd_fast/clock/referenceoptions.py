"""What rules the discipline of the clock, and where it tells what it does: the constructor's side of `Reference`."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driftfile import Drift
from ntpd_fast.clock.served import Served, ServedReference
from ntpd_fast.clock.trackinglog import TrackingRecord
from ntpd_fast.config.model import (
    Config,
    FallbackDrift,
    LeapSecMode,
    LocalOptions,
    MakeStep,
    MaxChange,
    SmoothTime,
)

NO_STEPS = MakeStep()


class DriftStore(Protocol):
    """Where the frequency is remembered (`driftfile.DriftFile`)."""

    @property
    def path(self) -> str:
        """Name for the log."""

    def load(self) -> Drift | None:
        """Raises `DriftFileError`."""

    def save(self, drift: Drift) -> None:
        """Raises `DriftFileError`."""


class ReferenceMode(enum.Enum):
    """What an update is for."""

    NORMAL = enum.auto()
    INITSTEPSLEW = enum.auto()
    """Correct once, then go on normally."""
    UPDATE_ONCE = enum.auto()
    """`-q`: correct once, then end."""
    PRINT_ONCE = enum.auto()
    """`-Q`: only tell the offset, then end."""


def starting_mode(config: Config, asked: ReferenceMode, *, restarted: bool) -> ReferenceMode:
    """The mode a daemon starts in; `asked` by its options, `restarted` is `-R`, which leaves `initstepslew` out."""
    if asked is ReferenceMode.NORMAL and not restarted and config.initstepslew is not None:
        return ReferenceMode.INITSTEPSLEW if config.initstepslew.servers else ReferenceMode.NORMAL
    return asked


@dataclass(frozen=True, slots=True)
class ReferenceOptions:
    """The directives that rule the discipline."""

    corrtimeratio: float = 3.0
    driftfile_interval_s: float = 3600.0
    fallbackdrift: FallbackDrift | None = None
    initstepslew_threshold_s: float = 0.0
    leapsecmode: LeapSecMode = LeapSecMode.SYSTEM
    local: LocalOptions | None = None
    logchange_s: float = 1.0
    mailonchange_s: float | None = None
    makestep: MakeStep = NO_STEPS
    maxchange: MaxChange | None = None
    maxupdateskew_ppm: float = 1000.0
    smoothtime: SmoothTime | None = None

    @classmethod
    def from_config(cls, config: Config, *, restarted: bool = False) -> ReferenceOptions:
        """The options of a configuration; `restarted` (`-R`): the initial steps were made before."""
        makestep = config.makestep
        if restarted and makestep.limit > 0:
            makestep = MakeStep(makestep.threshold_s, 0)
        return cls(
            corrtimeratio=config.corrtimeratio,
            driftfile_interval_s=config.driftfile.interval_s if config.driftfile else math.inf,
            fallbackdrift=config.fallbackdrift,
            initstepslew_threshold_s=config.initstepslew.threshold_s if config.initstepslew else 0.0,
            leapsecmode=config.leapsecmode,
            local=config.local,
            logchange_s=config.logchange_s,
            mailonchange_s=config.mailonchange.threshold_s if config.mailonchange else None,
            makestep=makestep,
            maxchange=config.maxchange,
            maxupdateskew_ppm=config.maxupdateskew_ppm,
            smoothtime=config.smoothtime,
        )


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the reference tells things; every one may be left out."""

    on_publish: Callable[[ServedReference], None] | None = None
    tracking_log: Callable[[TrackingRecord], None] | None = None
    mail: Callable[[float], None] | None = None
    """Called with the offset of a change above `mailonchange`, s."""
    terminate: Callable[[], None] | None = None
    """`maxchange` wants the daemon to end with an error."""
    on_mode_end: Callable[[bool], None] | None = None
    """A special mode is over; False: without a measurement."""


@dataclass(frozen=True, slots=True)
class TrackingReport:
    """What `tracking` shows."""

    served: Served
    address: IPv4Address | IPv6Address | None
    correction_s: float
    last_offset_s: float
    rms_offset_s: float
    frequency_ppm: float
    residual_ppm: float
    skew_ppm: float
    last_update_interval_s: float
