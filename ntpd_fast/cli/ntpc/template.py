"""Report lines as templates: literal text with slots in braces, printed as text or as CSV.

A slot is a percent format or the name of a kind from `formats.KINDS`; values are given in the order of the slots.
CSV is the same slots without the text between them, and percent formats without width and plus sign.
"""

from collections.abc import Sequence
from typing import Any

from .formats import KINDS, Formatter, Kind


def _kind(slot: str) -> Kind:
    if not slot.startswith("%"):
        return KINDS[slot]
    precision = slot.find(".")
    plain = "%" + (slot[precision:] if precision >= 0 else slot[-1])
    return Kind(slot.__mod__, plain.__mod__)


class Template:
    """A compiled template; `"{%-5s}: {AGO}"` takes two values."""

    __slots__ = ("_csv", "_literals", "_text")

    def __init__(self, template: str) -> None:
        first, *rest = template.split("{")
        self._literals = [first]
        self._text: list[Formatter] = []
        self._csv: list[Formatter] = []
        for part in rest:
            slot, _, literal = part.partition("}")
            kind = _kind(slot)
            self._text.append(kind.text)
            self._csv.append(kind.csv)
            self._literals.append(literal)

    def text(self, values: Sequence[Any]) -> str:
        pieces = [self._literals[0]]
        for formatter, value, literal in zip(self._text, values, self._literals[1:], strict=True):
            pieces.append(formatter(value))
            pieces.append(literal)
        return "".join(pieces)

    def csv(self, values: Sequence[Any]) -> str:
        return ",".join([formatter(value) for formatter, value in zip(self._csv, values, strict=True)])
