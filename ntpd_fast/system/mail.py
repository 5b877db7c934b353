"""Telling somebody by mail that the clock was changed by much (`mailonchange`), through the local sendmail.

The mail program runs beside the daemon: nothing waits for it, one runs at a time, and one that hangs is ended.
A mail that could not be sent is told in the log, where the change itself is anyway.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ntpd_fast.system.messages import Log, Severity

if TYPE_CHECKING:
    import asyncio

COMMAND = ("/usr/lib/sendmail", "-t")
"""Takes the recipient from the headers; the path is the one every mail system offers (FHS)."""

TIMEOUT_S = 60.0


def compose(recipient: str, program: str, offset_s: float, threshold_s: float, time_s: float, host: str) -> bytes:
    """The mail about a change; `offset_s` positive: the clock was ahead and is set back."""
    day = time.strftime("%A, %d %B %Y", time.gmtime(time_s))
    reading = time.strftime("%H:%M:%S", time.gmtime(time_s))
    return (
        f"To: {recipient}\n"
        f"Subject: {program} reports change to system clock on node [{host}]\n"
        "\n"
        f"On {day}, when the system clock read {reading} (UTC),\n"
        f"{program} began to adjust it by {-offset_s:.3f} seconds.\n"
        f"This is more than the {threshold_s:.3f} seconds from which you wanted to be told.\n"
    ).encode("utf-8", "surrogateescape")


class Mailer:
    """Sends mails about changes of the clock."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        recipient: str,
        threshold_s: float,
        *,
        program: str,
        log: Log,
        command: Sequence[str] = COMMAND,
        timeout_s: float = TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`program`: what the daemon is called in the mail."""
        self._loop = loop
        self._recipient = recipient
        self._threshold_s = threshold_s
        self._program = program
        self._log = log
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._timeout: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a mail is being sent."""
        return self._process is not None

    def send_to(self, recipient: str, threshold_s: float) -> None:
        """Send later mails to somebody else, or for another threshold."""
        self._recipient = recipient
        self._threshold_s = threshold_s

    def tell(self, offset_s: float) -> None:
        """Send a mail about a change of the clock by `offset_s` (positive: it was ahead)."""
        if self._process is not None:
            self._fail("the last one is still being sent")
            return
        mail = compose(
            self._recipient, self._program, offset_s, self._threshold_s, self._now_s(), socket.gethostname()
        )
        try:
            # a few hundred bytes, which a pipe takes at once, whoever reads it and when
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # what ends the daemon is not meant for the mail about it
                start_new_session=True,
            )
        except OSError as error:
            self._fail(f"{self._command[0]} : {error.strerror}")
            return
        assert process.stdin is not None
        # it may have ended already without reading: its exit status tells
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(mail)
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._ended)
        self._timeout = self._loop.call_later(self._timeout_s, self._hangs)

    def close(self) -> None:
        """Wait no longer; a mail program that runs is left to itself."""
        if self._process is not None:
            self._release()
            self._process = None

    def _ended(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        self._release()
        self._process = None
        if status:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            self._fail(f"{self._command[0]} ended with {how}")

    def _hangs(self) -> None:
        """The process is ended, and `_ended` called for that."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _release(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._timeout is not None:
            self._timeout.cancel()

    def _fail(self, reason: str) -> None:
        self._log(Severity.ERROR, f"Could not send mail notification to user {self._recipient} : {reason}")
