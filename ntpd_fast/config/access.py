"""allow, deny, cmdallow and cmddeny: `[all] [SUBNET]`.

A subnet is an address with or without a prefix length, the first one to three numbers of an IPv4 address
(`10.1` means 10.1.0.0/16), or the name of a host, which is resolved at once. A prefix longer than the
address is only found when the daemon starts.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import ClassVar

from ntpd_fast._record import dataclass
from ntpd_fast.config.kinds import Draft, could_not_parse
from ntpd_fast.config.lexer import Line
from ntpd_fast.config.model import AccessRule, IPAddress
from ntpd_fast.config.resolve import Resolver, parse_address
from ntpd_fast.config.words import INT_MAX, NotANumber, strict_int

_SHORT_IPV4 = re.compile(r"\+?[0-9]+(?:\.\+?[0-9]+){0,2}\Z")


def parse_subnet(word: str, resolver: Resolver) -> tuple[IPAddress, int] | None:
    """Base address and prefix length, or None where the word is no subnet."""
    base, slash, bits = word.partition("/")
    address = parse_address(base)
    if address is not None:
        prefix_len: int = address.max_prefixlen
    elif _SHORT_IPV4.match(base):
        octets = [int(octet) for octet in base.split(".")]
        if max(octets) > 255:
            return None
        prefix_len = 8 * len(octets)
        address = IPv4Address(bytes(octets).ljust(4, b"\0"))
    elif slash:
        return None
    else:
        address = resolver(base)
        return None if address is None else (address, address.max_prefixlen)
    if slash:
        try:
            prefix_len = min(strict_int(bits), INT_MAX)
        except NotANumber:
            return None
        if prefix_len < 0:
            return None
    return address, prefix_len


@dataclass(frozen=True, slots=True)
class Access:
    """One rule of an access list; every line counts, in order."""

    allow: bool
    syntax: ClassVar[str] = "[all] [SUBNET]"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        words = line.words[1:]
        everything_below = words[:1] == ["all"]
        if everything_below:
            words = words[1:]
        subnet: tuple[IPAddress | None, int] | None = (None, 0)
        if words:
            subnet = parse_subnet(words[0], draft.resolver)
        if subnet is None or len(words) > 1:
            raise could_not_parse(line)
        draft.add(fields[0], AccessRule(self.allow, everything_below, *subnet, where=line.where))
