"""The chrony.conf language: from files to a frozen model, and what can be said about a model.

`load` or `parse_lines` gives a `Config` (see `model`) or a `ConfigError`; `check_start` and `check_support`
say whether a daemon may start with it; `compare` says what changed between two.
"""

from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.loader import load, parse_lines
from ntpd_fast.config.model import Config

__all__ = ["Config", "ConfigError", "load", "parse_lines"]
