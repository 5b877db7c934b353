"""Kinds of directives with plain arguments, and what every kind works on.

A kind is given the line, the draft of the configuration and the fields of its row in the table. It checks
the number of words the way chrony does, because tools compare the texts of errors. A value that cannot mean
anything (nan, an infinite correction) leaves the field as it is and is told in a warning.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from ntpd_fast._record import dataclass, field
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.lexer import Line
from ntpd_fast.config.model import Config, IPAddress, LogKind
from ntpd_fast.config.paths import DIRECTORIES_MAX, expand, files_in, is_pattern
from ntpd_fast.config.resolve import Resolver, parse_address
from ntpd_fast.config.words import NotANumber, Scanner, real_prefix, strict_int, u32_prefix

WARNINGS_MAX = 100
_DEFAULTS = Config()


@dataclass(slots=True)
class Draft:
    """A configuration in the making: what the lines so far said, and what a line may ask for."""

    resolver: Resolver
    include: Callable[[str], None]
    strict: bool = False
    """Refuse what chrony would refuse."""
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def get(self, name: str) -> Any:
        return self.values.get(name, getattr(_DEFAULTS, name))

    def add(self, name: str, value: object) -> None:
        self.values.setdefault(name, []).append(value)

    def warn(self, text: str) -> None:
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(text)
        elif len(self.warnings) == WARNINGS_MAX:
            self.warnings.append("More warnings about the configuration are not shown")

    def unusable(self, line: Line) -> Callable[[str], None]:
        """What to call with the name of an option whose value says nothing."""
        place = f"in {line.words[0]} directive {line.where}"
        return lambda option: self.warn(f"Ignored value of {option} option {place}")


class Kind(Protocol):
    """How the words of a line reach the model. `syntax` is what the manual shows for them."""

    @property
    def syntax(self) -> str: ...

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None: ...


def could_not_parse(line: Line) -> ConfigError:
    return ConfigError(f"Could not parse {line.words[0]} directive", line.where)


def invalid(what: str, line: Line) -> ConfigError:
    """`Invalid option|value in NAME directive`."""
    return ConfigError(f"Invalid {what} in {line.words[0]} directive", line.where)


def missing_arguments(line: Line) -> ConfigError:
    return ConfigError(f"Missing arguments for {line.words[0]} directive", line.where)


def check_count(line: Line, low: int, high: int | None = None) -> None:
    """Refuse a line with fewer than `low` or more than `high` (default: `low`) arguments."""
    count = len(line.words) - 1
    if count < low:
        raise missing_arguments(line)
    if count > (low if high is None else high):
        raise ConfigError(f"Too many arguments for {line.words[0]} directive", line.where)


def unusable_value(line: Line, draft: Draft) -> None:
    draft.warn(f"Ignored value in {line.words[0]} directive {line.where}")


@dataclass(frozen=True, slots=True)
class Flag:
    """No argument; the line itself says yes."""

    syntax: ClassVar[str] = ""

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 0)
        draft.values[fields[0]] = True


@dataclass(frozen=True, slots=True)
class Int:
    """One strict integer within a range; the last line counts."""

    low: int
    high: int = 2**31 - 1
    syntax: str = "N"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1)
        try:
            value = strict_int(line.words[1])
        except NotANumber as error:
            raise could_not_parse(line) from error
        if not self.low <= value <= self.high:
            raise ConfigError(
                f"Invalid value {value} in {line.words[0]} directive (min {self.low}, max {self.high})",
                line.where,
            )
        draft.values[fields[0]] = value


@dataclass(frozen=True, slots=True)
class Real:
    """One number, limited to low..high; the last line counts. `convert` gives it its meaning."""

    syntax: str
    low: float = -math.inf
    high: float = math.inf
    convert: Callable[[float], float | None] | None = None

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1)
        try:
            value, _ = real_prefix(line.words[1])
        except NotANumber as error:
            raise could_not_parse(line) from error
        if math.isnan(value):
            unusable_value(line, draft)
            return
        value = min(max(value, self.low), self.high)
        draft.values[fields[0]] = self.convert(value) if self.convert is not None else value


@dataclass(frozen=True, slots=True)
class Word:
    """One word; the last line counts. `off` is the word that stands for none at all."""

    syntax: str
    off: str | None = None

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1)
        draft.values[fields[0]] = "" if line.words[1] == self.off else line.words[1]


@dataclass(frozen=True, slots=True)
class AddedWord:
    """One word a line; every line counts."""

    syntax: str

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1)
        draft.add(fields[0], line.words[1])


@dataclass(frozen=True, slots=True)
class AddedWords:
    """Any number of words that belong together; every line counts."""

    syntax: str

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        draft.add(fields[0], tuple(line.words[1:]))


def _address_of(line: Line, fields: tuple[str, ...]) -> tuple[str, IPAddress] | None:
    """The address of a line that has no other words, and the field of its family; None when it is no address."""
    check_count(line, 1)
    address = parse_address(line.words[1])
    return None if address is None else (fields[0 if address.version == 4 else 1], address)


@dataclass(frozen=True, slots=True)
class Address:
    """One IP address; the last line of each family counts. Fields: IPv4, IPv6, and a path if allowed."""

    syntax: ClassVar[str] = "ADDRESS"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        found = _address_of(line, fields)
        if found is not None:
            name, address = found
            draft.values[name] = address
        elif len(fields) == 3 and line.words[1].startswith("/"):
            draft.values[fields[2]] = "" if line.words[1] == "/" else line.words[1]
        else:
            raise could_not_parse(line)


@dataclass(frozen=True, slots=True)
class AddedAddress:
    """One IP address a line; every line counts, up to `most` addresses of each family. Fields: IPv4, IPv6."""

    most: int
    syntax: ClassVar[str] = "ADDRESS"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        found = _address_of(line, fields)
        if found is None:
            raise could_not_parse(line)
        name, address = found
        if address in draft.get(name):
            return
        if len(draft.get(name)) == self.most:
            raise ConfigError(f"More than {self.most} addresses in {line.words[0]} directives", line.where)
        draft.add(name, address)


@dataclass(frozen=True, slots=True)
class Mode:
    """One of the names of an enumeration in any case; the last line counts."""

    names: type[StrEnum]

    @property
    def syntax(self) -> str:
        return "|".join(self.names)

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        try:
            (word,) = line.words[1:]
            draft.values[fields[0]] = self.names(word.lower())
        except ValueError as error:
            raise could_not_parse(line) from error


@dataclass(frozen=True, slots=True)
class Names:
    """Any number of names of an enumeration in any case; the last list counts."""

    names: type[StrEnum]
    syntax: ClassVar[str] = "[NAME]..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        try:
            draft.values[fields[0]] = frozenset(self.names(word.lower()) for word in line.words[1:])
        except ValueError as error:
            raise could_not_parse(line) from error


@dataclass(frozen=True, slots=True)
class Logs:
    """Any number of names of logs, in lower case only; every line counts."""

    syntax: ClassVar[str] = "[NAME]..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        try:
            logs = {LogKind(word) for word in line.words[1:]}
        except ValueError as error:
            raise ConfigError("Invalid log parameter", line.where) from error
        if LogKind.RAWMEASUREMENTS in logs:
            logs.add(LogKind.MEASUREMENTS)
        draft.values[fields[0]] = draft.get(fields[0]) | logs


@dataclass(frozen=True, slots=True)
class Ints:
    """Any number of integers; the last list counts."""

    syntax: ClassVar[str] = "[ID]..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        scanner = Scanner(line.words[1:])
        values: list[int] = []
        try:
            while scanner.more():
                values.append(scanner.int_value())
        except NotANumber as error:
            raise could_not_parse(line) from error
        draft.values[fields[0]] = tuple(values)


@dataclass(frozen=True, slots=True)
class UnsignedPrefix:
    """One number of bytes, of which a negative one means no limit; what follows the digits is ignored."""

    syntax: ClassVar[str] = "BYTES"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1)
        scanner = Scanner(line.words[1:])
        try:
            value = scanner.long_value()
        except NotANumber as error:
            raise could_not_parse(line) from error
        draft.values[fields[0]] = value % 2**64


@dataclass(frozen=True, slots=True)
class Obsolete:
    """A name of the past, with any arguments. `told` is whether the reader hears of it."""

    told: bool = True
    syntax: ClassVar[str] = "[WORD]..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        if self.told:
            draft.warn(f"{line.words[0]} directive is no longer supported")


def _include_all(paths: Iterable[str], draft: Draft) -> None:
    for path in paths:
        if os.path.isdir(path):
            draft.warn(f"Ignored directory {path}")
        else:
            draft.include(path)


@dataclass(frozen=True, slots=True)
class Include:
    """The lines of the files a pattern stands for, here."""

    syntax: ClassVar[str] = "PATTERN"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1)
        if not is_pattern(line.words[1]):
            draft.include(line.words[1])
            return
        _include_all(expand(line.words[1]), draft)


@dataclass(frozen=True, slots=True)
class ConfDir:
    """The lines of the `*.conf` files of directories, here."""

    syntax: ClassVar[str] = "DIRECTORY..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        if not 1 <= len(line.words) - 1 <= DIRECTORIES_MAX:
            raise could_not_parse(line)
        _include_all(files_in(line.words[1:], ".conf"), draft)


@dataclass(frozen=True, slots=True)
class SetAndPath:
    """`[SET] PATH`: certificates added to a numbered set; every line counts."""

    make: Callable[[str, int], object]
    syntax: ClassVar[str] = "[SET] PATH"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 1, 2)
        set_id = 0
        if len(line.words) == 3:
            try:
                set_id, _ = u32_prefix(line.words[1])
            except NotANumber as error:
                raise could_not_parse(line) from error
        draft.add(fields[0], self.make(line.words[-1], set_id))
