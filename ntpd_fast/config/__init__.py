"""The chrony.conf language: from files to a frozen model, and what can be said about a model.

`load` or `parse_lines` gives a `Config` (see `model`) or a `ConfigError`; `check_start` and `check_support`
say whether a daemon may start with it; `compare` says what changed between two. `printer` shows a file,
`read_sourcedirs` and `read_keyfile` read what it names.
"""

from __future__ import annotations

from ntpd_fast.config.diff import compare, compare_sources
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.keyfile import read_keyfile
from ntpd_fast.config.loader import load, parse_lines
from ntpd_fast.config.model import Config
from ntpd_fast.config.resolve import system_resolver
from ntpd_fast.config.sources import read_sourcedirs
from ntpd_fast.config.start import check_start
from ntpd_fast.config.support import check_support

__all__ = [
    "Config",
    "ConfigError",
    "check_start",
    "check_support",
    "compare",
    "compare_sources",
    "load",
    "parse_lines",
    "read_keyfile",
    "read_sourcedirs",
    "system_resolver",
]
