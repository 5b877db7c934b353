"""What selection has to say, as values; a row of the table tells how each is worded for the log."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from ntpd_fast._record import dataclass
from ntpd_fast.client.source import SelectableSource
from ntpd_fast.system.messages import Severity


class SelectionEventKind(enum.Enum):
    """What happened."""

    SELECTED = enum.auto()
    FALSETICKER = enum.auto()
    NO_SOURCES = enum.auto()
    NO_SELECTABLE_SOURCES = enum.auto()
    NO_MAJORITY = enum.auto()
    NO_REQUIRED_SOURCE = enum.auto()
    NOT_ENOUGH_SOURCES = enum.auto()
    DISTANCE_EXCEEDED = enum.auto()
    JITTER_EXCEEDED = enum.auto()
    STRATUM_TOO_LOW = enum.auto()
    STRATUM_TOO_HIGH = enum.auto()


@dataclass(frozen=True, slots=True)
class SelectionEvent:
    """One message; which fields count depends on the kind."""

    kind: SelectionEventKind
    source: SelectableSource | None = None
    count: int = 0
    total: int = 0
    trusted: bool = False
    limit: float = 0.0

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return _WORDING[self.kind][0]

    @property
    def text(self) -> str:
        """The log line."""
        return _WORDING[self.kind][1](self)


def _label(event: SelectionEvent) -> str:
    assert event.source is not None
    return event.source.label


def _no_majority(event: SelectionEvent) -> str:
    sources = "trusted sources" if event.trusted else "sources"
    if event.count < 2:
        detail = f"no agreement among {event.total} {sources}"
    else:
        detail = f"only {event.count} of {event.total} {sources} agree"
    return f"Can't synchronise: no majority ({detail})"


_WORDING: Mapping[SelectionEventKind, tuple[Severity, Callable[[SelectionEvent], str]]] = {
    SelectionEventKind.SELECTED: (Severity.INFO, lambda e: f"Selected source {_label(e)}"),
    SelectionEventKind.FALSETICKER: (Severity.WARNING, lambda e: f"Detected falseticker {_label(e)}"),
    SelectionEventKind.NO_SOURCES: (Severity.WARNING, lambda e: "Can't synchronise: no sources"),
    SelectionEventKind.NO_SELECTABLE_SOURCES: (
        Severity.WARNING,
        lambda e: f"Can't synchronise: no selectable sources ({e.count} unreachable sources)",
    ),
    SelectionEventKind.NO_MAJORITY: (Severity.WARNING, _no_majority),
    SelectionEventKind.NO_REQUIRED_SOURCE: (
        Severity.WARNING,
        lambda e: "Can't synchronise: no required source in selectable sources",
    ),
    SelectionEventKind.NOT_ENOUGH_SOURCES: (
        Severity.WARNING,
        lambda e: "Can't synchronise: not enough selectable sources",
    ),
    SelectionEventKind.DISTANCE_EXCEEDED: (
        Severity.WARNING,
        lambda e: f"Root distance of {_label(e)} exceeds maxdistance of {e.limit:.3f} seconds",
    ),
    SelectionEventKind.JITTER_EXCEEDED: (
        Severity.WARNING,
        lambda e: f"Jitter of {_label(e)} exceeds maxjitter of {e.limit:.3f} seconds",
    ),
    SelectionEventKind.STRATUM_TOO_LOW: (
        Severity.WARNING,
        lambda e: f"Stratum of {_label(e)} below minstratum of {e.limit:.0f}",
    ),
    SelectionEventKind.STRATUM_TOO_HIGH: (
        Severity.WARNING,
        lambda e: f"Stratum of {_label(e)} above maxstratum of {e.limit:.0f}",
    ),
}
