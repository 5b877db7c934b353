"""Asking our own server over its own sockets whether it answers: as a client does, and without counting as one.

A probe is 16 random bytes that only the daemon's processes know: too short for NTP, so that a worker comes to look at
it only where it drops what it cannot read. It is sent back as it came. Who sends one back was steered to, has received,
decided and sent: everything an answer to a client takes.
"""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address

from ntpd_fast.server.sockets import Group, NtpSockets

SOURCES_MAX = 16
"""Workers asked at a time; of more, the first ones."""
_CANDIDATES = 4096


class SelfCheck:
    """`ask`, then poll `descriptors()`; `heard` tells whether what arrived is an answer."""

    def __init__(self, sockets: NtpSockets, probe: bytes) -> None:
        self._sockets = sockets
        self._probe = probe
        self._asking: dict[int, socket.socket] = {}

    def ask(self) -> bool:
        """Ask each worker; false when there is nobody to ask, or no way to (no loopback interface, another device)."""
        self.close()
        group = self._group()
        if group is None:
            return False
        family, host, port = group.bind.family, group.bind.address, group.bind.port
        if host == "0.0.0.0":
            host = "127.0.0.1"
        elif host == "::":
            host = "::1"
        asked = False
        for source in self._sources(group):
            asking = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            self._asking[asking.fileno()] = asking
            with contextlib.suppress(OSError):
                if source:
                    asking.bind((source, 0))
                asking.connect((host, port))
                asking.send(self._probe)
                asked = True
        return asked

    def descriptors(self) -> list[int]:
        """Where answers arrive."""
        return list(self._asking)

    def heard(self, descriptor: int) -> bool:
        """Take what arrived on a descriptor; whether it is an answer to the last `ask`."""
        asking = self._asking.get(descriptor)
        if asking is None:
            return False
        try:
            answer = asking.recv(64)
        except OSError:
            # refused: nobody listens
            answer = b""
        if answer != self._probe:
            del self._asking[descriptor]
            asking.close()
            return False
        self.close()
        return True

    def close(self) -> None:
        """Ask no more."""
        for asking in self._asking.values():
            asking.close()
        self._asking.clear()

    def _group(self) -> Group | None:
        groups = [group for group in self._sockets.groups if not group.bind.ptp]
        groups.sort(key=lambda group: group.bind.family != socket.AF_INET)
        return groups[0] if groups and self._sockets.device is None else None

    def _sources(self, group: Group) -> list[str]:
        """Addresses of our own that are steered to different workers; an empty one: any."""
        steering = self._sockets.steering(group)
        if steering is None or group.bind.family != socket.AF_INET:
            return [""]
        workers = len(group.workers)
        found: dict[int, str] = {}
        loopback = int(IPv4Address("127.0.0.1"))
        for number in range(loopback, loopback + _CANDIDATES):
            address = IPv4Address(number)
            found.setdefault(steering.index(address, workers), str(address))
            if len(found) >= min(workers, SOURCES_MAX):
                break
        return list(found.values())
