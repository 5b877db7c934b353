"""How single values are printed: chronyc's units and words, for people and for CSV.

Every kind has two functions, text and CSV, in `KINDS`. Percent formats are C's; Python rounds them the same
way (to even, on the binary value).
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ntpd_fast.monitor.codec.layout import NS_PER_S
from ntpd_fast.monitor.codec.replies import NEVER, UNKNOWN_INTERVAL

_DAY_S = 86400
_YEAR_DAYS = 365
# Below so many seconds the value is printed in a unit of which a second has so many, with that suffix.
_OFFSET_UNITS = (
    (9999.5e-9, 1e9, "ns"),
    (9999.5e-6, 1e6, "us"),
    (9999.5e-3, 1e3, "ms"),
)
# The same, with units of so many seconds.
_LONG_OFFSET_UNITS = (
    (99999.5, 1, "s"),
    (99999.5 * 60, 60, "m"),
    (99999.5 * 3600, 3600, "h"),
    (99999.5 * _DAY_S, _DAY_S, "d"),
)
_FREQUENCY_WIDE = 99999.5

LEAP_WORDS = ("Normal", "Insert second", "Delete second", "Not synchronised")
_LEAP_LETTERS = "N+-?"


def ago(seconds: int) -> str:
    """Seconds since something, in 4 columns."""
    if seconds == NEVER:
        return "   -"
    if seconds < 1200:
        return f"{seconds:4d}"
    if seconds < 36000:
        return f"{seconds // 60:3d}m"
    if seconds < 345600:
        return f"{seconds // 3600:3d}h"
    days = seconds // _DAY_S
    return f"{days:3d}d" if days <= 999 else f"{days // _YEAR_DAYS:3d}y"


def offset(value_s: float) -> str:
    """A magnitude of seconds in 6 columns."""
    return _offset(abs(value_s), abs(value_s), "")


def signed_offset(value_s: float) -> str:
    """Seconds with a sign, in 7 columns."""
    return _offset(value_s, abs(value_s), "+")


def _offset(value_s: float, magnitude_s: float, flag: str) -> str:
    width = 5 if flag else 4
    for below, per_second, suffix in _OFFSET_UNITS:
        if magnitude_s < below:
            return f"{value_s * per_second:{flag}{width}.0f}{suffix}"
    if magnitude_s < 999.5:
        return f"{value_s:{flag}{width + 1}.1f}s"
    for below, unit_s, suffix in _LONG_OFFSET_UNITS:
        if magnitude_s < below:
            return f"{value_s / unit_s:{flag}{width + 1}.0f}{suffix}"
    return f"{value_s / (_DAY_S * _YEAR_DAYS):{flag}{width + 1}.0f}y"


def frequency(ppm: float) -> str:
    return f"{ppm:10.3f}" if abs(ppm) < _FREQUENCY_WIDE else f"{ppm:10.0f}"


def signed_frequency(ppm: float) -> str:
    return f"{ppm:+10.3f}" if abs(ppm) < _FREQUENCY_WIDE else f"{ppm:+10.0f}"


def interval(log2_s: int) -> str:
    """An interval of the client list."""
    return " -" if log2_s >= UNKNOWN_INTERVAL else f"{log2_s:2d}"


def offset_words(value_s: float) -> str:
    return f"{abs(value_s):.9f} seconds {'slow' if value_s > 0.0 else 'fast'}"


def frequency_words(ppm: float) -> str:
    return f"{abs(ppm):.3f} ppm {'fast' if ppm > 0.0 else 'slow'}"


def _calendar(form: str, time_ns: int) -> str | None:
    """UTC by strftime; None for a time beyond any calendar."""
    try:
        return time.strftime(form, time.gmtime(time_ns // NS_PER_S))
    except (OverflowError, OSError):
        return None


def date(time_ns: int) -> str:
    return _calendar("%a %b %d %H:%M:%S %Y", time_ns) or ""


def timestamp(time_ns: int) -> str:
    """Seconds of the Unix epoch with nine decimals."""
    seconds, nanoseconds = divmod(time_ns, NS_PER_S)
    return f"{seconds}.{nanoseconds:09d}"


def date_time(time_ns: int) -> str:
    return _calendar("%Y-%m-%d %H:%M:%S", time_ns) or "INVALID    INVALID "


def rfc3339(time_ns: int) -> str | None:
    """With nanoseconds; None for a time beyond any calendar."""
    second = _calendar("%Y-%m-%dT%H:%M:%S", time_ns)
    return None if second is None else f"{second}.{time_ns % NS_PER_S:09d}Z"


def leap_words(leap: int) -> str:
    return LEAP_WORDS[leap] if leap < len(LEAP_WORDS) else "Invalid"


def leap_letter(leap: int) -> str:
    return _LEAP_LETTERS[leap] if leap < len(_LEAP_LETTERS) else "?"


def refid_text(ref_id: int) -> str:
    """The printable characters of a reference ID."""
    return "".join(chr(byte) for byte in ref_id.to_bytes(4, "big") if 0x20 <= byte <= 0x7E)


def hex_id(ref_id: int) -> str:
    return f"{ref_id:08X}"


def yes_no(value: bool) -> str:
    return "Yes" if value else "No"


def yes_no_letter(value: bool) -> str:
    return "Y" if value else "N"


Formatter = Callable[[Any], str]


class Kind(NamedTuple):
    """Both forms of a value."""

    text: Formatter
    csv: Formatter


KINDS: dict[str, Kind] = {
    "AGO": Kind(ago, "%u".__mod__),
    "OFF": Kind(offset, "%.9f".__mod__),
    "SOFF": Kind(signed_offset, "%.9f".__mod__),
    "FREQ": Kind(frequency, "%.3f".__mod__),
    "SFREQ": Kind(signed_frequency, "%.3f".__mod__),
    "INTERVAL": Kind(interval, "%d".__mod__),
    "OFFSETWORDS": Kind(offset_words, "%.9f".__mod__),
    "FREQWORDS": Kind(frequency_words, "%.3f".__mod__),
    "DATE": Kind(date, timestamp),
    "DATETIME": Kind(date_time, date_time),
    "LEAP": Kind(leap_words, leap_words),
    "LEAPLETTER": Kind(leap_letter, leap_words),
    "REFID": Kind(hex_id, hex_id),
    "YESNO": Kind(yes_no, yes_no),
    "YN": Kind(yes_no_letter, yes_no_letter),
}
