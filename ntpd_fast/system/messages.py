"""The channel by which sans-IO parts tell people something: a function of severity and text.

Where the lines go (stderr, a file, syslog) and from which severity on is decided where the daemon is
put together; the parts that speak only take a `Log`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable


class Severity(enum.IntEnum):
    """How bad it is, in rising order."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4
    """The last line before the daemon ends."""


Log = Callable[[Severity, str], None]
"""Takes one line without time, name or newline."""
