"""All sources of the daemon: NTP servers, peers and reference clocks, in front of one selection.

Adds and removes, tells everybody of changes of the clock, carries out the commands and makes the reports of the
monitoring protocol. Names are someone else's business: sources come with an address or wait for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.association import Association
from ntpd_fast.client.auth import (
    Authenticator,
    AuthMode,
    AuthReport,
    KeyStore,
    NoAuthentication,
    SymmetricAuthenticator,
)
from ntpd_fast.client.connectivity import Connectivity
from ntpd_fast.client.logs import SelectionRecord, StatisticsRecord
from ntpd_fast.client.ntpreport import NtpReport
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.packet import IPAddress, refid_of
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.selection import ReferenceSink, SelectionOptions, Selector
from ntpd_fast.client.selectionevents import SelectionEvent
from ntpd_fast.client.source import SelectableSource, SelectOption, SourceKind, refid_text
from ntpd_fast.client.sourcerows import ActivityReport, SelectRow, SourceMode, SourceRow, StatsRow
from ntpd_fast.client.sourcestats import (
    MIN_SAMPLES_FOR_FIT,
    Accumulated,
    SourceStats,
    StatsOptions,
)
from ntpd_fast.client.stamps import Now, Stamp
from ntpd_fast.client.transport import Transport
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.served import Served
from ntpd_fast.config.model import Config, RefclockConfig, SourceConfig, SourceOptions
from ntpd_fast.config.model import SourceKind as ConfiguredKind
from ntpd_fast.system.era import era_start_s
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import Random

MAX_SOURCES = 65536
ONE_SHOT_POLLS = 7
"""A one-shot run has failed when all its sources were asked so often."""


class OwnReference(ReferenceSink, Protocol):
    """What the sources work for (`clock.reference.Reference`)."""

    @property
    def orphan_stratum(self) -> int:
        """Stratum of orphans, 16 without orphan mode."""

    def params(self, cooked_ns: int) -> Served:
        """What is served at a time."""

    def is_leap_close(self, cooked_ns: int) -> bool:
        """Whether measurements made at a time are to be dropped."""


class AddSourceError(Exception):
    """A source can't be added; the text is the reason as logs give it."""


class AlreadyInUseError(AddSourceError):
    """There is a source with this address."""

    def __init__(self) -> None:
        super().__init__("Already in use")


class TooManySourcesError(AddSourceError):
    """The table of sources is full."""

    def __init__(self) -> None:
        super().__init__("Too many sources")


@dataclass(slots=True)
class DaemonFacts:
    """What the daemon around the sources is doing."""

    serving: bool = False
    """The server ports are open."""
    one_shot: bool = False
    """A run that sets the clock once, or the initial correction."""
    net_corrections: bool = False
    """The network's residence times are known (`ptpport`)."""
    hold_timeout_s: float = 0.0
    """`hwtstimeout` where hardware timestamps are in use, else 0."""


@dataclass(slots=True)
class SourcesHooks:
    """Where the sources tell things; each may be left out."""

    measurements: Callable[[MeasurementRecord], None] | None = None
    statistics: Callable[[StatisticsRecord], None] | None = None
    selection: Callable[[SelectionRecord], None] | None = None
    confirmed: Callable[[NtpSource], None] | None = None
    """A source has given a good response."""
    wants_replacement: Callable[[NtpSource], None] | None = None
    """A source is unreachable or stays useless: another server would be better."""
    added: Callable[[NtpSource], None] | None = None
    """A source was added; it has sent nothing yet."""
    addresses_changed: Callable[[], None] | None = None
    """The set of addresses has changed."""
    selected_once: Callable[[], None] | None = None
    """Called after every selection of a one-shot run."""


@dataclass(slots=True)
class _Refclock:
    selectable: SelectableSource
    poll: int
    stratum: int


class _Surroundings:
    """See `surroundings.Surroundings`."""

    def __init__(
        self,
        clock: LocalClock,
        reference: OwnReference,
        facts: DaemonFacts,
        random: Random,
        nonce: Callable[[], int],
    ) -> None:
        self.precision_s = clock.precision_s
        self.precision_log2 = clock.precision_log2
        self._clock = clock
        self.era_start_s = era_start_s()
        self.random = random
        self._reference = reference
        self._facts = facts
        self._nonce = nonce

    @property
    def max_clock_error(self) -> float:
        return self._clock.max_clock_error

    @property
    def serving(self) -> bool:
        return self._facts.serving

    @property
    def one_shot(self) -> bool:
        return self._facts.one_shot

    @property
    def net_corrections(self) -> bool:
        return self._facts.net_corrections

    @property
    def hold_timeout_s(self) -> float:
        return self._facts.hold_timeout_s

    def nonce(self) -> int:
        return self._nonce()

    def own_reference(self, cooked_ns: int) -> Served:
        return self._reference.params(cooked_ns)

    def leap_is_close(self, cooked_ns: int) -> bool:
        return self._reference.is_leap_close(cooked_ns)


def random_nonce() -> int:
    """64 bits that nobody can guess."""
    return int.from_bytes(os.urandom(8))


def key_authenticators(keys: KeyStore, log: Log) -> Callable[[SourceConfig], Authenticator]:
    """Makes the authenticators of sources with symmetric keys or none."""

    def make(config: SourceConfig) -> Authenticator:
        key_id = config.options.key
        if key_id is None:
            return NoAuthentication()
        key = keys.get(key_id)
        if key is None:
            log(Severity.WARNING, f"Key {key_id} is missing")
        elif key.is_short:
            log(Severity.WARNING, f"Key {key_id} is too short")
        return SymmetricAuthenticator(keys, key_id)

    return make


class Sources:
    """The set of sources."""

    def __init__(
        self,
        clock: LocalClock,
        reference: OwnReference,
        transport: Transport,
        config: Config,
        *,
        log: Log,
        random: Random,
        authenticators: Callable[[SourceConfig], Authenticator],
        nonce: Callable[[], int] = random_nonce,
        facts: DaemonFacts | None = None,
        hooks: SourcesHooks | None = None,
    ) -> None:
        """`authenticators` makes the authenticator of a source, with a new state."""
        self.facts = facts or DaemonFacts()
        self.hooks = hooks or SourcesHooks()
        self._clock = clock
        self._scheduler = clock.scheduler
        self._reference = reference
        self._transport = transport
        self._config = config
        self._log = log
        self._authenticators = authenticators
        self._around = _Surroundings(clock, reference, self.facts, random, nonce)
        self._ntp: list[NtpSource] = []
        self._by_address: dict[IPAddress, NtpSource] = {}
        self._by_selectable: dict[int, NtpSource] = {}
        self._refclocks: list[_Refclock] = []
        self._next_number = 1
        self._started = False
        self.selector = Selector(
            SelectionOptions.from_config(config), reference, self._selection_event, self._bad_source
        )
        clock.add_handler(self._clock_changed)
        clock.add_dispersion_handler(self._add_dispersion)

    @property
    def ntp_sources(self) -> Sequence[NtpSource]:
        """NTP sources, in the order they were added."""
        return self._ntp

    def now(self) -> Now:
        """The time of the event that is being handled."""
        raw_ns = self._clock.raw_ns()
        cooked_ns, err_s = self._clock.cook(raw_ns)
        return Now(raw_ns, cooked_ns, err_s, self._clock.monotonic_ns())

    def find(self, address: IPAddress) -> NtpSource | None:
        """The NTP source with an address."""
        return self._by_address.get(address)

    def add(self, config: SourceConfig, address: IPAddress | None, port: int | None = None) -> NtpSource:
        """Add an NTP source, known by its address or waiting for one; raises `AddSourceError`.

        `port` replaces the configured one. Once the sources are started it starts at once.
        """
        if address is not None and address in self._by_address:
            raise AlreadyInUseError
        if len(self._ntp) >= MAX_SOURCES:
            raise TooManySourcesError
        authenticator = self._authenticators(config)
        selectable = SelectableSource(
            SourceKind.NTP,
            SourceStats(self._stats_options(config.options), self._clock.precision_s),
            refid=refid_of(address) if address is not None else 0,
            address=address,
            name=config.name,
            authenticated=authenticator.mode is not AuthMode.NONE,
            options=_select_options(config.options),
            max_unreach=config.options.maxunreach,
        )
        association = Association(
            selectable,
            config.options,
            self._around,
            authenticator,
            symmetric=config.kind is ConfiguredKind.PEER,
            is_selected=lambda: self.selector.selected is selectable,
        )
        number = 0
        if address is None:
            number = self._next_number
            self._next_number += 1
        source = NtpSource(number, config, association, self, self._scheduler, self._transport, address=address)
        if port is not None:
            source.port = port
        self._ntp.append(source)
        self._by_selectable[id(selectable)] = source
        if address is not None:
            self._by_address[address] = source
        self.selector.add(selectable)
        if self.hooks.added is not None:
            self.hooks.added(source)
        self._addresses_changed()
        if self._started:
            source.start(self.now())
        return source

    def set_address(self, source: NtpSource, address: IPAddress, port: int | None = None) -> None:
        """Give a source an address, its first or another one; raises `AlreadyInUseError`.

        What was known of the server at the old address is forgotten.
        """
        holder = self._by_address.get(address)
        if holder is not None and holder is not source:
            raise AlreadyInUseError
        first = source.address is None
        if source.address is not None:
            del self._by_address[source.address]
        self._by_address[address] = source
        now = self.now()
        source.set_address(address, source.port if port is None else port, now)
        source.selectable.refid = refid_of(address)
        self.selector.reset_source(source.selectable, now.cooked_ns)
        self._addresses_changed()
        if first and self._started:
            source.start(now)

    def remove(self, *removed: NtpSource) -> None:
        """Forget sources, and select again once."""
        gone = {id(source) for source in removed}
        self._ntp = [source for source in self._ntp if id(source) not in gone]
        for source in removed:
            source.close()
            del self._by_selectable[id(source.selectable)]
            if source.address is not None:
                del self._by_address[source.address]
        self.selector.remove_all([source.selectable for source in removed], self.now().cooked_ns)
        self._addresses_changed()

    def reconfigure(self, config: Config) -> None:
        """Follow a changed configuration, but for the list of sources: limits of samples, selection."""
        self.selector.set_options(SelectionOptions.from_config(self._config), SelectionOptions.from_config(config))
        self._config = config
        for source in self._ntp:
            options = self._stats_options(source.config.options)
            if options != source.selectable.stats.options:
                source.selectable.stats.set_options(options)

    def add_refclock(self, selectable: SelectableSource, config: RefclockConfig) -> None:
        """Let a reference clock take part in the selection."""
        self._refclocks.append(_Refclock(selectable, config.poll, config.stratum))
        self.selector.add(selectable)

    def refclock_stats(self, config: RefclockConfig) -> SourceStats:
        """An empty register as a reference clock needs it."""
        return SourceStats(self._stats_options(config), self._clock.precision_s)

    def accumulate_refclock(self, selectable: SelectableSource, sample: Sample) -> None:
        """Add a sample of a reference clock and select."""
        if selectable.accumulate(sample) is Accumulated.ADDED:
            self.select(selectable, self.now(), updated=True)

    def adopt_loaded(self, loaded: Sequence[SelectableSource]) -> None:
        """Believe sources whose samples were loaded from dump files as if they had just measured, all at once."""
        here = {id(source) for source in self.selector.sources if source.stats.n_samples}
        believed = [source for source in loaded if id(source) in here]
        for source in believed:
            source.updates += 1
            self._log_statistics(source)
        if believed:
            self._select(None)

    def start(self) -> None:
        """Begin to send requests."""
        self._started = True
        now = self.now()
        for source in self._ntp:
            source.start(now)

    def close(self) -> None:
        """Stop everything."""
        for source in self._ntp:
            source.close()
        self._clock.remove_handler(self._clock_changed)
        self._clock.remove_dispersion_handler(self._add_dispersion)

    def receive(self, address: IPAddress, port: int, data: bytes, rx: Stamp, local_address: IPAddress | None) -> bool:
        """A packet (not of a client) came to a server socket; False if it isn't from one of the sources."""
        source = self._by_address.get(address)
        if source is None or source.port != port:
            return False
        source.receive(data, rx, local_address)
        return True

    # Commands. `matches` tells which sources are meant; the answer is whether there was any.

    def switch_online(self, matches: Callable[[NtpSource], bool]) -> bool:
        """Start to send requests to sources."""
        return self._switch(matches, NtpSource.switch_online)

    def switch_offline(self, matches: Callable[[NtpSource], bool]) -> bool:
        """Stop to send requests to sources."""
        return self._switch(matches, NtpSource.switch_offline)

    def follow_routes(self) -> None:
        """Switch every source with an address online or offline, by whether there is a route."""
        self._switch(lambda source: source.address is not None, NtpSource.follow_route)

    def burst(self, matches: Callable[[NtpSource], bool], good: int, total: int) -> bool:
        """Start bursts."""
        return self._switch(matches, lambda source, now: source.start_burst(now, good, total))

    def reselect(self) -> None:
        """Choose the selected source anew."""
        self.selector.reselect(self.now().cooked_ns)

    def set_select_options(self, selectable: SelectableSource, options: SelectOption) -> None:
        """Replace the configured selection options of a source."""
        selectable.configured_options = options
        self.selector.apply_auth_mode()
        self._log(Severity.INFO, f"Source {self._text(selectable)} selection options modified")

    def reset_all(self) -> None:
        """Drop all measurements and the synchronisation."""
        now = self.now()
        for source in self._ntp:
            source.perform(source.association.forget(now), now)
        for selectable in self.selector.sources:
            selectable.reset()
        self.selector.reselect(now.cooked_ns)
        self._reference.set_unsynchronised()
        self._log(Severity.INFO, "Reset all sources")

    # Reports. Reference clocks come first, then NTP sources, each in the order they were added.

    def source_rows(self) -> list[SourceRow]:
        """The `sources` report."""
        cooked_ns = self.now().cooked_ns
        rows = [
            SourceRow(
                SourceMode.REFCLOCK,
                None,
                0,
                clock.selectable.refid,
                clock.poll,
                clock.stratum,
                clock.selectable.state,
                clock.selectable.reach,
                clock.selectable.stats.source_report(cooked_ns),
            )
            for clock in self._refclocks
        ]
        for source in self._ntp:
            selectable = source.selectable
            sample = selectable.stats.source_report(cooked_ns)
            rows.append(
                SourceRow(
                    _mode(source),
                    source.address,
                    source.number,
                    selectable.refid,
                    source.association.poll.poll,
                    selectable.stratum if sample is not None else 0,
                    selectable.state,
                    selectable.reach,
                    sample,
                )
            )
        return rows

    def stats_rows(self) -> list[StatsRow]:
        """The `sourcestats` report."""
        cooked_ns = self.now().cooked_ns
        return [
            StatsRow(mode, selectable.address, selectable.refid, selectable.stats.stats_report(cooked_ns))
            for mode, selectable in self._in_report_order()
        ]

    def select_rows(self) -> list[SelectRow]:
        """The `selectdata` report."""
        return [
            SelectRow(mode, selectable.address, selectable.refid, self.selector.report(selectable))
            for mode, selectable in self._in_report_order()
        ]

    def ntp_report(self, source: NtpSource) -> NtpReport:
        """The `ntpdata` report of a source."""
        return source.association.report()

    def auth_report(self, source: NtpSource) -> AuthReport:
        """The `authdata` report of a source."""
        return source.association.auth.report(self.now())

    def activity(self) -> ActivityReport:
        """The `activity` report."""
        states = [source.association.burst.state for source in self._ntp if source.address is not None]
        return ActivityReport(
            online=states.count(Connectivity.ONLINE),
            offline=states.count(Connectivity.OFFLINE),
            burst_online=states.count(Connectivity.BURST_WAS_ONLINE),
            burst_offline=states.count(Connectivity.BURST_WAS_OFFLINE),
            unresolved=len(self._ntp) - len(states),
        )

    def is_hopeless(self) -> bool:
        """Whether a one-shot run has no chance any more.

        Sources that were asked often enough have none, nor have those that would have to answer more often than they
        will be asked, nor what is missing of a pool that has given some addresses.
        """
        resolved = {id(source.config) for source in self._ntp if source.address is not None}
        for source in self._ntp:
            if source.address is None:
                if id(source.config) not in resolved:
                    return False
                continue
            left = ONE_SHOT_POLLS - source.selectable.reach_size
            enough = source.selectable.stats.n_samples + left >= MIN_SAMPLES_FOR_FIT
            if source.association.burst.talking and left > 0 and enough:
                return False
        return True

    # What the sources ask for (`ntpsource.Owner`).

    def select(self, source: SelectableSource, now: Now, *, updated: bool) -> None:
        """Run the selection because of a source."""
        if updated:
            self._log_statistics(source)
        self._select(source if updated else None)

    def log_measurement(self, record: MeasurementRecord) -> None:
        """Write the measurements log."""
        if self.hooks.measurements is not None:
            self.hooks.measurements(record)

    def source_confirmed(self, source: NtpSource) -> None:
        """A source has given a good response."""
        if self.hooks.confirmed is not None:
            self.hooks.confirmed(source)

    def source_unreachable(self, source: NtpSource) -> None:
        """A source has not answered its last 8 requests."""
        if self.hooks.wants_replacement is not None:
            self.hooks.wants_replacement(source)

    def say(self, severity: Severity, text: str) -> None:
        """Log something."""
        self._log(severity, text)

    def _select(self, updated: SelectableSource | None) -> None:
        cooked_ns = self._clock.cooked_ns()
        self.selector.select(cooked_ns, updated)
        if self.hooks.selection is not None:
            for judged in self.selector.sources:
                self.hooks.selection(
                    SelectionRecord(cooked_ns, self._text(judged), judged.reach, self.selector.report(judged))
                )
        if self.facts.one_shot and self.hooks.selected_once is not None:
            self.hooks.selected_once()

    def _log_statistics(self, source: SelectableSource) -> None:
        """Write the statistics log, once there is a line through the samples."""
        if source.stats.fitted and self.hooks.statistics is not None:
            self.hooks.statistics(self._statistics(source))

    def _addresses_changed(self) -> None:
        if self.hooks.addresses_changed is not None:
            self.hooks.addresses_changed()

    def _bad_source(self, selectable: SelectableSource) -> None:
        source = self._by_selectable.get(id(selectable))
        if source is not None and self.hooks.wants_replacement is not None:
            self.hooks.wants_replacement(source)

    def _selection_event(self, event: SelectionEvent) -> None:
        self._log(event.severity, event.text)

    def _clock_changed(self, change: ClockChange) -> None:
        for selectable in self.selector.sources:
            selectable.stats.handle_change(change)
        now = self.now()
        for source in self._ntp:
            source.perform(source.association.handle_change(change, now), now)
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self.selector.select(now.cooked_ns)

    def _add_dispersion(self, dispersion_s: float) -> None:
        for selectable in self.selector.sources:
            selectable.stats.add_dispersion(dispersion_s)
        for source in self._ntp:
            source.association.add_dispersion(dispersion_s)

    def _switch(self, matches: Callable[[NtpSource], bool], command: Callable[[NtpSource, Now], None]) -> bool:
        """Give a command to the sources that match, to the selected one last: it is to be lost for good reason."""
        matching = [source for source in self._ntp if matches(source)]
        matching.sort(key=lambda source: source.selectable is self.selector.selected)
        now = self.now()
        for source in matching:
            before = source.association.burst.online
            command(source, now)
            after = source.association.burst.online
            if after is not before:
                self._log(Severity.INFO, f"Source {source.text} {'online' if after else 'offline'}")
        return bool(matching)

    def _stats_options(self, options: SourceOptions | RefclockConfig) -> StatsOptions:
        min_samples, max_samples = self._config.sample_limits(options)
        if isinstance(options, RefclockConfig):
            return StatsOptions(min_samples, max_samples, asymmetry=0.0)
        return StatsOptions(min_samples, max_samples, options.mindelay_s, options.asymmetry)

    def _statistics(self, selectable: SelectableSource) -> StatisticsRecord:
        stats = selectable.stats
        return StatisticsRecord(
            time_ns=stats.newest_ns,
            source=self._text(selectable),
            std_dev_s=stats.std_dev_s,
            offset_s=stats.offset_s,
            offset_sd_s=stats.offset_sd_s,
            frequency=stats.frequency,
            skew=stats.skew,
            stress=stats.stress,
            # as the field counts them: with those that the fit has just dropped
            n_samples=stats.n_samples + stats.best_start,
            best_start=stats.best_start,
            n_runs=stats.n_runs,
            asymmetry=stats.asymmetry,
        )

    def _text(self, selectable: SelectableSource) -> str:
        source = self._by_selectable.get(id(selectable))
        return source.text if source is not None else refid_text(selectable.refid)

    def _in_report_order(self) -> list[tuple[SourceMode, SelectableSource]]:
        return [
            *((SourceMode.REFCLOCK, clock.selectable) for clock in self._refclocks),
            *((_mode(source), source.selectable) for source in self._ntp),
        ]


def _mode(source: NtpSource) -> SourceMode:
    return SourceMode.PEER if source.is_peer else SourceMode.CLIENT


def _select_options(options: SourceOptions) -> SelectOption:
    return (
        (SelectOption.NOSELECT if options.noselect else SelectOption.NONE)
        | (SelectOption.PREFER if options.prefer else SelectOption.NONE)
        | (SelectOption.TRUST if options.trust else SelectOption.NONE)
        | (SelectOption.REQUIRE if options.require else SelectOption.NONE)
    )
