"""The time at which the daemon last ran, for machines whose clock starts from nothing (`-s`).

The drift file is written while the daemon runs and when it ends, so its modification time is a time that has passed.
A system clock that is behind it is stepped forward to it; one that is ahead is left alone. Whole seconds are compared.
"""

from __future__ import annotations

import os

from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.slew import NS_PER_S
from ntpd_fast.system.messages import Log, Severity


def restore_time(clock: LocalClock, drift_path: str, log: Log) -> bool:
    """Step `clock` forward to when the drift file was written, if that is later; whether it was stepped.

    A file that is missing or out of reach says nothing here: whoever loads it tells that.
    """
    try:
        modified_s = int(os.stat(drift_path).st_mtime)
    except OSError:
        return False
    behind_s = modified_s - clock.raw_ns() // NS_PER_S
    if behind_s <= 0 or not clock.step(-behind_s):
        return False
    log(Severity.INFO, "System time restored from driftfile")
    return True
