"""Asking the system for the addresses of a name, in a few threads of our own beside the event loop.

getaddrinfo(3) may take as long as the network likes, so it never runs in the loop's thread, and the threads never
keep the process from ending. Answers come through the loop, bounded in number. Everything Python needs for a
lookup is imported here: a process in a sandbox can't import it later (`encodings.idna` is, without this line, at
the first name).
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401
import queue
import signal
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from ntpd_fast._record import dataclass
from ntpd_fast.config.model import IPAddress
from ntpd_fast.config.resolve import parse_address

MAX_ADDRESSES = 64
"""Addresses of a name beyond this number are not looked at; a pool is filled with 16."""

MAX_THREADS = 4

_FAMILIES = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the system said to a name."""

    addresses: tuple[IPAddress, ...] = ()
    """In the resolver's order, each once."""
    reason: str = ""
    """Why there are no addresses."""
    impossible: bool = False
    """No name system can have this name: asking again is useless."""


class Resolver(Protocol):
    """The seam between names and the name system."""

    def resolve(self, name: str, done: Callable[[Resolution], None]) -> None:
        """Look a name up and call `done` once, later and never from within this call."""


def look_up(name: str, family: int | None = None) -> Resolution:
    """Ask the system, which may block; `family` is 4, 6 or None for both."""
    try:
        answers = socket.getaddrinfo(name, None, _FAMILIES[family], socket.SOCK_DGRAM)
    except UnicodeError:
        # an empty label, one of more than 63 bytes, or a character no host name has
        return Resolution(reason="Invalid name", impossible=True)
    except OSError as error:
        return Resolution(reason=error.strerror or str(error))
    found: dict[IPAddress, None] = {}
    for _, _, _, _, answer in answers:
        # one that holds on an interface only (`fe80::1%eth0`) is none for us
        address = parse_address(str(answer[0]))
        if address is not None:
            found[address] = None
    return Resolution(tuple(found)[:MAX_ADDRESSES], "" if found else "No address")


class SystemResolver:
    """`Resolver` of the daemon; at most `threads` lookups at a time, the rest wait."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        family: int | None = None,
        threads: int = MAX_THREADS,
        lookup: Callable[[str, int | None], Resolution] = look_up,
    ) -> None:
        """`family`: 4 or 6 where the daemon was told to use no other (`-4`, `-6`)."""
        self._loop = loop
        self._family = family
        self._lookup = lookup
        self._threads_max = threads
        self._threads = 0
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[Resolution], None]] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._closed = False

    def resolve(self, name: str, done: Callable[[Resolution], None]) -> None:
        """See `Resolver`."""
        self._waiting += 1
        if self._threads < min(self._waiting, self._threads_max):
            self._threads += 1
            threading.Thread(target=self._work, name="resolver", daemon=True).start()
        self._jobs.put((name, done))

    def close(self) -> None:
        """Give no more answers; threads end with the lookup they are in."""
        self._closed = True
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        # signals are for the loop's thread
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (job := self._jobs.get()) is not None:
            name, done = job
            resolution = self._lookup(name, self._family)
            if self._closed:
                return
            try:
                self._loop.call_soon_threadsafe(self._answer, done, resolution)
            except RuntimeError:
                # the loop was closed between the two lines above
                return

    def _answer(self, done: Callable[[Resolution], None], resolution: Resolution) -> None:
        self._waiting -= 1
        if not self._closed:
            done(resolution)
