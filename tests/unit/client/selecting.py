"""A selector with sources made to order."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.selection import CombinedTracking, SelectionOptions, Selector
from ntpd_fast.client.selectionevents import SelectionEvent
from ntpd_fast.client.source import SelectableSource, SelectOption, SourceKind
from ntpd_fast.client.sourcestats import SourceStats, StatsOptions
from ntpd_fast.clock.driver import Leap

S = 1_000_000_000
BASE = 1_700_000_000 * S
INTERVAL_S = 16
PLAIN = SelectOption.NONE


class Reference:
    """Keeps what selection says."""

    def __init__(self) -> None:
        self.updates: list[CombinedTracking] = []
        self.lost = 0

    def update(self, update: CombinedTracking, /) -> None:
        self.updates.append(update)

    def set_unsynchronised(self) -> None:
        self.lost += 1


class Bench:
    """A selector with sources that are fed by hand."""

    def __init__(self, options: SelectionOptions | None = None) -> None:
        self.reference = Reference()
        self.events: list[SelectionEvent] = []
        self.bad: list[SelectableSource] = []
        self.selector = Selector(options or SelectionOptions(), self.reference, self.events.append, self.bad.append)
        self.t = 0

    def add(
        self,
        offset_s: float = 0.0,
        *,
        distance_s: float = 1e-3,
        stratum: int = 2,
        n: int = 8,
        noise_s: float = 0.0,
        frequency: float = 0.0,
        leap: Leap = Leap.NORMAL,
        options: SelectOption = PLAIN,
        authenticated: bool = False,
        kind: SourceKind = SourceKind.NTP,
        max_samples: int = 64,
        max_unreach: int = 100000,
    ) -> SelectableSource:
        number = len(self.selector.sources) + 1
        stats = SourceStats(StatsOptions(min(6, max_samples), max_samples, asymmetry=0.0), 1e-9)
        source = SelectableSource(
            kind,
            stats,
            refid=number,
            address=IPv4Address(f"192.0.2.{number}") if kind is SourceKind.NTP else None,
            options=options,
            authenticated=authenticated,
            max_unreach=max_unreach,
        )
        self.selector.add(source)
        source.set_status(stratum, leap)
        rng = random.Random(number)
        for i in range(n):
            self.feed(source, self.t - (n - i) * INTERVAL_S, offset_s, distance_s, noise_s, frequency, rng)
        return source

    def feed(
        self,
        source: SelectableSource,
        t: int,
        offset_s: float = 0.0,
        distance_s: float = 1e-3,
        noise_s: float = 0.0,
        frequency: float = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        noise = (rng or random.Random(t)).gauss(0.0, noise_s) if noise_s else 0.0
        source.update_reachability(True)
        source.accumulate(
            Sample(BASE + t * S, -(offset_s + frequency * t + noise), 1e-6, 1e-9, distance_s, distance_s / 2)
        )

    @property
    def now_ns(self) -> int:
        return BASE + self.t * S

    def select(self, updated: SelectableSource | None = None) -> str:
        """Select after a sample of a source (default: each of them in turn); returns all state letters."""
        for source in [updated] if updated is not None else list(self.selector.sources):
            self.selector.select(self.now_ns, source)
        return self.letters

    @property
    def letters(self) -> str:
        return "".join(source.state.value for source in self.selector.sources)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events]
