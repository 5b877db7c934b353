"""The seam between the associations and the network: sockets in production, queues in the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.stamps import Stamp

Encoder = Callable[[int], bytes | None]
"""Makes a packet to send at a cooked time (ns); None: it can't be made."""


class Receiver(Protocol):
    """Where packets of a channel go."""

    def receive(self, data: bytes, rx: Stamp, local_address: IPAddress | None) -> None:
        """A datagram from the server has come."""

    def improve_tx_stamp(self, data: bytes, stamp: Stamp) -> None:
        """A datagram that was sent before really left at this time."""


class Channel(Protocol):
    """A way to one server."""

    def send(self, encode: Encoder) -> Stamp | None:
        """Make a packet as late as possible and send it; returns when, or None if that failed."""

    def close(self) -> None:
        """Receive nothing any more; harmless when done twice."""


class Transport(Protocol):
    """Makes channels."""

    def open(self, address: IPAddress, port: int, receiver: Receiver, *, symmetric: bool) -> Channel | None:
        """A channel for one request, or the server's own socket for a peer; None if that failed."""

    def can_reach(self, address: IPAddress, port: int) -> bool:
        """Whether there is a route."""
