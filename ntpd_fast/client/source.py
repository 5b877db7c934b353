"""A source as selection sees it: statistics, reachability, what it says of itself, and how it was judged."""

from __future__ import annotations

import enum
import math

from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.sourcestats import Accumulated, SelectionData, SourceStats
from ntpd_fast.clock.driver import Leap
from ntpd_fast.config.model import MAXUNREACH_DEFAULT, IPAddress

REACH_BITS = 8
INITIAL_SCORE = 1.0


class SourceKind(enum.Enum):
    """What measures."""

    NTP = enum.auto()
    REFCLOCK = enum.auto()


class SelectOption(enum.IntFlag):
    """Selection options; the values are those of the `selectdata` report."""

    NONE = 0
    NOSELECT = 1
    PREFER = 2
    TRUST = 4
    REQUIRE = 8


class SourceState(enum.Enum):
    """How the last selection judged a source; the value is the letter that reports and logs print."""

    UNSELECTABLE = "N"
    BAD_STATS = "M"
    UNSYNCHRONISED = "s"
    BAD_STRATUM = "r"
    BAD_DISTANCE = "d"
    JITTERY = "~"
    STALE = "S"
    ORPHAN = "O"
    WAITS_STATS = "w"
    FALSETICKER = "x"
    UNTRUSTED = "T"
    WAITS_SOURCES = "W"
    NONPREFERRED = "P"
    WAITS_UPDATE = "U"
    DISTANT = "D"
    COMBINED = "+"
    SELECTED = "*"

    @property
    def column(self) -> str:
        """The letter of the state in the `sources` report."""
        return _COLUMNS.get(self, "?")


_COLUMNS = {
    SourceState.SELECTED: "*",
    SourceState.COMBINED: "+",
    SourceState.FALSETICKER: "x",
    SourceState.JITTERY: "~",
    SourceState.WAITS_SOURCES: "-",
    SourceState.NONPREFERRED: "-",
    SourceState.WAITS_UPDATE: "-",
    SourceState.DISTANT: "-",
}

BAD_STATES = frozenset(
    {
        SourceState.FALSETICKER,
        SourceState.BAD_DISTANCE,
        SourceState.BAD_STRATUM,
        SourceState.JITTERY,
    }
)
"""States that make a source worth replacing when they last."""


class SelectableSource:
    """One source in the eyes of `Selector`.

    The measuring side (an association, a reference clock) calls the methods; the attributes below the line
    belong to the selector.
    """

    def __init__(
        self,
        kind: SourceKind,
        stats: SourceStats,
        *,
        refid: int,
        address: IPAddress | None = None,
        name: str = "",
        authenticated: bool = False,
        options: SelectOption = SelectOption.NONE,
        max_unreach: int = MAXUNREACH_DEFAULT,
    ) -> None:
        self.kind = kind
        self.stats = stats
        self.refid = refid
        self.address = address
        self.name = name
        """As configured; empty for a reference clock."""
        self.authenticated = authenticated
        self.configured_options = options
        self.max_unreach = max_unreach
        self.local_refid: int | None = None
        """Reference ID of our address towards the source, once known."""
        self.stratum = 0
        self.leap = Leap.UNSYNCHRONISED
        self.reach = 0
        """The last polls, the newest in bit 0."""
        self.reach_size = 0
        """Polls in the register, up to 8."""
        self.unreached_updates = 0
        """Polls in a row that left the register empty."""

        self.noselect = self.prefer = self.trust = self.require = False
        self.options = options
        self.state = SourceState.BAD_STATS
        self.data: SelectionData | None = None
        self.offset_lo_s = 0.0
        self.offset_hi_s = 0.0
        self.distance_s = math.inf
        self.score = INITIAL_SCORE
        self.updates = 0
        """Samples since the source last took part in an update of the clock."""
        self.distant = 0
        """Updates that the source stays out of the combination."""
        self.bad_updates = 0
        """Own updates in a row that ended in a bad state."""
        self.reported_states: set[SourceState] = set()
        """States that were logged since the last change of the selected source."""

    @property
    def options(self) -> SelectOption:
        """Configured options with what `authselectmode` makes of them; each is an attribute of its own too."""
        return self._options

    @options.setter
    def options(self, options: SelectOption) -> None:
        self._options = options
        self.noselect = SelectOption.NOSELECT in options
        self.prefer = SelectOption.PREFER in options
        self.trust = SelectOption.TRUST in options
        self.require = SelectOption.REQUIRE in options

    @property
    def label(self) -> str:
        """What messages call the source: address, with the name if that differs, or reference ID."""
        if self.kind is SourceKind.REFCLOCK:
            return refid_text(self.refid)
        shown = str(self.address) if self.address is not None else self.name
        return f"{shown} ({self.name})" if self.name and self.name != shown else shown

    @property
    def reachable(self) -> bool:
        """Whether any of the last 8 polls was answered."""
        return self.reach != 0

    def accumulate(self, sample: Sample) -> Accumulated:
        """Add a sample to the statistics."""
        return self.stats.accumulate(sample)

    def set_status(self, stratum: int, leap: Leap) -> None:
        """What the source's last synchronised packet says."""
        self.stratum = stratum
        self.leap = leap

    def update_reachability(self, answered: bool) -> None:
        """Shift one poll into the register."""
        self.reach = (self.reach << 1 | answered) & ((1 << REACH_BITS) - 1)
        self.reach_size = min(self.reach_size + 1, REACH_BITS)
        self.unreached_updates = 0 if self.reach else self.unreached_updates + 1

    def reset_reachability(self) -> None:
        """Forget the polls."""
        self.reach = 0
        self.reach_size = 0
        self.unreached_updates = 0

    def reset(self) -> None:
        """Forget measurements and judgement: another server may be behind the source now."""
        self.stats.reset()
        self.reset_reachability()
        self.stratum = 0
        self.leap = Leap.UNSYNCHRONISED
        self.state = SourceState.BAD_STATS
        self.data = None
        self.offset_lo_s = self.offset_hi_s = 0.0
        self.distance_s = math.inf
        self.score = INITIAL_SCORE
        self.updates = 0
        self.distant = 0
        self.bad_updates = 0
        self.reported_states.clear()


def refid_text(refid: int) -> str:
    """A reference ID of a reference clock as text: its printable ASCII characters."""
    raw = refid.to_bytes(4, "big").rstrip(b"\0")
    return "".join(chr(byte) if 0x21 <= byte < 0x7F else "?" for byte in raw)
