"""What the service manager hears from us (sd_notify), sent by the one process that owns the service.

Without NOTIFY_SOCKET every call does nothing.
"""

from __future__ import annotations

import os
import time

import sdnotify


class Notifier:
    """The service's state, told to the service manager as it changes."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        self.listens = "NOTIFY_SOCKET" in os.environ
        """Whether there is a service manager."""
        self._status: str | None = None
        # A child must not take this for its own: only the supervisor talks to the service manager.
        os.environ.pop("NOTIFY_SOCKET", None)
        self.watchdog_interval_s = _watchdog_interval_s()

    def ready(self) -> None:
        """The service answers."""
        self._notifier.notify("READY=1")

    def reloading(self) -> None:
        """The configuration is read again; `ready` says when that is over."""
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends on purpose."""
        self._notifier.notify("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changes. Only printable characters: a line end would begin
        another message."""
        text = "".join(character for character in text if character.isprintable())
        if text != self._status:
            self._status = text
            self._notifier.notify(f"STATUS={text}")

    def watchdog(self) -> None:
        """We are alive."""
        self._notifier.notify("WATCHDOG=1")


def _watchdog_interval_s() -> float | None:
    """How often to call `watchdog` (half of what the unit allows), None when it is not asked for or not for us."""
    limit = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "")
    if not limit.isdecimal() or int(limit) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(limit) / 2e6
