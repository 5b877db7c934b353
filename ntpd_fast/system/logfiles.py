"""Log files with columns: a banner with the titles now and then, one line an entry, opened when there is one.

A log is never worth stopping for. One that can't be opened is told once and stays shut until `cycle`; lines that
can't be written are told once until one can be written again, and counted.
"""

from __future__ import annotations

import os

from ntpd_fast.system.errors import why
from ntpd_fast.system.messages import Log, Severity

MODE = 0o644


class LogFile:
    """One log file."""

    def __init__(self, path: str, title: str, *, banner_interval: int, log: Log) -> None:
        """`banner_interval`: entries from one banner to the next, 0 for no banner (`logbanner`)."""
        self.path = path
        self.lost = 0
        """Entries that were not written."""
        line = "=" * len(title)
        self._banner = f"{line}\n{title}\n{line}\n"
        self._banner_interval = banner_interval
        self._log = log
        self._descriptor: int | None = None
        self._shut = False
        self._failing = False
        self._torn = False
        """Whether the file ends in the middle of a line."""
        self._entries = 0
        """Since the file was opened."""

    def write(self, entry: str) -> None:
        """Append a line (without newline), after a banner if one is due."""
        descriptor = self._open()
        if descriptor is None:
            self.lost += 1
            return
        text = entry + "\n"
        if self._banner_interval and self._entries % self._banner_interval == 0:
            text = self._banner + text
        self._entries += 1
        data = ("\n" * self._torn + text).encode("ascii", "replace")
        try:
            written = os.write(descriptor, data)
            complete = written == len(data)
            self._torn = not complete
            reason = "Incomplete write"
        except OSError as error:
            complete = False
            reason = why(error)
        if complete:
            self._failing = False
            return
        self.lost += 1
        if not self._failing:
            self._failing = True
            self._log(Severity.ERROR, f"Could not write {self.path} : {reason}")

    def cycle(self) -> None:
        """Close the file; the next entry opens it again, perhaps as a new one (`cyclelogs`)."""
        self.close()
        self._shut = False

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int | None:
        if self._descriptor is not None or self._shut:
            return self._descriptor
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            self._descriptor = os.open(self.path, flags, MODE)
        except OSError as error:
            self._shut = True
            self._log(Severity.ERROR, f"Could not open {self.path} : {why(error)}")
            return None
        self._entries = 0
        self._failing = self._torn = False
        return self._descriptor
