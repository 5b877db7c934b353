"""Which of several sockets of ours a packet leaves from that answers nobody: each is bound to another address.

An answer leaves from the address that was asked; for what a server sends by itself the kernel's choice is followed.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address


def sending_socket(
    opened: Iterable[socket.socket], destination: IPv4Address | IPv6Address, port: int
) -> socket.socket | None:
    """The one that is bound to the address this machine would send from to `destination`, else the first of its family.

    None without one of the family. Nothing is sent to find out.
    """
    candidates = _of_version(opened, destination.version)
    source = _source_address(candidates[0].family, (str(destination), port)) if len(candidates) > 1 else None
    return _bound_to(candidates, source)


def socket_bound_to(
    opened: Iterable[socket.socket], address: IPv4Address | IPv6Address | None, version: int
) -> socket.socket | None:
    """The one that is bound to `address`, else the first of the family (4 or 6); None without one of it."""
    return _bound_to(_of_version(opened, version), None if address is None else str(address))


def _of_version(opened: Iterable[socket.socket], version: int) -> list[socket.socket]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return [member for member in opened if member.family == family]


def _bound_to(candidates: Sequence[socket.socket], address: str | None) -> socket.socket | None:
    for member in candidates:
        if _bound_address(member) == address:
            return member
    return candidates[0] if candidates else None


def _source_address(family: int, destination: tuple[str, int]) -> str | None:
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
