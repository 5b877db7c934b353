"""The rows of the reports about sources: what `sources`, `sourcestats`, `selectdata` and `activity` show of each."""

from __future__ import annotations

import enum

from ntpd_fast._record import dataclass
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.selection import SelectReport
from ntpd_fast.client.source import SourceState
from ntpd_fast.client.sourcestats import SourceReport, StatsReport


class SourceMode(enum.IntEnum):
    """Kind of a source in reports."""

    CLIENT = 0
    PEER = 1
    REFCLOCK = 2


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A `sources` line."""

    mode: SourceMode
    address: IPAddress | None
    number: int
    """Placeholder of an NTP source without address."""
    refid: int
    poll: int
    stratum: int
    state: SourceState
    reach: int
    sample: SourceReport | None
    """The newest sample."""


@dataclass(frozen=True, slots=True)
class StatsRow:
    """A `sourcestats` line."""

    mode: SourceMode
    address: IPAddress | None
    refid: int
    stats: StatsReport


@dataclass(frozen=True, slots=True)
class SelectRow:
    """A `selectdata` line."""

    mode: SourceMode
    address: IPAddress | None
    refid: int
    report: SelectReport


@dataclass(frozen=True, slots=True)
class ActivityReport:
    """How many NTP sources are in which state."""

    online: int
    offline: int
    burst_online: int
    burst_offline: int
    unresolved: int
