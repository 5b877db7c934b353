"""Which 2³² seconds the era-less timestamps of NTP are taken to lie in.

The start is derived from the date of the release (or of the build, where SOURCE_DATE_EPOCH tells it) and never
from the clock, which may be anything when a machine boots.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

RELEASE_DATE_S = 1_767_225_600
"""Unix time of 2026-01-01."""

YEARS_BEFORE_RELEASE = 50
"""A clock that was never set (1 January 1970 and later) is still inside."""

_YEAR_S = 365 * 86400


def era_start_s(environ: Mapping[str, str] = os.environ) -> int:
    """Unix time at which the window of 2³² s starts; a SOURCE_DATE_EPOCH that is no number is ignored."""
    date = environ.get("SOURCE_DATE_EPOCH", "")
    released_s = int(date) if date.isascii() and date.isdecimal() else RELEASE_DATE_S
    return released_s - YEARS_BEFORE_RELEASE * _YEAR_S
