"""Sockets handed over by the service manager (sd_listen_fds: LISTEN_PID, LISTEN_FDS, descriptors from 3 on).

They are taken over once, at the start, and looked at before they are believed: what is not an IP socket is left closed
with a log line. Whoever opens a socket asks first whether one that fits was handed over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket

log = logging.getLogger(__name__)

_FIRST = 3
# More than any configuration can use; a bound on what a junk environment makes us look at.
_MAX_SOCKETS = 256


class HandedOver:
    """The sockets we were started with; `take` gives those for one address, `close_rest` ends the others."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    @classmethod
    def from_environment(cls) -> HandedOver:
        """Take the sockets the environment names, and take the names out of the environment."""
        pid = os.environ.pop("LISTEN_PID", "")
        count = os.environ.pop("LISTEN_FDS", "")
        os.environ.pop("LISTEN_FDNAMES", None)
        if pid != str(os.getpid()) or not count.isdecimal():
            return cls([])
        if int(count) > _MAX_SOCKETS:
            log.warning("Too many sockets handed over (%s), using the first %d", count, _MAX_SOCKETS)
        sockets = []
        for descriptor in range(_FIRST, _FIRST + min(int(count), _MAX_SOCKETS)):
            taken = _adopt(descriptor)
            if taken is not None:
                sockets.append(taken)
        return cls(sockets)

    def take(self, family: int, kind: int, address: str, port: int) -> list[socket.socket]:
        """Those bound to exactly this address, in the order they came."""
        fitting = [
            handed
            for handed in self._sockets
            if (handed.family, handed.type) == (family, kind) and handed.getsockname()[:2] == (address, port)
        ]
        self._sockets = [handed for handed in self._sockets if handed not in fitting]
        return fitting

    def close_rest(self) -> None:
        """Close what nothing in the configuration would have opened."""
        for handed in self._sockets:
            log.warning("Ignored socket handed over for %s", format_address(*handed.getsockname()[:2]))
            handed.close()
        self._sockets = []


def _adopt(descriptor: int) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        handed = socket.socket(fileno=descriptor)
    except OSError as error:
        log.warning("Ignored descriptor %d handed over : %s", descriptor, error.strerror)
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None
    if handed.family not in (socket.AF_INET, socket.AF_INET6):
        log.warning("Ignored descriptor %d handed over : not an IP socket", descriptor)
        handed.close()
        return None
    handed.setblocking(False)
    return handed


def format_address(address: str, port: int) -> str:
    """`A:P`, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
