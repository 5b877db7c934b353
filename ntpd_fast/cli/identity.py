"""Who we are: the name we were started by, and the paths that go with it.

Started as `chronyd` (a link), or with chrony's own configuration file, the daemon uses chrony's names and paths, so
that every tool around it finds what it looks for; otherwise its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from ntpd_fast._record import dataclass

OWN_NAME: Final = "ntpd-fast"
CHRONY_NAME: Final = "chronyd"
OWN_CONFIG: Final = "/etc/ntpd-fast.conf"
CHRONY_CONFIGS: Final = ("/etc/chrony.conf", "/etc/chrony/chrony.conf")


@dataclass(frozen=True, slots=True)
class Identity:
    """Name for messages, and the defaults of `-f`, `pidfile`, `bindcmdaddress` and `user` (the first that exists)."""

    name: str
    config_file: str
    pidfile: str
    command_socket: str
    users: tuple[str, ...]


def identify(argv0: str, config_file: str | None = None, exists: Callable[[str], bool] = os.path.exists) -> Identity:
    """The identity of a program called `argv0` that was given `-f CONFIG_FILE` (None: was not)."""
    is_chronyd = os.path.basename(argv0) == CHRONY_NAME
    if config_file is None:
        wanted = CHRONY_CONFIGS if is_chronyd else (OWN_CONFIG, *CHRONY_CONFIGS)
        missing = CHRONY_CONFIGS[0] if is_chronyd else OWN_CONFIG
        config_file = next((path for path in wanted if exists(path)), missing)
    name = CHRONY_NAME if is_chronyd else OWN_NAME
    if is_chronyd or config_file in CHRONY_CONFIGS:
        return Identity(name, config_file, "/run/chrony/chronyd.pid", "/run/chrony/chronyd.sock", ("chrony", "_chrony"))
    return Identity(name, config_file, "/run/ntpd-fast/ntpd-fast.pid", "/run/ntpd-fast/chronyd.sock", (OWN_NAME,))
