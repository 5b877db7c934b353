"""Where the journal of commands (`journal`) is kept: memory that a control process leaves to the next.

Two versions, each its length and its bytes, behind the number of the one that counts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from typing import Final

from ntpd_fast._record import dataclass, field

JOURNAL_BYTES: Final = 128 << 10
"""Room for some three thousand access rules, or three hundred sources."""

WORD: Final = struct.Struct("=I")
VERSION_BYTES: Final = WORD.size + JOURNAL_BYTES


@dataclass(slots=True)
class Reloads:
    """How many the configuration has had, and which was the last to change a field of it. A new control has them from
    the supervisor: what a command has said on a subject before that is void, even if no control lived to forget it.
    """

    count: int = 0
    last: dict[str, int] = field(default_factory=dict)

    def add(self, changed: Collection[str]) -> None:
        """Another one, that has changed these fields."""
        self.count += 1
        self.last.update(dict.fromkeys(changed, self.count))


def make_memory() -> int:
    """The descriptor of an empty journal. Raises OSError."""
    descriptor = os.memfd_create("ntpd-fast-journal", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, WORD.size + 2 * VERSION_BYTES)
    return descriptor


def is_empty(descriptor: int) -> bool:
    """Whether a journal has nothing in it."""
    (number,) = WORD.unpack(os.pread(descriptor, WORD.size, 0))
    return not any(os.pread(descriptor, WORD.size, WORD.size + number * VERSION_BYTES))
