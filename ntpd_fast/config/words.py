"""Words and numbers of a configuration line, in the forms chrony.conf(5) has always accepted.

Three kinds of number exist side by side: strict integers (the whole word), numbers read from the front of
a word with the rest ignored, and numbers inside a list or after an option name, where the rest of the word
becomes the next word (`minpoll 5iburst`). Only ASCII digits are digits.
"""

from __future__ import annotations

import math
import re

from ntpd_fast._record import dataclass, field

INT_MIN = -(2**31)
INT_MAX = 2**31 - 1
U32_MAX = 2**32 - 1

_STRICT_INT = re.compile(r"[+-]?[0-9]+\Z")
_INT = re.compile(r"[+-]?[0-9]+")
_HEX = re.compile(r"[+-]?(?:0[xX])?([0-9a-fA-F]+)")
# "inf" begun but not finished ("infi") is no number; an exponent without digits is read and ignored.
_REAL = re.compile(
    r"(?P<sign>[+-]?)(?:"
    r"(?P<inf>inf(?:inity|(?!i)))"
    r"|(?P<nan>nan)"
    r"|0x(?P<hex>[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p(?P<hexexp>[+-]?[0-9]*))?"
    r"|(?!0x)(?P<dec>[0-9]+\.?[0-9]*|\.[0-9]+)(?:e(?P<decexp>[+-]?[0-9]*))?"
    r")",
    re.IGNORECASE,
)


class NotANumber(ValueError):
    """The word does not begin with a number of the wanted form."""


def strict_int(word: str) -> int:
    """A decimal integer that fills the word."""
    if _STRICT_INT.match(word) is None:
        raise NotANumber(word)
    return int(word)


def int_prefix(word: str, bits: int = 32) -> tuple[int, str]:
    """A decimal integer at the front of a word (held to signed `bits`), and the rest of the word."""
    match = _INT.match(word)
    if match is None:
        raise NotANumber(word)
    limit = 1 << (bits - 1)
    return min(max(int(match.group()), -limit), limit - 1), word[match.end() :]


def u32_prefix(word: str) -> tuple[int, str]:
    """An unsigned 32-bit decimal integer at the front of a word, and the rest of the word."""
    match = _INT.match(word)
    if match is None or not 0 <= int(match.group()) <= U32_MAX:
        raise NotANumber(word)
    return int(match.group()), word[match.end() :]


def hex_prefix(word: str) -> tuple[int, str]:
    """A hexadecimal number with or without 0x at the front of a word, and the rest of the word."""
    match = _HEX.match(word)
    if match is None:
        raise NotANumber(word)
    return int(match.group(1), 16), word[match.end() :]


def real_prefix(word: str) -> tuple[float, str]:
    """A floating-point number (also hexadecimal, inf, nan) at the front of a word, and the rest."""
    match = _REAL.match(word)
    if match is None:
        raise NotANumber(word)
    if match["inf"]:
        value = math.inf
    elif match["nan"]:
        value = math.nan
    elif match["hex"]:
        value = _hex_value(match["hex"], match["hexexp"] or "0")
    else:
        exponent = match["decexp"] or "0"
        value = float(f"{match['dec']}e{exponent if exponent not in '+-' else '0'}")
    return -value if match["sign"] == "-" else value, word[match.end() :]


def _hex_value(digits: str, exponent: str) -> float:
    try:
        return float.fromhex(f"0x{digits}p{exponent if exponent not in '+-' else '0'}")
    except OverflowError:
        return math.inf


@dataclass(slots=True)
class Scanner:
    """Reads words and numbers from the front; what follows a number in its word becomes the next word."""

    words: list[str]
    position: int = field(default=0)

    def word(self) -> str | None:
        """The next word, or None at the end."""
        if self.position >= len(self.words):
            return None
        self.position += 1
        return self.words[self.position - 1]

    def more(self) -> bool:
        return self.position < len(self.words)

    def _number_word(self) -> str:
        word = self.word()
        if word is None:
            raise NotANumber("")
        return word

    def _keep(self, rest: str) -> None:
        if rest:
            self.position -= 1
            self.words[self.position] = rest

    def int_value(self) -> int:
        value, rest = int_prefix(self._number_word())
        self._keep(rest)
        return value

    def long_value(self) -> int:
        """A decimal integer held to 64 bits."""
        value, rest = int_prefix(self._number_word(), bits=64)
        self._keep(rest)
        return value

    def u32_value(self) -> int:
        value, rest = u32_prefix(self._number_word())
        self._keep(rest)
        return value

    def hex_value(self) -> int:
        value, rest = hex_prefix(self._number_word())
        self._keep(rest)
        return value

    def real_value(self) -> float:
        value, rest = real_prefix(self._number_word())
        self._keep(rest)
        return value
