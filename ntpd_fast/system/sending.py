"""Which of several sockets of ours a packet leaves from that answers nobody: each is bound to another address.

An answer leaves from the address that was asked; for what a server sends by itself the kernel's choice is followed.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address


def sending_socket(
    opened: Iterable[socket.socket], destination: IPv4Address | IPv6Address, port: int
) -> socket.socket | None:
    """The one that is bound to the address this machine would send from to `destination`, else the first of its family.

    None without one of the family. Nothing is sent to find out.
    """
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    candidates = [member for member in opened if member.family == family]
    if len(candidates) > 1:
        source = _source_address(family, (str(destination), port))
        for member in candidates:
            if _bound_address(member) == source:
                return member
    return candidates[0] if candidates else None


def socket_bound_to(
    opened: Iterable[socket.socket], address: IPv4Address | IPv6Address | None, version: int
) -> socket.socket | None:
    """The one that is bound to `address`, else the first of the family (4 or 6); None without one of it."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    candidates = [member for member in opened if member.family == family]
    for member in candidates:
        if address is not None and _bound_address(member) == str(address):
            return member
    return candidates[0] if candidates else None


def _source_address(family: socket.AddressFamily, destination: tuple[str, int]) -> str | None:
    """What the kernel's routes say; None where there is no route."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        asking.connect(destination)
        return _bound_address(asking)
    return None


def _bound_address(member: socket.socket) -> str:
    """Without the zone of a link-local address."""
    address: str = member.getsockname()[0]
    return address.partition("%")[0]
