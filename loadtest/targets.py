"""Whom the generator may talk to: this machine, unless the user names the network it owns.

A load generator sends from addresses it invents; pointed at a stranger by a slip it would be an attack. So
anything but loopback is refused until it lies in a network given on the command line.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TargetRefusedError(ValueError):
    """The address is neither loopback nor allowed."""


@dataclass(frozen=True)
class Target:
    """Where requests go."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def target(address: str, port: int, allowed: Sequence[Network] = ()) -> Target:
    """Check address and port. ValueError when they are none, TargetRefusedError when they may not be used."""
    parsed = ipaddress.ip_address(address)
    if not 0 < port < 65536:
        raise ValueError(f"port {port} out of range")
    if not parsed.is_loopback and not any(parsed in network for network in allowed):
        raise TargetRefusedError(f"{address} is not a loopback address; name its network with --allow-target")
    return Target(parsed, port)
