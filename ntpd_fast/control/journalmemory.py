"""Where the journal of commands (`journal`) is kept: memory that a control process leaves to the next.

Two versions, each its length and its bytes, behind the number of the one that counts.
"""

from __future__ import annotations

import os
import struct
from typing import Final

JOURNAL_BYTES: Final = 128 << 10
"""Room for some four thousand access rules, or three hundred sources."""

WORD: Final = struct.Struct("=I")
VERSION_BYTES: Final = WORD.size + JOURNAL_BYTES


def make_memory() -> int:
    """The descriptor of an empty journal. Raises OSError."""
    descriptor = os.memfd_create("ntpd-fast-journal", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, WORD.size + 2 * VERSION_BYTES)
    return descriptor


def is_empty(descriptor: int) -> bool:
    """Whether a journal has nothing in it."""
    (number,) = WORD.unpack(os.pread(descriptor, WORD.size, 0))
    return not any(os.pread(descriptor, WORD.size, WORD.size + number * VERSION_BYTES))
