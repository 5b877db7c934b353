"""Selection: which sources agree, which of them is followed, and what they say together.

Sources are gated one by one, the rest vote with their intervals of possible offsets (the intersection algorithm
of RFC 5905 §11.2.1, extended by trust), the best of the survivors is kept until another has clearly been
better for a while, and those about as good are averaged with it. Each source is left with the state that says
how far it came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from ntpd_fast._record import dataclass, fields, replace
from ntpd_fast.client.selectionevents import SelectionEvent, SelectionEventKind
from ntpd_fast.client.source import (
    BAD_STATES,
    INITIAL_SCORE,
    REACH_BITS,
    SelectableSource,
    SelectOption,
    SourceKind,
    SourceState,
)
from ntpd_fast.client.sourcestats import SelectionData, TrackingData
from ntpd_fast.client.stamps import diff_s
from ntpd_fast.clock.driver import Leap
from ntpd_fast.config.model import AuthSelectMode, Config, IPAddress

SCORE_LIMIT = 10.0
"""How often the selected source must have been worse by its distance before another is taken."""

DISTANT_UPDATES = 32
DISTANT_UPDATES_NEW = 1
BAD_UPDATES_REPORTED = 4
NO_ORPHAN_STRATUM = 16


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """Directives of source selection."""

    auth_mode: AuthSelectMode = AuthSelectMode.MIX
    combine_limit: float = 3.0
    max_distance_s: float = 3.0
    max_jitter_s: float = 1.0
    min_stratum: int = 0
    max_stratum: int = 15
    min_sources: int = 1
    reselect_distance_s: float = 1e-4
    stratum_weight_s: float = 1e-3
    orphan_stratum: int = NO_ORPHAN_STRATUM
    """Stratum of the `local` directive with `orphan`, else 16."""
    max_clock_error: float = 1e-6
    """Assumed error of our own frequency, s/s."""

    @classmethod
    def from_config(cls, config: Config) -> SelectionOptions:
        """The options that a configuration asks for."""
        local = config.local
        return cls(
            auth_mode=config.authselectmode,
            combine_limit=config.combinelimit,
            max_distance_s=config.maxdistance_s,
            max_jitter_s=config.maxjitter_s,
            min_stratum=config.minstratum,
            max_stratum=config.maxstratum,
            min_sources=config.minsources,
            reselect_distance_s=config.reselectdist_s,
            stratum_weight_s=config.stratumweight_s,
            orphan_stratum=local.stratum if local is not None and local.orphan else NO_ORPHAN_STRATUM,
            max_clock_error=config.maxclockerror_ppm * 1e-6,
        )


@dataclass(frozen=True, slots=True)
class CombinedTracking:
    """What the clock is to be set by: the combined estimate and the properties of the selected source."""

    tracking: TrackingData
    stratum: int
    """Of the source."""
    leap: Leap
    refid: int
    address: IPAddress | None
    combined: int
    """Sources in the estimate."""


class ReferenceSink(Protocol):
    """What receives the result (`clock.reference.Reference`)."""

    def update(self, update: CombinedTracking, /) -> None:
        """Set the clock by an estimate."""

    def set_unsynchronised(self) -> None:
        """The sources contradict each other."""


@dataclass(frozen=True, slots=True)
class SelectReport:
    """A `selectdata` line."""

    state: SourceState
    authenticated: bool
    leap: Leap
    configured_options: SelectOption
    options: SelectOption
    last_sample_ago_s: float
    score: float
    offset_lo_s: float
    offset_hi_s: float


class Selector:
    """Chooses among its sources and hands the result to a reference."""

    def __init__(
        self,
        options: SelectionOptions,
        reference: ReferenceSink,
        emit: Callable[[SelectionEvent], None],
        on_bad_source: Callable[[SelectableSource], None],
    ) -> None:
        """`on_bad_source` hears of a source that stayed in a bad state for 4 of its updates in a row."""
        self.options = options
        self.quiet = False
        """Says nothing (one-shot runs and the initial correction)."""
        self._reference = reference
        self._emit_event = emit
        self._on_bad_source = on_bad_source
        self._sources: list[SelectableSource] = []
        self._selected: SelectableSource | None = None
        # a source was followed at the last selection that could follow one
        self._following = False
        self._loss_reported = False
        self._options_stale = False
        """Sources have come or gone since the effective options were worked out."""

    @property
    def sources(self) -> Sequence[SelectableSource]:
        """All sources, in the order they were added."""
        return self._sources

    @property
    def selected(self) -> SelectableSource | None:
        """The source that is followed."""
        return self._selected

    def add(self, source: SelectableSource) -> None:
        """Let a source take part."""
        self._sources.append(source)
        self._options_stale = True

    def remove(self, source: SelectableSource, now_ns: int) -> None:
        """Forget a source and select again."""
        self.remove_all([source], now_ns)

    def remove_all(self, sources: Sequence[SelectableSource], now_ns: int) -> None:
        """Forget several sources and select again, once."""
        gone = {id(source) for source in sources}
        self._sources = [source for source in self._sources if id(source) not in gone]
        self._options_stale = True
        if self._selected is not None and id(self._selected) in gone:
            self._selected = None
        self.select(now_ns)

    def reset_source(self, source: SelectableSource, now_ns: int) -> None:
        """Forget what is known of a source; select again if it was followed."""
        source.reset()
        if self._selected is source:
            self._selected = None
            self.select(now_ns)

    def reselect(self, now_ns: int) -> None:
        """Choose as if nothing had been followed before; takes effect with the next measurement."""
        self._selected = None
        self.select(now_ns)

    def set_reselect_distance(self, distance_s: float) -> None:
        """Change the distance that a source which is not selected is charged."""
        self.options = replace(self.options, reselect_distance_s=distance_s)

    def set_options(self, old: SelectionOptions, new: SelectionOptions) -> None:
        """Follow a changed configuration: what commands have set stays unless its directive changed."""
        changed = {
            field.name: getattr(new, field.name)
            for field in fields(SelectionOptions)
            if getattr(old, field.name) != getattr(new, field.name)
        }
        self.options = replace(self.options, **changed)
        self._options_stale = True

    def set_orphan_stratum(self, stratum: int) -> None:
        """Change the stratum of orphans (the `local` command)."""
        self.options = replace(self.options, orphan_stratum=stratum)

    def apply_auth_mode(self) -> None:
        """Work out the effective options; called when configured options have changed.

        When sources come or go it waits for the next selection or report: thousands may come together.
        """
        self._options_stale = False
        counted = [
            source
            for source in self._sources
            if source.kind is SourceKind.NTP and not source.configured_options & SelectOption.NOSELECT
        ]
        authenticated = any(source.authenticated for source in counted)
        unauthenticated = any(not source.authenticated for source in counted)
        mode = self.options.auth_mode
        for source in self._sources:
            options = source.configured_options
            trusted = source.kind is SourceKind.REFCLOCK or source.authenticated
            if options & SelectOption.NOSELECT or mode is AuthSelectMode.IGNORE:
                pass
            elif mode is AuthSelectMode.MIX:
                if authenticated and unauthenticated and trusted:
                    options |= SelectOption.REQUIRE | SelectOption.TRUST
            elif not trusted and (authenticated or mode is AuthSelectMode.REQUIRE):
                options |= SelectOption.NOSELECT
            source.options = options

    def report(self, source: SelectableSource) -> SelectReport:
        """The `selectdata` line of a source, as of the last selection."""
        if self._options_stale:
            self.apply_auth_mode()
        data = source.data
        return SelectReport(
            state=source.state,
            authenticated=source.authenticated,
            leap=source.leap,
            configured_options=source.configured_options,
            options=source.options,
            last_sample_ago_s=data.last_sample_ago_s if data is not None else 0.0,
            score=source.score,
            offset_lo_s=source.offset_lo_s,
            offset_hi_s=source.offset_hi_s,
        )

    def select(self, now_ns: int, updated: SelectableSource | None = None) -> None:
        """Judge all sources at a cooked time; `updated` has just got a sample."""
        if updated is not None:
            updated.updates += 1
        self._select(now_ns, updated)
        if updated is not None:
            self._count_bad_updates(updated)

    def _select(self, now_ns: int, updated: SelectableSource | None) -> None:
        if self._options_stale:
            self.apply_auth_mode()
        if not self._sources:
            self._lose(SelectionEvent(SelectionEventKind.NO_SOURCES))
            return
        candidates = self._gate(now_ns)
        if self._must_wait_for_stats(candidates):
            for source in candidates:
                source.state = SourceState.WAITS_STATS
            return
        if not candidates:
            candidates = self._orphan_parent()
        if not candidates:
            unreachable = sum(not source.reachable for source in self._sources)
            self._lose(SelectionEvent(SelectionEventKind.NO_SELECTABLE_SOURCES, count=unreachable))
            return
        survivors = self._intersect(candidates)
        if survivors is None:
            return
        if self._enough(survivors):
            self._follow(survivors, updated)
        for source in candidates:
            if source.state is SourceState.FALSETICKER:
                self._report_once(source, SelectionEvent(SelectionEventKind.FALSETICKER, source=source))

    def _follow(self, survivors: list[SelectableSource], updated: SelectableSource | None) -> None:
        """Choose among the survivors and set the clock."""
        leap = _vote_on_leap(survivors)
        preferred = [source for source in survivors if source.prefer]
        if preferred:
            for source in survivors:
                source.state = SourceState.NONPREFERRED
            survivors = preferred
        selected = self._choose(survivors, updated)
        if selected is None:
            return
        self._mark(selected, survivors)
        if not selected.updates:
            return
        for source in self._sources:
            source.updates = 0
        self._reference.update(self._combine(selected, survivors, leap))

    def _gate(self, now_ns: int) -> list[SelectableSource]:
        """Judge each source by itself; return those that may vote."""
        passed = []
        for source in self._sources:
            state = self._judge(source, now_ns)
            if state is None:
                passed.append(source)
            else:
                source.state = state
        # an unreachable source may serve as long as its samples reach no further back than those of the others
        horizon_s = max((_data(source).first_sample_ago_s for source in passed if source.reachable), default=-math.inf)
        candidates = []
        for source in passed:
            if not source.reachable and (
                _data(source).last_sample_ago_s > horizon_s or source.unreached_updates > source.max_unreach
            ):
                source.state = SourceState.STALE
            elif source.kind is SourceKind.NTP and source.stratum >= self.options.orphan_stratum:
                source.state = SourceState.ORPHAN
            else:
                candidates.append(source)
        return candidates

    def _judge(self, source: SelectableSource, now_ns: int) -> SourceState | None:
        """The first gate that stops a source, of those that need no other source; None: passed."""
        options = self.options
        if not source.stats.n_samples:
            source.data = None
            source.offset_lo_s = source.offset_hi_s = 0.0
        else:
            data = source.stats.selection_data(now_ns, options.max_jitter_s)
            # the interval also has to hold what our clock may have drifted since the source went quiet
            extra_s = options.max_clock_error * max(0.0, 2.0 * data.last_sample_ago_s - data.first_sample_ago_s)
            source.data = data
            source.offset_lo_s = data.offset_lo_s - extra_s
            source.offset_hi_s = data.offset_hi_s + extra_s
            source.distance_s = data.root_distance_s + extra_s
        if source.noselect:
            return SourceState.UNSELECTABLE
        if source.data is None or not source.data.available:
            return SourceState.BAD_STATS
        if source.leap is Leap.UNSYNCHRONISED:
            return SourceState.UNSYNCHRONISED
        if not options.min_stratum <= source.stratum <= options.max_stratum:
            return SourceState.BAD_STRATUM
        if not (source.distance_s <= options.max_distance_s and source.offset_lo_s <= source.offset_hi_s):
            return SourceState.BAD_DISTANCE
        if source.data.std_dev_s > options.max_jitter_s:
            return SourceState.JITTERY
        return None

    def _must_wait_for_stats(self, candidates: list[SelectableSource]) -> bool:
        """At start: whether sources that are one answer behind the first ones should be waited for."""
        if self._selected is not None or not candidates:
            return False
        # the candidates still have the state of the selection before
        voting = set(candidates)
        behind = [source for source in self._sources if source.state is SourceState.BAD_STATS and source not in voting]
        if not behind or max(source.reach_size for source in candidates) >= REACH_BITS:
            return False
        return max(source.reach for source in candidates) >> 1 == max(source.reach for source in behind)

    def _orphan_parent(self) -> list[SelectableSource]:
        """The orphan that everybody in the group follows, unless that is ourselves."""
        orphans = [
            source
            for source in self._sources
            if source.state is SourceState.ORPHAN and source.stratum == self.options.orphan_stratum and source.reachable
        ]
        if not orphans:
            return []
        parent = min(orphans, key=lambda source: source.refid)
        if parent.local_refid is None or parent.refid >= parent.local_refid:
            return []
        return [parent]

    def _intersect(self, candidates: list[SelectableSource]) -> list[SelectableSource] | None:
        """Find the interval that most agree on; return who shares it, None if there is no majority."""
        best, best_trust, interval, trusted_interval = _sweep(candidates)
        if best_trust:
            agreeing = best_trust
            voters = sum(source.trust for source in candidates)
        else:
            agreeing = best
            voters = len(candidates)
        if agreeing <= voters // 2:
            for source in candidates:
                source.state = SourceState.FALSETICKER
            self._lose(
                SelectionEvent(SelectionEventKind.NO_MAJORITY, count=agreeing, total=voters, trusted=best_trust > 0),
                unsynchronise=True,
            )
            return None
        lo, hi = interval
        trusted_lo, trusted_hi = trusted_interval
        survivors = []
        for source in candidates:
            contains = source.offset_lo_s <= lo and source.offset_hi_s >= hi
            contained = source.offset_lo_s >= lo and source.offset_hi_s <= hi
            if not contains and not contained:
                source.state = SourceState.FALSETICKER
            elif (
                best_trust
                and not source.trust
                and not (source.offset_lo_s >= trusted_lo and source.offset_hi_s <= trusted_hi)
            ):
                source.state = SourceState.UNTRUSTED
            else:
                survivors.append(source)
        return survivors

    def _enough(self, survivors: list[SelectableSource]) -> bool:
        """Whether the survivors may set the clock; says why not."""
        required = any(source.require for source in self._sources)
        if survivors and required and not any(source.require for source in survivors):
            kind = SelectionEventKind.NO_REQUIRED_SOURCE
        elif not survivors or len(survivors) < self.options.min_sources:
            kind = SelectionEventKind.NOT_ENOUGH_SOURCES
        else:
            return True
        for source in survivors:
            source.state = SourceState.WAITS_SOURCES
        self._lose(SelectionEvent(kind))
        return False

    def _choose(self, survivors: list[SelectableSource], updated: SelectableSource | None) -> SelectableSource | None:
        """Keep or change the selected source; None while the new one has nothing new to say."""
        lowest_stratum = min(source.stratum for source in survivors)
        selected = self._selected if self._selected in survivors else None
        self._score(survivors, selected, updated, lowest_stratum)
        best = max(survivors, key=lambda source: source.score)
        if selected is not None and (best is selected or best.score <= SCORE_LIMIT):
            return selected
        if not best.updates:
            for source in survivors:
                source.state = SourceState.WAITS_UPDATE
            return None
        self._selected = best
        self._following = True
        self._loss_reported = False
        for source in self._sources:
            source.score = INITIAL_SCORE
            source.distant = 0
            source.reported_states.clear()
        self._emit(SelectionEvent(SelectionEventKind.SELECTED, source=best))
        return best

    def _score(
        self,
        survivors: list[SelectableSource],
        selected: SelectableSource | None,
        updated: SelectableSource | None,
        lowest_stratum: int,
    ) -> None:
        weight = self.options.stratum_weight_s
        if selected is not None:
            selected_distance_s = selected.distance_s + (selected.stratum - lowest_stratum) * weight
        surviving = set(survivors)
        for source in self._sources:
            if source not in surviving:
                source.score = INITIAL_SCORE
                source.distant = DISTANT_UPDATES
                continue
            distance_s = source.distance_s + (source.stratum - lowest_stratum) * weight
            if source.kind is SourceKind.NTP:
                distance_s += self.options.reselect_distance_s
            if selected is None:
                source.score = 1.0 / distance_s
            elif updated is source or updated is selected:
                source.score = max(INITIAL_SCORE, source.score * selected_distance_s / distance_s)

    def _mark(self, selected: SelectableSource, survivors: list[SelectableSource]) -> None:
        """Final states of the survivors; keeps count of who is too far away to be combined."""
        reference_s = selected.distance_s
        if selected.kind is SourceKind.NTP:
            reference_s += self.options.reselect_distance_s
        limit = self.options.combine_limit
        for source in survivors:
            if selected.updates and source is not selected:
                skews = selected.stats.skew + source.stats.skew + self.options.max_clock_error
                apart = abs(selected.stats.frequency - source.stats.frequency)
                if source.distance_s > limit * reference_s or apart > limit * skews:
                    settled = source.reach_size >= REACH_BITS
                    source.distant = DISTANT_UPDATES if settled else DISTANT_UPDATES_NEW
                elif source.distant:
                    source.distant -= 1
            source.state = SourceState.DISTANT if source.distant else SourceState.COMBINED
        selected.state = SourceState.SELECTED
        selected.distant = 0

    def _combine(self, selected: SelectableSource, survivors: list[SelectableSource], leap: Leap) -> CombinedTracking:
        combined = [
            source
            for source in survivors
            if source.state is SourceState.COMBINED or source.state is SourceState.SELECTED
        ]
        tracking = selected.stats.tracking_data()
        if len(combined) > 1:
            tracking = _combine_tracking(
                tracking, [(source.stats.tracking_data(), source.distance_s) for source in combined]
            )
        return CombinedTracking(tracking, selected.stratum, leap, selected.refid, selected.address, len(combined))

    def _count_bad_updates(self, source: SelectableSource) -> None:
        """Notice a source that stays useless through several of its own updates."""
        if source.state not in BAD_STATES:
            source.bad_updates = 0
            return
        source.bad_updates += 1
        if source.bad_updates != BAD_UPDATES_REPORTED:
            return
        source.bad_updates = 0
        options = self.options
        kind: SelectionEventKind | None
        if source.state is SourceState.BAD_DISTANCE:
            kind, limit = SelectionEventKind.DISTANCE_EXCEEDED, options.max_distance_s
        elif source.state is SourceState.JITTERY:
            kind, limit = SelectionEventKind.JITTER_EXCEEDED, options.max_jitter_s
        elif source.state is SourceState.BAD_STRATUM and source.stratum < options.min_stratum:
            kind, limit = SelectionEventKind.STRATUM_TOO_LOW, options.min_stratum
        elif source.state is SourceState.BAD_STRATUM:
            kind, limit = SelectionEventKind.STRATUM_TOO_HIGH, options.max_stratum
        else:
            kind = None
        if kind is not None:
            self._report_once(source, SelectionEvent(kind, source=source, limit=limit))
        self._on_bad_source(source)

    def _report_once(self, source: SelectableSource, event: SelectionEvent) -> None:
        if source.state not in source.reported_states:
            source.reported_states.add(source.state)
            self._emit(event)

    def _lose(self, event: SelectionEvent, *, unsynchronise: bool = False) -> None:
        """Nothing is followed any more; say so once."""
        lost, self._following = self._following, False
        self._selected = None
        if lost and unsynchronise:
            self._reference.set_unsynchronised()
        settled = all(source.reach_size >= REACH_BITS for source in self._sources)
        if not self._loss_reported and (lost or (settled and self._sources)):
            self._loss_reported = True
            self._emit(event)

    def _emit(self, event: SelectionEvent) -> None:
        if not self.quiet:
            self._emit_event(event)


Interval = tuple[float, float]


def _sweep(candidates: list[SelectableSource]) -> tuple[int, int, Interval, Interval]:
    """Walk over the ends of all intervals.

    Returns the greatest number of overlapping intervals and of trusted ones, the interval where the greatest
    overlap is, and the one that the trusted sources span.
    """
    endpoints = sorted(
        [
            *((source.offset_lo_s, 0, source.trust) for source in candidates),
            *((source.offset_hi_s, 1, source.trust) for source in candidates),
        ]
    )
    depth = trust = best = best_trust = 0
    lo = hi = trusted_lo = trusted_hi = 0.0
    for offset_s, is_end, trusted in endpoints:
        if not is_end:
            depth += 1
            trust += trusted
            grew = trust > best_trust
            if grew:
                best_trust = trust
                trusted_lo = offset_s
            if grew or (trust == best_trust and depth > best):
                best = depth
                lo = offset_s
        else:
            if trust == best_trust:
                if depth == best:
                    hi = offset_s
                trusted_hi = offset_s
            depth -= 1
            trust -= trusted
    return best, best_trust, (lo, hi), (trusted_lo, trusted_hi)


def _combine_tracking(selected: TrackingData, members: list[tuple[TrackingData, float]]) -> TrackingData:
    """Average the estimates of several sources (with their distances) at the selected one's time."""
    offset_weight = offset_sum = variance_sum = 0.0
    frequency_weight = frequency_sum = skew_weight = 0.0
    for member, distance_s in members:
        elapsed_s = diff_s(selected.ref_time_ns, member.ref_time_ns)
        offset_s = member.offset_s + elapsed_s * member.frequency
        offset_sd_s = member.offset_sd_s + elapsed_s * member.frequency_sd
        weight = 1.0 / distance_s
        offset_weight += weight
        offset_sum += weight * offset_s
        variance_sum += weight * (offset_sd_s**2 + (offset_s - selected.offset_s) ** 2)
        weight = 1.0 / member.frequency_sd**2
        frequency_weight += weight
        frequency_sum += weight * member.frequency
        skew_weight += 1.0 / member.skew**2
    return replace(
        selected,
        offset_s=offset_sum / offset_weight,
        offset_sd_s=math.sqrt(variance_sum / offset_weight),
        frequency=frequency_sum / frequency_weight,
        frequency_sd=frequency_weight**-0.5,
        skew=skew_weight**-0.5,
        span_s=min(member.span_s for member, _ in members),
    )


def _vote_on_leap(survivors: list[SelectableSource]) -> Leap:
    """The leap status that more than half of the voters tell; only trusted ones vote if there are any."""
    trusted = [source for source in survivors if source.trust]
    votes = [source.leap for source in trusted or survivors]
    for leap in (Leap.INSERT, Leap.DELETE):
        if 2 * votes.count(leap) > len(votes):
            return leap
    return Leap.NORMAL


def _data(source: SelectableSource) -> SelectionData:
    """Selection data of a source that has passed the first gates."""
    assert source.data is not None
    return source.data
