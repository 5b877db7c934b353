"""What the command handlers need of the daemon, cut into protocols by subject.

The control process implements them; a subject that is not there (None in `Backends`) answers with the status
the field expects of a daemon without it. Methods hand in the reply types of `codec.replies`, which document
units and signs. A request that cannot be served raises `CommandFailed` with its status; anything else raised
is a bug of ours. Values come checked and clamped: a back end never sees a subnet of 200 bits.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.config.model import AccessRule, LocalOptions, MakeStep, SourceConfig

from .codec.address import Address
from .codec.commands import Status
from .codec.replies import (
    Activity,
    AuthData,
    ClientAccesses,
    Faults,
    ManualSample,
    ManualTimestamp,
    NtpData,
    ReloadState,
    RtcData,
    SelectData,
    ServerStats,
    Smoothing,
    SourceData,
    SourceStats,
    Tracking,
)

IPAddress = IPv4Address | IPv6Address


class CommandFailed(Exception):
    """The request cannot be served; `status` is what the client is told."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class SourceMatch(NamedTuple):
    """Which NTP sources a command means: all of them when `address` has no family, else those whose address
    is `address` under `mask` (exactly `address` when the mask is of another family, or for an ID)."""

    address: Address
    mask: Address

    def covers(self, source: Address) -> bool:
        if not self.address.packed:
            return True
        if source.family != self.address.family:
            return False
        if not source.is_ip or self.mask.family != source.family:
            return source == self.address
        mask = self.mask.number
        return source.number & mask == self.address.number & mask


class TrackingReports(Protocol):
    def tracking(self) -> Tracking: ...


class ServerStatistics(Protocol):
    def server_stats(self) -> ServerStats: ...


class FaultReports(Protocol):
    def faults(self) -> Faults: ...


class SourceReports(Protocol):
    """Reports on sources. Indices run over reference clocks and NTP sources, 0 <= index < `source_count()`.

    Those that take an address (IP or ID#) raise CommandFailed(NO_SUCH_SOURCE) for one that is no NTP source.
    """

    def source_count(self) -> int: ...
    def source_data(self, index: int) -> SourceData: ...
    def source_stats(self, index: int) -> SourceStats: ...
    def select_data(self, index: int) -> SelectData: ...
    def ntp_data(self, address: Address) -> NtpData: ...
    def auth_data(self, address: Address) -> AuthData: ...

    def source_name(self, address: Address) -> str:
        """As configured."""
        ...

    def activity(self) -> Activity: ...


class SourceControl(Protocol):
    """Changes of sources.

    Methods taking an address raise CommandFailed(NO_SUCH_SOURCE) when it is no source; those taking a match
    return whether any source matched.
    """

    def set_online(self, match: SourceMatch) -> bool:
        """Also tries to resolve names that have no address yet."""
        ...

    def set_offline(self, match: SourceMatch) -> bool: ...

    def burst(self, match: SourceMatch, n_good: int, n_total: int) -> bool:
        """A burst of at most `n_total` measurements, ending early after `n_good` good ones. Peers count as
        matched but do not burst; a burst that runs is not started again."""
        ...

    def online_by_route(self) -> None:
        """`onoffline`: every source with an address on or off by whether there is a route to it."""
        ...

    def set_minpoll(self, address: Address, minpoll: int | None) -> None:
        """log2 s, -7..24; None (out of range) changes nothing. Raises maxpoll if needed."""
        ...

    def set_maxpoll(self, address: Address, maxpoll: int | None) -> None:
        """log2 s, -7..24; None (out of range) changes nothing. Lowers minpoll if needed."""
        ...

    def set_maxdelay_s(self, address: Address, maxdelay_s: float) -> None: ...
    def set_maxdelayratio(self, address: Address, ratio: float) -> None: ...
    def set_maxdelaydevratio(self, address: Address, ratio: float) -> None: ...
    def set_minstratum(self, address: Address, stratum: int) -> None: ...
    def set_polltarget(self, address: Address, samples: int) -> None: ...

    def set_offset_s(self, address: Address, offset_s: float) -> None:
        """Correction of an NTP source."""
        ...

    def set_refclock_offset_s(self, ref_id: int, offset_s: float) -> None: ...

    def modify_select_options(self, address: Address, mask: int, options: int) -> None:
        """New configured options of an NTP source: (old & ~mask) | options; bits of `requests.SelectOption`."""
        ...

    def modify_refclock_select_options(self, ref_id: int, mask: int, options: int) -> None: ...

    def add_source(self, source: SourceConfig) -> None:
        """Raises CommandFailed with SOURCE_ALREADY_KNOWN or TOO_MANY_SOURCES. A name that does not resolve yet
        is accepted and tried again."""
        ...

    def delete_source(self, address: Address) -> None: ...
    def refresh(self) -> None: ...
    def reload_sources(self) -> None: ...
    def reset_sources(self) -> None: ...
    def reselect(self) -> None: ...
    def set_reselect_distance_s(self, distance_s: float) -> None: ...


class ClockControl(Protocol):
    def make_step(self) -> None:
        """Cancels the remaining slew by a step; CommandFailed(FAILED) when the clock cannot be stepped."""
        ...

    def set_makestep(self, makestep: MakeStep) -> None: ...
    def set_maxupdateskew_ppm(self, skew_ppm: float) -> None: ...

    def adjust_frequency_ppm(self, dfreq_ppm: float) -> None:
        """Positive: the clock gains that much, slow it down."""
        ...

    def accumulate_offset_s(self, offset_s: float) -> None:
        """Positive: the clock is ahead, slew it back. CommandFailed(FAILED) when it cannot be done."""
        ...


class LocalReference(Protocol):
    def set_local(self, options: LocalOptions | None) -> None:
        """None: off."""
        ...


class ManualInput(Protocol):
    def set_enabled(self, enabled: bool) -> None: ...
    def reset(self) -> None: ...

    def settime(self, time_ns: int) -> ManualTimestamp:
        """CommandFailed: NOT_ENABLED when off, FAILED for an insane time or one within 1 s of the last."""
        ...

    def samples(self) -> tuple[ManualSample, ...]:
        """At most 16."""
        ...

    def delete_sample(self, index: int) -> None:
        """CommandFailed(BAD_SAMPLE) when there is none."""
        ...


class SmoothingControl(Protocol):
    def smoothing(self) -> Smoothing: ...
    def reset(self) -> None: ...
    def activate(self) -> None: ...


class RtcControl(Protocol):
    def rtc_data(self) -> RtcData: ...
    def trim(self) -> None: ...

    def write(self) -> None:
        """CommandFailed(BAD_RTC_FILE) when the parameters cannot be written."""
        ...


class AccessControl(Protocol):
    """One access table; there are two, for NTP and for commands."""

    def set_rule(self, rule: AccessRule) -> None: ...
    def is_allowed(self, address: IPAddress) -> bool: ...


class ClientReports(Protocol):
    def client_accesses(self, first_index: int, n_clients_max: int, min_hits: int, reset: bool) -> ClientAccesses:
        """At most `n_clients_max` (<= 8) clients from `first_index` on that have at least `min_hits` hits in one
        of the three services; with `reset` the counters of the examined records are zeroed afterwards."""
        ...


class Lifecycle(Protocol):
    def shutdown(self) -> None:
        """Ask the daemon to end; returns at once, so that the answer still goes out."""
        ...

    def dump(self) -> None: ...
    def cycle_logs(self) -> None: ...
    def rekey(self) -> None: ...

    def reload_config(self) -> ReloadState:
        """Begin to read the configuration again; returns at once, with how many reloads have ended before."""
        ...

    def reload_report(self) -> ReloadState: ...


class CommandLog(Protocol):
    """Account of the requests, and the limit of `cmdratelimit`."""

    def admit(self, address: Address | None, exempt: bool, now_ns: int) -> bool:
        """Count a request; False when it is to be dropped.

        `address` is None on a Unix socket (counted, but no client's record); `exempt` hosts are recorded and
        never limited. `now_ns`: reception, ns since the Unix epoch.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The daemon's parts as the handlers see them; None is a part this daemon does not have."""

    tracking: TrackingReports
    statistics: ServerStatistics
    command_log: CommandLog
    command_access: AccessControl
    sources: SourceReports | None = None
    source_control: SourceControl | None = None
    clock: ClockControl | None = None
    local: LocalReference | None = None
    manual: ManualInput | None = None
    smoothing: SmoothingControl | None = None
    rtc: RtcControl | None = None
    access: AccessControl | None = None
    clients: ClientReports | None = None
    faults: FaultReports | None = None
    lifecycle: Lifecycle | None = None
