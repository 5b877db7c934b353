"""What this build of the daemon can do, as the feature list that scripts read from `-v` and from the first log line.

The names are chrony's. A part that is added turns its row to True.
"""

from __future__ import annotations

from typing import Final

FEATURES: Final[tuple[tuple[str, bool], ...]] = (
    ("CMDMON", True),
    ("REFCLOCK", False),
    ("RTC", False),
    ("PRIVDROP", True),
    ("SCFILTER", True),
    ("SIGND", True),
    ("NTS", True),
    ("SECHASH", True),
    ("IPV6", True),
    ("DEBUG", True),
)


def feature_list() -> str:
    """`+NAME` or `-NAME` for each."""
    return " ".join(f"{'+' if present else '-'}{name}" for name, present in FEATURES)
