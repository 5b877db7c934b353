"""Values of JSON fields: what the protocol numbers, in words, and what it says by special numbers, as null."""

from typing import Any

from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.replies import NEVER, UNKNOWN_INTERVAL

from .formats import hex_id, refid_text, rfc3339

LEAPS = ("normal", "insert_second", "delete_second", "not_synchronised")
SELECT_OPTIONS = ("noselect", "prefer", "trust", "require")


def word(words: tuple[str, ...], number: int) -> str | int:
    """The word of a number, or the number where there is no word for it."""
    return words[number] if 0 <= number < len(words) else number


def leap(number: int) -> str | int:
    return word(LEAPS, number)


def address(value: Address) -> str | None:
    return str(value) if value.packed else None


def refid(value: int) -> dict[str, Any]:
    return {"hex": hex_id(value), "text": refid_text(value)}


def age_s(value: int) -> int | None:
    return None if value == NEVER else value


def interval_s(log2_s: int) -> float | None:
    """An interval of the client list, in seconds."""
    return None if log2_s >= UNKNOWN_INTERVAL else 2.0**log2_s


def utc(time_ns: int) -> str | None:
    return rfc3339(time_ns)


def letter(character: str) -> str | None:
    """A state letter; None where the daemon gave none that can be printed."""
    return character if character.isprintable() and character else None


def select_options(bits: int) -> list[str]:
    return [name for i, name in enumerate(SELECT_OPTIONS) if bits >> i & 1]
