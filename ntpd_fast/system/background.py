"""Going into the background, and telling whoever started us how that went.

The starting process stays until the daemon is ready or has failed: its exit status is the answer, and what went wrong
appears on its stderr. In the foreground the same two moments are told to a descriptor, if one was given (`-N`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

_MESSAGE_MAX: Final = 4096


class Starter:
    """Whoever waits for this start; `ready` or `failed` is called once."""

    def __init__(self, descriptor: int = -1) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """Everything is up."""
        self._tell(b"\n")

    def failed(self, text: str) -> None:
        """The start has failed; `text` is why."""

    def _tell(self, data: bytes) -> None:
        if self._descriptor >= 0:
            # A reader that has left does not stop the daemon.
            with contextlib.suppress(OSError):
                os.write(self._descriptor, data)
                os.close(self._descriptor)
            self._descriptor = -1


class _WaitingParent(Starter):
    """The process that was started from the shell."""

    def failed(self, text: str) -> None:
        self._tell(text.encode(errors="backslashreplace")[:_MESSAGE_MAX])


def to_background() -> Starter:
    """Go on in a child with a session of its own, in `/`, without a terminal.

    Does not return in the starting process: that exits with 0 when the child is ready, otherwise with 1 after showing
    why. Raises OSError when there can be no child.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid != 0:
        os.close(write_end)
        _wait_for(read_end)
    os.close(read_end)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:
        os.close(null)
    return _WaitingParent(write_end)


def _wait_for(read_end: int) -> None:
    with open(read_end, "rb") as pipe:
        message = pipe.read(_MESSAGE_MAX)
    if message == b"\n":
        os._exit(0)
    # Nothing at all: it died without a word, and its log may know more.
    text = message.decode(errors="replace") or "The daemon ended while it was starting"
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    os._exit(1)
