"""Addresses in a configuration: literals, and host names where the language resolves them while parsing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast.config.model import IPAddress

Resolver = Callable[[str], IPAddress | None]
"""First address of a host name, or None where there is none."""


def parse_address(word: str) -> IPAddress | None:
    """An IPv4 or IPv6 literal in one of the forms of inet_pton(3), else None."""
    try:
        return IPv4Address(socket.inet_pton(socket.AF_INET, word))
    except (OSError, ValueError):
        pass
    try:
        return IPv6Address(socket.inet_pton(socket.AF_INET6, word))
    except (OSError, ValueError):
        return None


def system_resolver(family: int | None = None) -> Resolver:
    """A resolver that asks the system, for addresses of one family (4 or 6) or of both. It blocks."""
    wanted = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[family]

    def resolve(name: str) -> IPAddress | None:
        try:
            answers = socket.getaddrinfo(name, None, wanted, socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return None
        for _, _, _, _, address in answers:
            literal = parse_address(str(address[0]).partition("%")[0])
            if literal is not None:
                return literal
        return None

    return resolve
