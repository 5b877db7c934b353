"""From configured servers, pools and peers to sources, and to better ones when they turn out badly.

Every line of the configuration, of a `sourcedir` file or of an `add` command becomes one source or, for a pool,
several. Names are looked up without waiting, a few at a time, and again ever more rarely until all their sources
have an address. A source that is unreachable or stays useless gets another address of its name, at most one
source in a while; addresses are checked once in a long time, for names whose servers have moved.

Rules: an address belongs to one source only; a source that was given by address keeps it; what can't be added or
looked up is told once; whatever the name system says is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from ntpd_fast._record import dataclass, field
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.resolver import Resolution, Resolver
from ntpd_fast.client.sources import AddSourceError, Sources
from ntpd_fast.config.diff import SourceChanges, compare_sources
from ntpd_fast.config.model import MAXSOURCES_MAX, SourceConfig, SourceKind
from ntpd_fast.config.resolve import parse_address
from ntpd_fast.config.sources import SourceFiles, read_sourcedirs
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import NS_PER_S, Random, Scheduler, TimerHandle

RETRY_UNIT_S = 7.0
FIRST_RETRY_LOG2 = 2
LAST_RETRY_LOG2 = 9

REPLACEMENT_WAIT_S = RETRY_UNIT_S * 2.0**LAST_RETRY_LOG2
"""After a source was to be replaced, the next one waits for up to this long: servers see few strangers."""

MAX_LOOKUPS = 4
"""Names looked up at a time: one that takes long doesn't hold up the others."""

MAX_NAME_LENGTH = 255
MAX_TOLD = 10
"""Lines in a row about names or sources that failed; the rest is told as a number."""

CHANGES_A_TURN = 100
"""Sources added or removed in one go while the daemon runs: some 20 ms; a clock to keep right waits no longer."""

REMOVAL_TURNS_MAX = 20
"""Removing thousands takes so many turns, which then are longer: of 10,000 sources under 0.1 s each."""

TURN_PAUSE_S = 0.005
"""Long enough for everything else that is due."""

SLOTS_PER_WANTED = 2
"""Addresses of a pool tried at first for each source that it is to give."""


class InvalidAddressError(AddSourceError):
    """The address is not of the family that the options demand."""

    def __init__(self) -> None:
        super().__init__("Invalid address")


class InvalidNameError(AddSourceError):
    """No host can have this name."""

    def __init__(self) -> None:
        super().__init__("Invalid name")


@dataclass(eq=False, slots=True)
class _Slot:
    """A source and what is known of its address."""

    source: NtpSource
    entry: _Entry
    confirmed: bool = False
    """The server at the address has given a good response."""
    resolved: IPAddress | None = None
    """What the name stood for; NTS-KE may have led to another address from there."""
    resolved_ns: int = 0
    """Monotonic time at which the name was last seen to stand for it."""


@dataclass(eq=False, slots=True)
class _Entry:
    """One configured line."""

    config: SourceConfig
    literal: IPAddress | None
    slots: list[_Slot] = field(default_factory=list)
    removed: bool = False
    queued: bool = False
    """Waits for a lookup or is in one."""
    checks: dict[_Slot, bool] = field(default_factory=dict)
    """Sources the next lookup is for, beside those without an address; True: to be replaced in any case."""
    retry_log2: int = FIRST_RETRY_LOG2
    retry: TimerHandle | None = None
    told: bool = False

    @property
    def is_pool(self) -> bool:
        """Whether it stands for several sources."""
        return self.config.kind is SourceKind.POOL and self.literal is None

    @property
    def incomplete(self) -> bool:
        """Whether a source has no address yet."""
        return any(slot.source.address is None for slot in self.slots)

    def label(self, source: NtpSource) -> str:
        """A source in messages: its address and, where that says more, its name."""
        name = self.config.name
        return source.text if source.text == name else f"{source.text} ({name})"


class _Told:
    """Lines about failures: the first few as they are, the rest as a number."""

    def __init__(self, log: Log, severity: Severity, summary: Callable[[int], str]) -> None:
        self._log = log
        self._severity = severity
        self._summary = summary
        self._count = 0

    def tell(self, text: str) -> None:
        """Say or count something."""
        self._count += 1
        if self._count <= MAX_TOLD:
            self._log(self._severity, text)

    def finish(self) -> None:
        """The row is over."""
        if self._count > MAX_TOLD:
            self._log(self._severity, self._summary(self._count - MAX_TOLD))
        self._count = 0


class Names:
    """Adds, removes and replaces the NTP sources of a daemon (`control.sourcereports.Names`)."""

    def __init__(
        self,
        sources: Sources,
        resolver: Resolver,
        scheduler: Scheduler,
        *,
        can_reach: Callable[[IPAddress, int], bool],
        refresh_s: float,
        log: Log,
        random: Random,
        sourcedirs: Sequence[Sequence[str]] = (),
        read_dirs: Callable[[Sequence[Sequence[str]]], SourceFiles] = read_sourcedirs,
    ) -> None:
        """`can_reach`: whether there is a route; `refresh_s`: the directive, 0 for never.

        Takes the hooks `confirmed` and `wants_replacement` of the sources.
        """
        self.on_first_address: Callable[[NtpSource], None] | None = None
        """A source has its first address."""
        self.on_first_round: Callable[[], None] | None = None
        """Every name of the start has been looked up once."""
        self.sourcedirs = sourcedirs
        self._sources = sources
        self._resolver = resolver
        self._scheduler = scheduler
        self._can_reach = can_reach
        self._refresh_s = refresh_s
        self._log = log
        self._random = random
        self._read_dirs = read_dirs
        self._slots: dict[NtpSource, _Slot] = {}
        self._entries: dict[_Entry, None] = {}
        self._main = _Origin(self)
        self._from_dirs = _Origin(self)
        self._when_settled: list[Callable[[], None]] = []
        self._notes: frozenset[str] = frozenset()
        self._queue: deque[_Entry] = deque()
        self._lookups = 0
        self._started = False
        self._closed = False
        self._first_round_over = False
        self._replacement_allowed_ns = scheduler.monotonic_ns()
        self._refreshed_ns = scheduler.monotonic_ns()
        self._failures = _Told(log, Severity.WARNING, lambda count: f"No address for {count} more names yet")
        sources.hooks.confirmed = self._confirmed
        sources.hooks.wants_replacement = self._wants_replacement

    def start(self, configured: Sequence[SourceConfig]) -> None:
        """Add the sources of the main configuration and of the directories, and begin to look names up."""
        self._main.update(configured, say=self._say_nothing, complain=self._complain_briefly)
        self._main.finish()
        self._started = True
        self._reload(say=self._say)
        self._from_dirs.finish()
        self._pump()

    def close(self) -> None:
        """Stop looking names up; the sources stay."""
        self._closed = True
        self._main.close()
        self._from_dirs.close()
        self._queue.clear()
        for entry in self._entries:
            _cancel_retry(entry)

    def configure(self, configured: Sequence[SourceConfig]) -> None:
        """The main configuration has changed: keep equal sources, remove the others, then add the new ones.

        So many at a time; of a few all are there when this returns. So with `reload`.
        """
        self._main.update(configured, say=self._say, complain=self._complain_briefly)

    def when_settled(self, call: Callable[[], None]) -> None:
        """Call once every change that `configure` and `reload` have begun is made; at once when none goes on."""
        self._when_settled.append(call)
        self._tell_settled()

    def _tell_settled(self) -> None:
        if self._main.busy or self._from_dirs.busy:
            return
        calls, self._when_settled = self._when_settled, []
        for call in calls:
            call()

    def set_refresh(self, refresh_s: float) -> None:
        """Replace the interval of `refresh`."""
        self._refresh_s = refresh_s

    def set_sourcedirs(self, sourcedirs: Sequence[Sequence[str]]) -> None:
        """Read other directories from now on, and now."""
        self.sourcedirs = sourcedirs
        self.reload()

    def add(self, config: SourceConfig) -> None:
        """Add a source or a pool now; raises `AddSourceError`."""
        self._say(f"Added {self._what(self._add(config))}")

    def remove(self, source: NtpSource) -> None:
        """Forget one source; raises KeyError for one that is not here."""
        slot = self._slots[source]
        self._say(f"Removed source {slot.entry.label(source)}")
        self._remove_slots([slot])

    def refresh(self) -> None:
        """Look all names up again and replace addresses that they no longer stand for."""
        self._refreshed_ns = self._scheduler.monotonic_ns()
        for entry in self._entries:
            if entry.literal is None:
                for slot in entry.slots:
                    self._check(slot, replace=False)
        self._pump()

    def reload(self) -> None:
        """Read the files of `sourcedir` again; those that did not change keep their sources."""
        if self._started:
            self._reload(say=self._say)
            self._pump()

    def resolve_now(self) -> None:
        """Try the names again that have no address yet; the network may be another one now."""
        for entry in self._entries:
            if entry.incomplete:
                entry.retry_log2 = FIRST_RETRY_LOG2
                self._enqueue(entry)
        self._pump()

    def _add(self, config: SourceConfig) -> _Entry:
        literal = parse_address(config.name)
        options = config.options
        if literal is not None and options.family not in (None, literal.version):
            raise InvalidAddressError
        if literal is None and not _is_name(config.name):
            raise InvalidNameError
        entry = _Entry(config, literal)
        wanted = min(SLOTS_PER_WANTED * options.maxsources, MAXSOURCES_MAX) if entry.is_pool else 1
        try:
            for _ in range(wanted):
                source = self._sources.add(config, literal)
                slot = self._slots[source] = _Slot(source, entry, resolved=literal)
                entry.slots.append(slot)
        except AddSourceError:
            self._remove_slots(entry.slots)
            raise
        self._entries[entry] = None
        if literal is None:
            self._enqueue(entry)
            self._pump()
        elif self.on_first_address is not None:
            self.on_first_address(source)
        return entry

    def _what(self, entry: _Entry) -> str:
        """An entry in messages."""
        if entry.is_pool:
            return f"pool {entry.config.name}"
        return f"source {entry.label(entry.slots[0].source)}"

    def _remove_entries(self, entries: Iterable[_Entry]) -> None:
        self._remove_slots([slot for entry in entries for slot in entry.slots])

    def _remove_slots(self, slots: Sequence[_Slot]) -> None:
        """Forget sources, and what they were configured by when nothing is left of it."""
        if not slots:
            return
        gone = set(slots)
        for slot in slots:
            del self._slots[slot.source]
        for entry in dict.fromkeys(slot.entry for slot in slots):
            entry.slots = [slot for slot in entry.slots if slot not in gone]
            if not entry.slots:
                entry.removed = True
                self._entries.pop(entry, None)
                _cancel_retry(entry)
        self._sources.remove(*(slot.source for slot in slots))

    def _reload(self, say: Callable[[str], None]) -> None:
        files = self._read_dirs(self.sourcedirs)
        for note in files.notes:
            if note not in self._notes:
                self._log(Severity.WARNING, note)
        self._notes = frozenset(files.notes)
        self._from_dirs.update(files.sources, say=say, complain=self._complain)

    def _enqueue(self, entry: _Entry) -> None:
        _cancel_retry(entry)
        if not entry.queued and not self._closed:
            entry.queued = True
            self._queue.append(entry)

    def _pump(self) -> None:
        """Begin as many lookups as may run."""
        if not self._started:
            return
        while self._queue and self._lookups < MAX_LOOKUPS:
            entry = self._queue.popleft()
            if entry.removed:
                entry.queued = False
                continue
            self._lookups += 1
            self._resolver.resolve(entry.config.name, partial(self._resolved, entry))
        if not self._lookups:
            self._failures.finish()
            if not self._first_round_over:
                self._first_round_over = True
                if self.on_first_round is not None:
                    self.on_first_round()

    def _resolved(self, entry: _Entry, resolution: Resolution) -> None:
        """The answer to a lookup."""
        if self._closed:
            return
        self._scheduler.begin_event()
        self._lookups -= 1
        entry.queued = False
        if not entry.removed:
            self._use(entry, resolution)
        self._pump()

    def _use(self, entry: _Entry, resolution: Resolution) -> None:
        checks, entry.checks = entry.checks, {}
        if resolution.impossible and all(slot.source.address is None for slot in entry.slots):
            self._log(Severity.WARNING, f"Invalid host {entry.config.name}")
            self._remove_slots(entry.slots)
            return
        family = entry.config.options.family
        addresses = [address for address in resolution.addresses if family in (None, address.version)]
        self._fill(entry, addresses)
        for slot, replace in checks.items():
            # it may have been removed while the name was looked up
            if slot.source in self._slots and addresses:
                self._review(slot, addresses, replace=replace)
        if not entry.incomplete:
            return
        if all(slot.source.address is None for slot in entry.slots):
            self._tell_failure(entry, resolution, addresses)
        entry.retry = self._scheduler.call_later(RETRY_UNIT_S * 2.0**entry.retry_log2, partial(self._retry, entry))
        entry.retry_log2 = min(entry.retry_log2 + 1, LAST_RETRY_LOG2)

    def _retry(self, entry: _Entry) -> None:
        entry.retry = None
        self._enqueue(entry)
        self._pump()

    def _fill(self, entry: _Entry, addresses: Sequence[IPAddress]) -> None:
        """Give addresses to the sources that have none, in the order of the answer."""
        waiting = [slot for slot in entry.slots if slot.source.address is None]
        for address in addresses:
            if not waiting:
                return
            if self._is_usable(entry, address):
                slot = waiting.pop(0)
                first = self.on_first_address
                self._take(slot, address)
                if first is not None:
                    first(slot.source)

    def _review(self, slot: _Slot, addresses: Sequence[IPAddress], *, replace: bool) -> None:
        """Give a source another address if it has to go, or if its name no longer stands for the one it has."""
        if not replace and slot.resolved in addresses:
            slot.resolved_ns = self._scheduler.monotonic_ns()
            return
        entry = slot.entry
        old = slot.source.text
        start = int(self._random.random() * len(addresses))
        for address in (*addresses[start:], *addresses[:start]):
            if self._is_usable(entry, address):
                self._take(slot, address)
                self._say(f"Source {old} replaced with {address} ({entry.config.name})")
                return

    def _take(self, slot: _Slot, address: IPAddress) -> None:
        slot.confirmed = False
        slot.resolved = address
        slot.resolved_ns = self._scheduler.monotonic_ns()
        self._sources.set_address(slot.source, address, slot.entry.config.options.port)

    def _is_usable(self, entry: _Entry, address: IPAddress) -> bool:
        """Whether a source of the entry can have an address."""
        if self._sources.find(address) is not None or any(slot.resolved == address for slot in entry.slots):
            return False
        return self._can_reach(address, entry.config.options.port)

    def _tell_failure(self, entry: _Entry, resolution: Resolution, addresses: Sequence[IPAddress]) -> None:
        if entry.told:
            return
        entry.told = True
        if not addresses:
            reason = resolution.reason or f"No IPv{entry.config.options.family} address"
        elif all(self._sources.find(address) is not None for address in addresses):
            reason = "Already in use"
        else:
            reason = "No route"
        self._failures.tell(f"No address for {entry.config.name} yet : {reason}")

    def _confirmed(self, source: NtpSource) -> None:
        """A source has given a good response."""
        slot = self._slots.get(source)
        if slot is None:
            return
        if not slot.confirmed:
            slot.confirmed = True
            self._complete_pool(slot.entry)
        now_ns = self._scheduler.monotonic_ns()
        if self._refresh_s > 0.0 and now_ns - self._refreshed_ns >= self._refresh_s * NS_PER_S:
            self._refreshed_ns = now_ns
            self._refresh_oldest()

    def _complete_pool(self, entry: _Entry) -> None:
        """Forget the other addresses of a pool when enough have shown to be servers."""
        confirmed = sum(slot.confirmed for slot in entry.slots)
        if entry.is_pool and confirmed >= entry.config.options.maxsources:
            self._remove_slots([slot for slot in entry.slots if not slot.confirmed])
            _cancel_retry(entry)

    def _refresh_oldest(self) -> None:
        named = [slot for slot in self._slots.values() if slot.entry.literal is None and slot.resolved is not None]
        if named:
            self._check(min(named, key=lambda slot: slot.resolved_ns), replace=False)
            self._pump()

    def _wants_replacement(self, source: NtpSource) -> None:
        """A source is unreachable or stays useless; it will say so again."""
        slot = self._slots.get(source)
        if slot is None:
            return
        literal = slot.entry.literal
        if literal == source.address:
            return
        now_ns = self._scheduler.monotonic_ns()
        if now_ns < self._replacement_allowed_ns:
            return
        self._replacement_allowed_ns = now_ns + round(self._random.random() * REPLACEMENT_WAIT_S * NS_PER_S)
        if literal is not None:
            # where NTS-KE has led it is a dead end; the source is still busy with what made it say so
            self._scheduler.call_later(0.0, partial(self._start_over, slot, literal))
            return
        self._check(slot, replace=True)
        self._pump()

    def _start_over(self, slot: _Slot, literal: IPAddress) -> None:
        """Begin again where the configuration says."""
        if slot.source in self._slots:
            slot.resolved = None
            self._review(slot, [literal], replace=True)
            slot.resolved = literal

    def _check(self, slot: _Slot, *, replace: bool) -> None:
        """Have the address of a source looked at again."""
        entry = slot.entry
        entry.checks[slot] = entry.checks.get(slot, False) or replace
        self._enqueue(entry)

    def _say(self, text: str) -> None:
        self._log(Severity.INFO, text)

    def _say_nothing(self, text: str) -> None:
        """For what is no news at start."""

    def _complain_briefly(self, config: SourceConfig, error: AddSourceError) -> str:
        return f"Could not add source {config.name}"

    def _complain(self, config: SourceConfig, error: AddSourceError) -> str:
        return f"Could not add source {config.name} : {error}"


class _Origin:
    """The sources of one place, main configuration or directories, and how they follow its changes."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._configured: tuple[SourceConfig, ...] = ()
        self._entries: dict[SourceConfig, list[_Entry | None]] = {}
        """Of equal lines, those that could not be added are None."""
        self._changes: Iterator[int] = iter(())
        """What is left to do of an update; how many sources each step was for."""
        self._timer: TimerHandle | None = None

    def update(
        self,
        configured: Sequence[SourceConfig],
        *,
        say: Callable[[str], None],
        complain: Callable[[SourceConfig, AddSourceError], str],
    ) -> None:
        """Remove what has vanished, then add what is new; what could not be added before is tried again.

        Begins with a turn of it; the other turns follow by themselves. One that goes on is brought to its end first.
        """
        self.finish()
        changes = compare_sources(self._configured, tuple(configured))
        self._configured = tuple(configured)
        self._changes = self._follow(changes, say, complain)
        self._go_on()

    @property
    def busy(self) -> bool:
        """Whether something is left of an update."""
        return self._timer is not None

    def finish(self) -> None:
        """Do at once what is left of an update."""
        self.close()
        for _ in self._changes:
            pass

    def close(self) -> None:
        """Leave it there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._timer = None
        done = 0
        for count in self._changes:
            done += count
            if done >= CHANGES_A_TURN:
                self._timer = self._names._scheduler.call_later(TURN_PAUSE_S, self._go_on)
                break
        self._names._pump()
        self._names._tell_settled()

    def _follow(
        self,
        changes: SourceChanges,
        say: Callable[[str], None],
        complain: Callable[[SourceConfig, AddSourceError], str],
    ) -> Iterator[int]:
        names = self._names
        vanished = [entry for config in changes.removed if (entry := self._pop(config)) is not None]
        # some together: each removal looks at all sources and selects anew
        together = max(CHANGES_A_TURN, len(vanished) // REMOVAL_TURNS_MAX)
        for first in range(0, len(vanished), together):
            # a command may have removed some meanwhile
            turn = [entry for entry in vanished[first : first + together] if not entry.removed]
            for entry in turn:
                say(f"Removed {names._what(entry)}")
            names._remove_entries(turn)
            yield len(turn)
        failures = _Told(names._log, Severity.ERROR, lambda count: f"Could not add {count} more sources")
        for config in dict.fromkeys(changes.kept):
            self._try_again(config, say)
        for config in changes.added:
            entry = None
            try:
                entry = names._add(config)
                say(f"Added {names._what(entry)}")
            except AddSourceError as error:
                failures.tell(complain(config, error))
            self._entries.setdefault(config, []).append(entry)
            yield 1
        failures.finish()

    def _pop(self, config: SourceConfig) -> _Entry | None:
        """Take one of the equal entries out, the newest; None if it is not there any more."""
        entries = self._entries[config]
        entry = entries.pop()
        if not entries:
            del self._entries[config]
        return None if entry is None or entry.removed else entry

    def _try_again(self, config: SourceConfig, say: Callable[[str], None]) -> None:
        entries = self._entries[config]
        for index, entry in enumerate(entries):
            if entry is not None:
                continue
            try:
                added = entries[index] = self._names._add(config)
            except AddSourceError:
                return
            say(f"Added {self._names._what(added)}")


def _cancel_retry(entry: _Entry) -> None:
    if entry.retry is not None:
        entry.retry.cancel()
        entry.retry = None


def _is_name(text: str) -> bool:
    """Whether the name system can be asked for it: visible ASCII."""
    return 0 < len(text) <= MAX_NAME_LENGTH and all("!" <= char <= "~" for char in text)
