"""Directives whose arguments are options: refclock, local, the rate limits, hwtimestamp, driftfile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from ntpd_fast._record import dataclass
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.kinds import Draft, could_not_parse, invalid
from ntpd_fast.config.lexer import Line
from ntpd_fast.config.model import DriftFile, HwTimestampOptions, RatelimitOptions, RefclockConfig
from ntpd_fast.config.options import (
    DRIFTFILE_OPTIONS,
    HWTIMESTAMP_OPTIONS,
    KERNELCLOCK_OPTIONS,
    LOCAL_OPTIONS,
    REFCLOCK_OPTIONS,
    BadValue,
    OptionTable,
    UnknownOption,
    limit_burst_as_chrony,
    read_hwtimestamp_options,
    read_kernelclock_options,
    read_local_options,
    read_options,
    read_ratelimit_options,
    read_refclock_options,
)
from ntpd_fast.config.words import Scanner


@contextmanager
def _told_apart(line: Line) -> Iterator[None]:
    """The error says whether an option or a value is wrong."""
    try:
        yield
    except UnknownOption as error:
        raise invalid("option", line) from error
    except BadValue as error:
        raise invalid("value", line) from error


@contextmanager
def _told_as_one(line: Line) -> Iterator[None]:
    """The error only says that the directive cannot be parsed."""
    try:
        yield
    except (UnknownOption, BadValue) as error:
        raise could_not_parse(line) from error


@dataclass(frozen=True, slots=True)
class Refclock:
    """`DRIVER PARAMETER[:OPTION]... [OPTION]...`; every line counts. Drivers are checked at start."""

    syntax: ClassVar[str] = "DRIVER PARAMETER[:OPTION]... [OPTION]..."
    options: ClassVar[OptionTable] = REFCLOCK_OPTIONS

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        if len(line.words) < 3:
            raise could_not_parse(line)
        parameter, *driver_options = line.words[2].removesuffix(":").split(":")
        clock = RefclockConfig(line.words[1], parameter, tuple(driver_options), where=line.where)
        with _told_apart(line):
            clock = read_refclock_options(Scanner(line.words[3:]), clock, draft.unusable(line))
        draft.add(fields[0], clock)


@dataclass(frozen=True, slots=True)
class Local:
    """Options; the last line counts with all of its options."""

    syntax: ClassVar[str] = "[OPTION]..."
    options: ClassVar[OptionTable] = LOCAL_OPTIONS

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        with _told_apart(line):
            draft.values[fields[0]] = read_local_options(Scanner(line.words[1:]), draft.unusable(line))


@dataclass(frozen=True, slots=True)
class KernelClockKind:
    """Options; the last line counts with all of its options."""

    syntax: ClassVar[str] = "[OPTION]..."
    options: ClassVar[OptionTable] = KERNELCLOCK_OPTIONS

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        with _told_apart(line):
            draft.values[fields[0]] = read_kernelclock_options(Scanner(line.words[1:]), draft.unusable(line))


@dataclass(frozen=True, slots=True)
class Ratelimit:
    """Options; the last value of each option counts, over all lines."""

    interval: int
    options: OptionTable
    syntax: ClassVar[str] = "[OPTION]..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        table = limit_burst_as_chrony(self.options) if draft.strict else self.options
        current = draft.get(fields[0]) or RatelimitOptions(self.interval)
        with _told_as_one(line):
            scanner = Scanner(line.words[1:])
            draft.values[fields[0]] = read_ratelimit_options(table, scanner, current, draft.unusable(line))


@dataclass(frozen=True, slots=True)
class HwTimestamp:
    """`INTERFACE [OPTION]...`; every line counts. The interface may be a pattern of names."""

    syntax: ClassVar[str] = "INTERFACE [OPTION]..."
    options: ClassVar[OptionTable] = HWTIMESTAMP_OPTIONS

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        if len(line.words) < 2:
            raise could_not_parse(line)
        interface = HwTimestampOptions(line.words[1], where=line.where)
        if draft.strict and interface.is_pattern and interface.interface != "*":
            raise ConfigError(f"Could not enable HW timestamping on {interface.interface}", line.where)
        with _told_as_one(line):
            interface = read_hwtimestamp_options(Scanner(line.words[2:]), interface, draft.unusable(line))
        draft.add(fields[0], interface)


@dataclass(frozen=True, slots=True)
class DriftFileKind:
    """`FILE [interval SECONDS]`; the last line counts."""

    syntax: ClassVar[str] = "FILE [OPTION]..."
    options: ClassVar[OptionTable] = DRIFTFILE_OPTIONS

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        if len(line.words) < 2:
            raise could_not_parse(line)
        file = DriftFile(line.words[1])
        with _told_as_one(line):
            file, _ = read_options(DRIFTFILE_OPTIONS, Scanner(line.words[2:]), file, draft.unusable(line))
        draft.values[fields[0]] = DriftFile(file.path, max(file.interval_s, 0.0))
