"""Options that follow a name on a line: one table for each group, one reader for all tables.

The source table also serves the `add` command of the control program: `parse_source_options`. A value that
cannot mean anything (not a number in C's sense, or an infinite correction) keeps the default and is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from ntpd_fast._record import Field, dataclass, replace
from ntpd_fast.config.model import (
    ExtField,
    HwTimestampOptions,
    KernelClockOptions,
    LocalOptions,
    RatelimitOptions,
    RefclockConfig,
    RxFilter,
    SourceOptions,
)
from ntpd_fast.config.words import INT_MAX, INT_MIN, NotANumber, Scanner

_EXTFIELDS = {0xF323: ExtField.EXP_MONO_ROOT, 0xF324: ExtField.NET_CORRECTION, 0x10A: ExtField.NET_CORRECTION}


class BadValue(ValueError):
    """The value of an option is missing, not of its form, or out of its range."""


class UnknownOption(ValueError):
    """A word that is no option of the table."""


class Value(Protocol):
    """How the value of an option is read. `syntax` is what the manual shows for it."""

    @property
    def syntax(self) -> str: ...

    def read(self, scanner: Scanner) -> Any: ...


@dataclass(frozen=True, slots=True)
class Flag:
    """No value: the word itself sets the field."""

    value: Any = True
    syntax: ClassVar[str] = ""

    def read(self, scanner: Scanner) -> Any:
        return self.value


@dataclass(frozen=True, slots=True)
class Int:
    low: int = INT_MIN
    high: int = INT_MAX
    syntax: ClassVar[str] = "N"

    def read(self, scanner: Scanner) -> int:
        try:
            value = scanner.int_value()
        except NotANumber as error:
            raise BadValue from error
        if not self.low <= value <= self.high:
            raise BadValue(value)
        return value


@dataclass(frozen=True, slots=True)
class U32:
    low: int = 0
    syntax: ClassVar[str] = "ID"

    def read(self, scanner: Scanner) -> int:
        try:
            value = scanner.u32_value()
        except NotANumber as error:
            raise BadValue from error
        if value < self.low:
            raise BadValue(value)
        return value


@dataclass(frozen=True, slots=True)
class Real:
    """A floating-point value; `finite` for corrections, where infinity would be no correction at all."""

    syntax: str = "X"
    finite: bool = False

    def read(self, scanner: Scanner) -> float | None:
        try:
            value = scanner.real_value()
        except NotANumber as error:
            raise BadValue from error
        unusable = math.isnan(value) or (self.finite and math.isinf(value))
        return None if unusable else value


@dataclass(frozen=True, slots=True)
class Refid:
    syntax: ClassVar[str] = "ID"

    def read(self, scanner: Scanner) -> bytes:
        word = scanner.word()
        if word is None:
            raise BadValue
        refid = word.encode("utf-8", "surrogateescape")
        if len(refid) > 4:
            raise BadValue(word)
        return refid.ljust(4, b"\0")


@dataclass(frozen=True, slots=True)
class ExtFieldType:
    syntax: ClassVar[str] = "HEX"

    def read(self, scanner: Scanner) -> ExtField:
        try:
            return _EXTFIELDS[scanner.hex_value()]
        except (NotANumber, KeyError) as error:
            raise BadValue from error


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the names of an enumeration, in any case."""

    names: type[StrEnum]

    @property
    def syntax(self) -> str:
        return "|".join(self.names)

    def read(self, scanner: Scanner) -> StrEnum:
        try:
            return self.names((scanner.word() or "").lower())
        except ValueError as error:
            raise BadValue from error


@dataclass(frozen=True, slots=True)
class Option:
    """One row: the word (in any case), how its value is read, the field it sets, and what it is for."""

    name: str
    value: Value
    field: str
    description: str
    accumulates: bool = False


OptionTable = Mapping[str, Option]


def _table(*rows: Option) -> OptionTable:
    return {row.name: row for row in rows}


_NATURAL = Int(0, INT_MAX)
_POSITIVE = Int(1, INT_MAX)
_SMALL = Int(-32, 32)
_PORT = Int(0, 65535)
_FLAG = Flag()

_SELECTION = (
    Option("prefer", _FLAG, "prefer", "Choose this source before those without the option."),
    Option("noselect", _FLAG, "noselect", "Measure the source but never follow it."),
    Option("trust", _FLAG, "trust", "Believe this source when it disagrees with those not trusted."),
    Option("require", _FLAG, "require", "Correct the clock only while a source marked so is selectable."),
)

_SAMPLES = (
    Option("minsamples", _NATURAL, "minsamples", "Keep at least this many measurements of the source."),
    Option("maxsamples", _NATURAL, "maxsamples", "Keep at most this many measurements of the source."),
    Option(
        "maxunreach",
        _NATURAL,
        "maxunreach",
        "Stop selecting the source after this many polls in a row without a valid answer.",
    ),
)

SOURCE_OPTIONS = _table(
    Option("minpoll", Int(), "minpoll", "Shortest interval between requests, as a power of two seconds."),
    Option("maxpoll", _SMALL, "maxpoll", "Longest interval between requests, as a power of two seconds."),
    Option("iburst", _FLAG, "iburst", "Begin with requests 2 seconds apart for a quick first correction."),
    Option("burst", _FLAG, "burst", "Send up to four requests at each poll and use the first good answer."),
    Option("key", U32(1), "key", "Authenticate with the symmetric key of this number from the key file."),
    Option("nts", _FLAG, "nts", "Authenticate with Network Time Security; the name is the NTS-KE server."),
    Option("ntsport", _PORT, "ntsport", "TCP port of the NTS-KE server."),
    Option("certset", U32(), "certset", "Set of trusted certificates to check the NTS-KE server with."),
    Option("maxdelay", Real("SECONDS"), "maxdelay_s", "Refuse measurements with a longer round trip."),
    Option(
        "maxdelayratio",
        Real("RATIO"),
        "maxdelayratio",
        "Refuse measurements whose round trip exceeds the shortest one by this factor.",
    ),
    Option(
        "maxdelaydevratio",
        Real("RATIO"),
        "maxdelaydevratio",
        "Refuse measurements whose extra delay exceeds the deviation of the offsets by this factor.",
    ),
    Option(
        "maxdelayquant",
        Real("P"),
        "maxdelayquant",
        "Refuse measurements with a round trip above this quantile of what was seen.",
    ),
    Option("mindelay", Real("SECONDS"), "mindelay_s", "Take this as the shortest round trip."),
    Option("asymmetry", Real("RATIO"), "asymmetry", "Fix the asymmetry of delays between -0.5 and 0.5."),
    Option("offset", Real("SECONDS", finite=True), "offset_s", "Correct every measured offset by this much."),
    *_SAMPLES,
    Option("filter", _NATURAL, "filter_length", "Make one measurement of this many by a median filter."),
    Option("offline", _FLAG, "offline", "Ask nothing until a command says that the source is online."),
    Option("auto_offline", _FLAG, "auto_offline", "Go offline when a request cannot be sent."),
    *_SELECTION,
    Option("xleave", _FLAG, "xleave", "Use the interleaved mode with its more exact transmit timestamps."),
    Option("polltarget", _POSITIVE, "polltarget", "Adapt the interval so that this many measurements fit."),
    Option("port", _PORT, "port", "UDP port of the server."),
    Option(
        "presend",
        _SMALL,
        "presend",
        "Send an extra packet ahead of the measurement from this interval on, to fill caches on the path.",
    ),
    Option("minstratum", Int(0, 16), "minstratum", "Count the source with at least this stratum."),
    Option("version", Int(1, 4), "version", "Protocol version of the requests."),
    Option("copy", _FLAG, "copy", "Report the server's reference ID and stratum as our own."),
    Option(
        "extfield",
        ExtFieldType(),
        "extfields",
        "Add this extension field to requests: F323 (monotonic root) or 10A (network correction).",
        accumulates=True,
    ),
    Option("ipv4", Flag(4), "family", "Use only IPv4 addresses of the name."),
    Option("ipv6", Flag(6), "family", "Use only IPv6 addresses of the name."),
    Option("maxsources", _POSITIVE, "maxsources", "Servers wanted from the pool."),
)

REFCLOCK_OPTIONS = _table(
    Option("poll", _SMALL, "poll", "Interval between filtered samples, as a power of two seconds."),
    Option("dpoll", _SMALL, "dpoll", "Interval between readings of the clock, as a power of two seconds."),
    Option("refid", Refid(), "refid", "Reference ID of the clock, up to four characters."),
    Option("lock", Refid(), "lock_refid", "Reference ID of the clock that numbers this one's pulses."),
    Option("rate", _POSITIVE, "rate_hz", "Pulses per second."),
    Option("maxlockage", _NATURAL, "maxlockage", "Pulses after which the locked clock's sample is too old."),
    Option("width", Real("SECONDS"), "width_s", "Width of the pulse, to tell its two edges apart."),
    Option("pps", _FLAG, "pps", "Use only the fraction of a second of the samples."),
    Option("offset", Real("SECONDS", finite=True), "offset_s", "Correct every sample by this much."),
    Option("delay", Real("SECONDS"), "delay_s", "Assume this delay, which widens the interval of the clock."),
    Option("stratum", Int(0, 15), "stratum", "Stratum of the clock."),
    Option("precision", Real("SECONDS"), "precision_s", "Precision of the clock's samples."),
    Option("maxdispersion", Real("SECONDS"), "maxdispersion_s", "Refuse filtered samples that scatter more."),
    Option("filter", _NATURAL, "filter_length", "Samples that the median filter keeps."),
    *_SELECTION,
    Option("tai", _FLAG, "tai", "The clock keeps TAI, not UTC."),
    Option("local", _FLAG, "local", "Steady the system clock with a clock that runs free."),
    *_SAMPLES,
)

LOCAL_OPTIONS = _table(
    Option("stratum", Int(1, 15), "stratum", "Stratum served without a source."),
    Option("orphan", _FLAG, "orphan", "Let one of several servers configured alike lead the others."),
    Option("distance", Real("SECONDS"), "distance_s", "Root distance from which on the mode takes over."),
    Option("activate", Real("SECONDS"), "activate_s", "Wait until the root distance was below this once."),
    Option("waitsynced", Real("SECONDS"), "waitsynced_s", "Wait this long after the last correction."),
    Option("waitunsynced", Real("SECONDS"), "waitunsynced_s", "Wait this long without ever a source."),
)

KERNELCLOCK_OPTIONS = _table(
    Option("stratum", Int(1, 15), "stratum", "Stratum served: one more than that of what the clock is kept by."),
    Option("refid", Refid(), "refid", "Reference ID served, up to four characters."),
)

_BUCKET = (
    Option("interval", _SMALL, "interval", "Average interval between answers, as a power of two seconds."),
    Option("burst", Int(-32, 255), "burst", "Requests in a row that are answered before the limit applies."),
    Option("leak", _SMALL, "leak", "Answer one of two to this power of the requests over the limit."),
)

RATELIMIT_OPTIONS = _table(
    *_BUCKET,
    Option("kod", _SMALL, "kod", "Tell one of two to this power of the dropped requests to slow down."),
)
OTHER_RATELIMIT_OPTIONS = _table(*_BUCKET)
DRIFTFILE_OPTIONS = _table(
    Option("interval", Real("SECONDS"), "interval_s", "Write the file at most once in this time."),
)

HWTIMESTAMP_OPTIONS = _table(
    Option("minpoll", _SMALL, "minpoll", "Shortest interval between clock readings, power of two seconds."),
    Option("maxpoll", _SMALL, "maxpoll", "Longest interval between clock readings, power of two seconds."),
    Option("minsamples", _NATURAL, "minsamples", "Readings kept at least."),
    Option("maxsamples", _NATURAL, "maxsamples", "Readings kept at most."),
    Option("precision", Real("SECONDS"), "precision_s", "Precision of a reading."),
    Option("txcomp", Real("SECONDS", finite=True), "txcomp_s", "Delay to add to transmit timestamps."),
    Option("rxcomp", Real("SECONDS", finite=True), "rxcomp_s", "Delay to take from receive timestamps."),
    Option("nocrossts", _FLAG, "nocrossts", "Do not read both clocks at once even where that is possible."),
    Option("rxfilter", Choice(RxFilter), "rxfilter", "Packets the interface stamps when they arrive."),
)


def limit_burst_as_chrony(table: OptionTable) -> OptionTable:
    """The table with the range of `burst` that chrony has by mistake since 4.7 (its manual says 1-255)."""
    return {**table, "burst": replace(table["burst"], value=_SMALL)}


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


_Options = TypeVar("_Options", bound=_Dataclass)


def read_options(
    table: OptionTable, scanner: Scanner, defaults: _Options, unusable: Callable[[str], None]
) -> tuple[_Options, frozenset[str]]:
    """Read options up to the end of the line into a copy of `defaults`.

    Returns it and the fields that were given. `unusable` is called with the name of every option whose
    value says nothing (nan), which then keeps its default. Raises UnknownOption or BadValue.
    """
    given: dict[str, Any] = {}
    while (word := scanner.word()) is not None:
        option = table.get(word.lower())
        if option is None:
            raise UnknownOption(word)
        value = option.value.read(scanner)
        if value is None:
            unusable(option.name)
        elif option.accumulates:
            given[option.field] = given.get(option.field, frozenset()) | {value}
        else:
            given[option.field] = value
    return replace(defaults, **given), frozenset(given)


def read_source_options(scanner: Scanner, unusable: Callable[[str], None]) -> SourceOptions:
    """Options of a server, pool or peer, already limited to what takes effect."""
    options, _ = read_options(SOURCE_OPTIONS, scanner, SourceOptions(), unusable)
    return options.clamped()


def read_refclock_options(
    scanner: Scanner, clock: RefclockConfig, unusable: Callable[[str], None]
) -> RefclockConfig:
    options, _ = read_options(REFCLOCK_OPTIONS, scanner, clock, unusable)
    return replace(
        options,
        filter_length=min(options.filter_length, 256),
        width_s=max(options.width_s, 0.0),
        precision_s=max(options.precision_s, 0.0),
        maxdispersion_s=max(options.maxdispersion_s, 0.0),
    )


def read_local_options(scanner: Scanner, unusable: Callable[[str], None]) -> LocalOptions:
    options, _ = read_options(LOCAL_OPTIONS, scanner, LocalOptions(waitunsynced_s=-1.0), unusable)
    if options.waitunsynced_s < 0.0:
        return replace(options, waitunsynced_s=300.0 if options.orphan else 0.0)
    return options


def read_kernelclock_options(scanner: Scanner, unusable: Callable[[str], None]) -> KernelClockOptions:
    options, _ = read_options(KERNELCLOCK_OPTIONS, scanner, KernelClockOptions(), unusable)
    return options


def read_ratelimit_options(
    table: OptionTable, scanner: Scanner, current: RatelimitOptions, unusable: Callable[[str], None]
) -> RatelimitOptions:
    """Options of a rate limit on top of what earlier lines of the same directive said."""
    options, _ = read_options(table, scanner, current, unusable)
    return RatelimitOptions(
        interval=min(max(options.interval, -19), 12),
        burst=min(max(options.burst, 1), 255),
        leak=min(max(options.leak, 1), 4),
        kod=min(max(options.kod, 0), 4),
    )


def read_hwtimestamp_options(
    scanner: Scanner, interface: HwTimestampOptions, unusable: Callable[[str], None]
) -> HwTimestampOptions:
    options, given = read_options(HWTIMESTAMP_OPTIONS, scanner, interface, unusable)
    minpoll = min(max(options.minpoll, -6), 20)
    maxpoll = options.maxpoll if "maxpoll" in given else minpoll + 1
    maxsamples = min(max(options.maxsamples, 2), 64)
    return replace(
        options,
        minpoll=minpoll,
        maxpoll=min(max(maxpoll, minpoll), 20),
        minsamples=min(max(options.minsamples, 2), maxsamples),
        maxsamples=maxsamples,
        precision_s=max(options.precision_s, 0.0),
    )


def parse_source_options(words: Sequence[str]) -> SourceOptions:
    """Options of the `add` command: the words after the name. Raises UnknownOption or BadValue."""
    return read_source_options(Scanner(list(words)), lambda name: None)
