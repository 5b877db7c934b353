"""Leap seconds from a file: a list of NIST or the IERS (`leapseclist`), or a "right" time zone (`leapsectz`).

Both become a table of moments at which TAI − UTC changed. A source that does not know the leap second of
June 2012 (and none in the following December) is told and ignored; an expired list is told once.
"""

from __future__ import annotations

import os
import struct
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap
from ntpd_fast.system.errors import why
from ntpd_fast.system.files import read_bounded
from ntpd_fast.system.messages import Log, Severity

DAY_S = 86_400
NTP_EPOCH_OFFSET_S = 2_208_988_800
TAI_OFFSET_1972_S = 10
LOOKUP_INTERVAL_S = DAY_S // 2

FILE_MAX_BYTES = 1 << 20
ENTRIES_MAX = 10_000

# noon of the last days of June and December 2012, and the start of 1972 (UTC)
JUNE_2012_S = 1_341_057_600
DECEMBER_2012_S = 1_356_955_200
START_1972_S = 63_072_000

ZONE_DIRECTORIES = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")
"""Where time zones are: what `zoneinfo` looks through, without the time it takes to load."""


class LeapSourceError(Exception):
    """The file cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class LeapTable:
    """Changes of TAI − UTC."""

    changes: tuple[tuple[int, int], ...]
    """(Unix time of the first second with the new offset, TAI − UTC in seconds), ascending."""
    expires_s: int | None = None
    """Unix time until which the table is complete."""

    def lookup(self, utc_s: int) -> tuple[Leap, int]:
        """The leap second at the end of the UTC day of `utc_s`, and TAI − UTC at `utc_s`."""
        times = [change[0] for change in self.changes]
        index = bisect_right(times, utc_s)
        offset = self.changes[index - 1][1] if index else 0
        midnight = (utc_s // DAY_S + 1) * DAY_S
        if index and index < len(times) and times[index] == midnight:
            following = self.changes[index][1] - offset
            if following == 1:
                return Leap.INSERT, offset
            if following == -1:
                return Leap.DELETE, offset
        return Leap.NORMAL, offset

    def is_plausible(self) -> bool:
        """Whether it knows the leap second of June 2012 and none in December."""
        june, december = self.lookup(JUNE_2012_S), self.lookup(DECEMBER_2012_S)
        return june == (Leap.INSERT, 34) and december == (Leap.NORMAL, 35)


def parse_leap_seconds_list(text: str) -> LeapTable:
    """A `leap-seconds.list`: `#$` update, `#@` expiry (both required), lines `SECONDS OFFSET` since 1900.

    Raises `LeapSourceError`.
    """
    updated = expires = None
    changes: list[tuple[int, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.startswith("#$"):
                updated = int(line[2:].split()[0])
            elif line.startswith("#@"):
                expires = int(line[2:].split()[0]) - NTP_EPOCH_OFFSET_S
            elif line.strip() and not line.lstrip().startswith("#"):
                words = line.split("#", 1)[0].split()
                changes.append((int(words[0]) - NTP_EPOCH_OFFSET_S, int(words[1])))
        except (ValueError, IndexError) as error:
            raise LeapSourceError(f"line {number}: {line[:80]!r} is not understood") from error
        if len(changes) > ENTRIES_MAX:
            raise LeapSourceError(f"more than {ENTRIES_MAX} entries")
    if updated is None or expires is None:
        raise LeapSourceError("no time of update or expiry")
    return LeapTable(_ascending(changes), expires)


def parse_tzif_leaps(data: bytes) -> LeapTable:
    """The leap second records of a TZif file (RFC 9636). Raises `LeapSourceError`."""
    try:
        version, counts = _tzif_header(data, 0)
        offset, time_format = 44, ">li"
        if version >= b"2":
            # the first block holds 32-bit data for old readers
            utc, std, leap, transitions, types, chars = counts
            offset += transitions * 5 + types * 6 + chars + leap * 8 + std + utc
            _, counts = _tzif_header(data, offset)
            offset, time_format = offset + 44, ">qi"
        _, _, leap, transitions, types, chars = counts
        offset += transitions * ((8 if time_format == ">qi" else 4) + 1) + types * 6 + chars
        if leap > ENTRIES_MAX:
            raise LeapSourceError(f"more than {ENTRIES_MAX} entries")
        size = struct.calcsize(time_format)
        changes: list[tuple[int, int]] = []
        previous = 0
        for index in range(leap):
            occurrence, correction = struct.unpack_from(time_format, data, offset + index * size)
            # records count the leap seconds before them; a negative one comes a second before midnight
            posix_s = occurrence - previous
            midnight_s = -(-posix_s // DAY_S) * DAY_S
            if correction == previous and index == leap - 1:
                # version 4: the table ends here, there is no leap second
                break
            if midnight_s - posix_s > 1:
                raise LeapSourceError("a leap second within a day")
            changes.append((midnight_s, TAI_OFFSET_1972_S + correction))
            previous = correction
    except struct.error as error:
        raise LeapSourceError("cut off") from error
    if not changes:
        raise LeapSourceError("no leap seconds")
    start = START_1972_S
    return LeapTable(_ascending([(start, TAI_OFFSET_1972_S), *changes]))


def _tzif_header(data: bytes, offset: int) -> tuple[bytes, Sequence[int]]:
    magic, version = struct.unpack_from(">4sc", data, offset)
    if magic != b"TZif":
        raise LeapSourceError("not a time zone file")
    return version, struct.unpack_from(">6L", data, offset + 20)


def _ascending(changes: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    if any(after[0] <= before[0] for before, after in pairwise(changes)):
        raise LeapSourceError("entries out of order")
    return tuple(changes)


def _read(path: str) -> bytes:
    try:
        return read_bounded(path, FILE_MAX_BYTES)[0]
    except OSError as error:
        raise LeapSourceError(why(error)) from error
    except ValueError as error:
        raise LeapSourceError(str(error)) from error


class LeapSource(Protocol):
    """Where leap seconds come from."""

    def load(self) -> LeapTable:
        """Read the table. Raises `LeapSourceError`."""

    @property
    def using(self) -> str:
        """What to log when it is used."""

    @property
    def failed(self) -> str:
        """What to log when it is not."""

    @property
    def expired(self) -> str:
        """What to log when it has no more to say."""


class LeapSecondsList:
    """The `leapseclist` directive."""

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> LeapTable:
        """Read the list. Raises `LeapSourceError`."""
        return parse_leap_seconds_list(_read(self.path).decode("ascii", "replace"))

    @property
    def using(self) -> str:
        """The line for the log."""
        return f"Using leap second list {self.path}"

    @property
    def failed(self) -> str:
        """The line for the log."""
        return f"Leap second list {self.path} failed check, ignoring"

    @property
    def expired(self) -> str:
        """The line for the log."""
        return f"Leap second list {self.path} needs update"


class RightTimeZone:
    """The `leapsectz` directive."""

    def __init__(self, name: str, search_path: Sequence[str] = ()) -> None:
        self.name = name
        self._search_path = tuple(search_path) or ZONE_DIRECTORIES

    def load(self) -> LeapTable:
        """Read the zone's file. Raises `LeapSourceError`."""
        name = self.name.removeprefix(":")
        if name.startswith("/"):
            return parse_tzif_leaps(_read(name))
        if ".." in name.split("/"):
            raise LeapSourceError("not a name of a time zone")
        for directory in self._search_path:
            path = os.path.join(directory, name)
            if os.path.isfile(path):
                return parse_tzif_leaps(_read(path))
        raise LeapSourceError("no such time zone")

    @property
    def using(self) -> str:
        """The line for the log."""
        return f"Using {self.name} timezone to obtain leap second data"

    @property
    def failed(self) -> str:
        """The line for the log."""
        return f"Timezone {self.name} failed leap second check, ignoring"

    @property
    def expired(self) -> str:
        """The line for the log."""
        return f"Timezone {self.name} needs update"


class LeapDb:
    """Looks leap seconds up, reading the source again at most every 12 hours."""

    def __init__(self, source: LeapSource, log: Log) -> None:
        self._source = source
        self._log = log
        self._table: LeapTable | None = None
        self._looked_up: int | None = None
        self._failure_told = False
        self._expiry_told: int | None = None
        self._result: tuple[Leap, int | None] = (Leap.NORMAL, None)

    @classmethod
    def open(cls, *, leapseclist: str | None, leapsectz: str | None, log: Log) -> LeapDb | None:
        """The first configured source that passes the check (the list is preferred), told in the log."""
        sources: list[LeapSource] = []
        if leapseclist is not None:
            sources.append(LeapSecondsList(leapseclist))
        if leapsectz is not None:
            sources.append(RightTimeZone(leapsectz))
        for source in sources:
            leap_db = cls(source, log)
            if leap_db.reload():
                log(Severity.INFO, source.using)
                return leap_db
            log(Severity.WARNING, source.failed)
        return None

    def reload(self) -> bool:
        """Read the source; False, keeping what was known, if it cannot be used."""
        try:
            table = self._source.load()
        except LeapSourceError:
            return False
        if not table.is_plausible():
            return False
        self._table = table
        return True

    def lookup(self, utc_s: int) -> tuple[Leap, int | None]:
        """The leap second of this UTC day and TAI − UTC (None where it is not known)."""
        interval = utc_s // LOOKUP_INTERVAL_S
        if interval != self._looked_up:
            if self._looked_up is not None:
                self._read_again()
            self._looked_up = interval
            self._result = self._look(utc_s)
        return self._result

    def _read_again(self) -> None:
        if self.reload():
            self._failure_told = False
        elif not self._failure_told:
            self._failure_told = True
            self._log(Severity.WARNING, self._source.failed)

    def tai_offset_s(self, utc_s: int) -> int | None:
        """TAI − UTC at any time, for clocks that keep TAI."""
        return self._table.lookup(utc_s)[1] or None if self._table is not None else None

    def _look(self, utc_s: int) -> tuple[Leap, int | None]:
        table = self._table
        if table is None:
            return Leap.NORMAL, None
        if table.expires_s is not None and utc_s >= table.expires_s and self._expiry_told != table.expires_s:
            self._expiry_told = table.expires_s
            self._log(Severity.WARNING, self._source.expired)
        leap, offset = table.lookup(utc_s)
        return leap, offset or None


def is_leap_day(utc_s: int) -> bool:
    """Whether a leap second may come at the end of this UTC day: 30 June or 31 December."""
    date = time.gmtime(utc_s)
    return (date.tm_mon, date.tm_mday) in ((6, 30), (12, 31))
