"""Dates as people type them, for `settime`: the grammar of the classic getdate.

A date is a list of items in any order: a time (`16:30:05`, `4:30pm`, `16:30 +0100`), a zone (`UTC`, `EST`, a military
letter), a date (`Nov 21, 2015`, `21 Nov 2015`, `2015-11-21`, `11/21/2015`, `20151121`), a day of the week (`Sat`,
`2 Sat`), shifts (`tomorrow`, `5 minutes ago`, `next week`). At most one of each but the shifts. Days and months
beyond the calendar run over into the next, as mktime has it. Local time unless a zone is given; whole seconds.

One thing is not as in the original: `HH:MM +hhmm` has 0 seconds instead of those of the present minute.
"""

import re
import time
from typing import NamedTuple

_TOKEN = re.compile(r"\s*(?:\([^()]*\)\s*)*(?:([+-]?)(\d+)|([A-Za-z.]+)|(.))", re.ASCII)
_INTEGER_MAX = (1 << 31) - 1
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_OTHER_NAMES = {
    "sept": ("month", 9),
    "tues": ("day", 2),
    "wednes": ("day", 3),
    "thur": ("day", 4),
    "thurs": ("day", 4),
}
_MERIDIANS = {"am": 0, "a.m.": 0, "pm": 12, "p.m.": 12}
# Unit: index into the shift (years, months, days, hours, minutes, seconds) and factor.
_UNITS = {
    "year": (0, 1),
    "month": (1, 1),
    "fortnight": (2, 14),
    "week": (2, 7),
    "day": (2, 1),
    "hour": (3, 1),
    "minute": (4, 1),
    "min": (4, 1),
    "second": (5, 1),
    "sec": (5, 1),
}
_SHIFTS = {"tomorrow": (2, 1), "yesterday": (2, -1), "today": (4, 0), "now": (4, 0), "this": (4, 0)}
_ORDINALS = {
    "last": -1,
    "next": 1,
    "first": 1,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "eleventh": 11,
    "twelfth": 12,
}
# Hours ahead of UTC; with "*" it is daylight-saving time, which is one hour more.
_ZONES = {
    "gmt": "0", "ut": "0", "utc": "0", "wet": "0", "bst": "0*", "wat": "-1", "at": "-2", "ast": "-4", "adt": "-4*",
    "est": "-5", "edt": "-5*", "cst": "-6", "cdt": "-6*", "mst": "-7", "mdt": "-7*", "pst": "-8", "pdt": "-8*",
    "yst": "-9", "ydt": "-9*", "hst": "-10", "hdt": "-10*", "cat": "-10", "ahst": "-10", "nt": "-11", "idlw": "-12",
    "cet": "1", "met": "1", "mewt": "1", "mest": "1*", "mesz": "1*", "swt": "1", "sst": "1*", "fwt": "1", "fst": "1*",
    "eet": "2", "bt": "3", "wast": "7", "wadt": "7*", "cct": "8", "jst": "9", "east": "10", "eadt": "10*", "gst": "10",
    "nzt": "12", "nzst": "12", "nzdt": "12*", "idle": "12",
}  # fmt: skip
_MILITARY = {
    **{letter: -hours for hours, letter in enumerate("abcdefghiklm", 1)},
    **{letter: hours for hours, letter in enumerate("nopqrstuvwxy", 1)},
    "z": 0,
}


class _NotADate(Exception):
    """The text does not follow the grammar."""


class _Token(NamedTuple):
    kind: str
    value: int = 0
    value2: int = 0


def parse_date(text: str, now_s: float | None = None) -> int | None:
    """Seconds since the Unix epoch, or None when it cannot be understood. `now_s` is the present, for tests."""
    try:
        items = _Parser(_tokens(text))
        items.parse()
        return items.seconds(int(time.time() if now_s is None else now_s))
    except (_NotADate, OverflowError):
        return None


def _tokens(text: str) -> list[_Token]:
    tokens = []
    text = re.sub(r"\s*(?:\([^()]*\)\s*)*$", "", text)
    for sign, digits, word, other in _TOKEN.findall(text):
        if digits:
            number = int(digits)
            if number > _INTEGER_MAX:
                raise _NotADate
            if sign:
                tokens.append(_Token("signed", -number if sign == "-" else number))
            else:
                tokens.append(_Token("number", number))
        elif word:
            tokens.append(_word(word.lower()))
        elif other not in "+-":
            tokens.append(_Token(other))
    return tokens


def _word(word: str) -> _Token:
    if word in _MERIDIANS:
        return _Token("meridian", _MERIDIANS[word])
    if word in _OTHER_NAMES:
        return _Token(*_OTHER_NAMES[word])
    abbreviation = word[:3] if len(word) == 3 or (len(word) == 4 and word[3] == ".") else ""
    for kind, names, first in (("month", _MONTHS, 1), ("day", _DAYS, 0)):
        for number, name in enumerate(names, first):
            if word == name or (abbreviation and name.startswith(abbreviation)):
                return _Token(kind, number)
    if word in _ZONES:
        hours, is_dst, _ = _ZONES[word].partition("*")
        return _Token("dstzone" if is_dst else "zone", int(hours) * 60)
    if word == "dst":
        return _Token("dst")
    for unit in (word, word.removesuffix("s")):
        if unit in _UNITS:
            return _Token("unit", *_UNITS[unit])
    if word in _SHIFTS:
        return _Token("shift", *_SHIFTS[word])
    if word in _ORDINALS:
        return _Token("number", _ORDINALS[word])
    if word == "ago":
        return _Token("ago")
    if word in _MILITARY:
        return _Token("zone", _MILITARY[word] * 60)
    bare = word.replace(".", "")
    if bare != word and bare in _ZONES:
        return _word(bare)
    raise _NotADate


class _Parser:
    """Collects the items; every method that parses consumes the tokens it understood."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._time: tuple[int, int, int, int | None] | None = None
        """Hour, minute, second; and 0 (am), 12 (pm) or None (24 hours)."""
        self._date: tuple[int | None, int, int] | None = None
        self._day: tuple[int, int] | None = None
        """Day of the week (Sunday 0) and which one."""
        self._zone_minutes: int | None = None
        self._shift = [0] * 6
        self._has_shift = False

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].kind if at < len(self._tokens) else ""

    def _take(self, *kinds: str) -> _Token:
        if self._peek() not in kinds:
            raise _NotADate
        self._at += 1
        return self._tokens[self._at - 1]

    def parse(self) -> None:
        while kind := self._peek():
            if kind == "number":
                self._number()
            elif kind == "month":
                self._month_first()
            elif kind == "day":
                self._set_day(self._take("day").value, 1)
                if self._peek() == ",":
                    self._take(",")
            elif kind in ("zone", "dstzone"):
                self._zone()
            else:
                self._shift_item()

    def _number(self) -> None:
        following = self._peek(1)
        if following in ("meridian", ":"):
            self._clock()
        elif following == "/":
            self._slashes()
        elif following == "signed":
            year, month, day = (self._take("number", "signed").value for _ in range(3))
            self._set_date(year, abs(month), abs(day))
        elif following == "month":
            self._day_first()
        elif following == "day":
            ordinal = self._take("number").value
            self._set_day(self._take("day").value, ordinal)
        elif following == "unit":
            self._shift_item()
        else:
            self._bare(self._take("number").value)

    def _clock(self) -> None:
        hour, minute, second = self._take("number").value, 0, 0
        if self._peek() == ":":
            self._take(":")
            minute = self._take("number").value
            if self._peek() == ":":
                self._take(":")
                second = self._take("number").value
            if self._peek() == "signed":
                offset = self._take("signed").value
                hours, minutes = divmod(abs(offset), 100)
                self._set_zone((hours * 60 + minutes) * (-1 if offset < 0 else 1))
                self._set_time(hour, minute, second, None)
                return
        meridian = self._take("meridian").value if self._peek() == "meridian" else None
        self._set_time(hour, minute, second, meridian)

    def _slashes(self) -> None:
        first = self._take("number").value
        self._take("/")
        second = self._take("number").value
        if self._peek() != "/":
            self._set_date(None, first, second)
            return
        self._take("/")
        third = self._take("number").value
        if first >= 1000:
            self._set_date(first, second, third)
        else:
            self._set_date(third, first, second)

    def _day_first(self) -> None:
        day = self._take("number").value
        month = self._take("month").value
        year = abs(self._take("number", "signed").value) if self._peek() in ("number", "signed") else None
        self._set_date(year, month, day)

    def _month_first(self) -> None:
        month = self._take("month").value
        day = self._take("number").value
        year = None
        if self._peek() == ",":
            self._take(",")
            year = self._take("number").value
        self._set_date(year, month, day)

    def _zone(self) -> None:
        token = self._take("zone", "dstzone")
        minutes = token.value
        if token.kind == "dstzone":
            minutes += 60
        elif self._peek() == "dst":
            self._take("dst")
            minutes += 60
        self._set_zone(minutes)

    def _shift_item(self) -> None:
        if self._peek() == "shift":
            token = self._take("shift")
            count = token.value2
        else:
            number = self._take("number", "signed").value if self._peek() in ("number", "signed") else 1
            token = self._take("unit")
            count = number * token.value2
        self._shift[token.value] += count
        self._has_shift = True
        if self._peek() == "ago":
            self._take("ago")
            self._shift = [-value for value in self._shift]

    def _bare(self, number: int) -> None:
        """A number on its own: the year still missing, a date in digits, or a time."""
        if self._time is not None and self._date is not None and not self._has_shift:
            self._date = (number, *self._date[1:])
        elif number > 10000:
            self._set_date(number // 10000, number // 100 % 100, number % 100)
        elif number < 100:
            self._set_time(number, 0, 0, None)
        else:
            self._set_time(number // 100, number % 100, 0, None)

    def _set_time(self, hour: int, minute: int, second: int, meridian: int | None) -> None:
        if self._time is not None:
            raise _NotADate
        self._time = hour, minute, second, meridian

    def _set_date(self, year: int | None, month: int, day: int) -> None:
        if self._date is not None:
            raise _NotADate
        self._date = year, month, day

    def _set_day(self, day: int, ordinal: int) -> None:
        if self._day is not None:
            raise _NotADate
        self._day = day, ordinal

    def _set_zone(self, minutes: int) -> None:
        if self._zone_minutes is not None:
            raise _NotADate
        self._zone_minutes = minutes

    def seconds(self, now_s: int) -> int:
        now = time.localtime(now_s)
        year, month, day = now.tm_year, now.tm_mon, now.tm_mday
        if self._date is not None:
            given_year, month, day = self._date
            year = year if given_year is None else _full_year(given_year)
        if self._time is not None:
            hour, minute, second = _hour(self._time[0], self._time[3]), *self._time[1:3]
        elif self._has_shift and self._date is None and self._day is None:
            hour, minute, second = now.tm_hour, now.tm_min, now.tm_sec
        else:
            hour = minute = second = 0
        years, months, days, hours, minutes, seconds = self._shift
        clock = (hour, minute, second, 0, 0, -1)
        start = time.mktime((year + years, month + months, day + days, *clock))
        if self._day is not None and self._date is None:
            weekday, ordinal = self._day
            local = time.localtime(start)
            ahead = (weekday - (local.tm_wday + 1)) % 7 + 7 * (ordinal - (ordinal > 0))
            start = time.mktime((local.tm_year, local.tm_mon, local.tm_mday + ahead, *clock))
        if self._zone_minutes is not None:
            start += time.localtime(start).tm_gmtoff - self._zone_minutes * 60
        return int(start) + (hours * 60 + minutes) * 60 + seconds


def _hour(hour: int, meridian: int | None) -> int:
    if meridian is None:
        if 0 <= hour <= 23:
            return hour
    elif 1 <= hour <= 12:
        return hour % 12 + meridian
    raise _NotADate


def _full_year(year: int) -> int:
    if year < 69:
        return year + 2000
    return year + 1900 if year < 100 else year
