"""The associations' way to the simulated network: the `Transport` of a node.

Each request of a client leaves from a port of its own, as from a new socket; peers use the NTP port. A packet that
arrives is stamped with the clock as it is at that instant, by the daemon or (kernel timestamping) by the kernel:
in a simulation without processing time both read the same.
"""

from __future__ import annotations

import random

from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.client.transport import Encoder, Receiver
from ntpd_fast.clock.local import LocalClock
from tests.sim.network import Datagram, Endpoint, IPAddress, Network

NTP_PORT = 123
FRAME_S = 1e-9
"""Time a frame takes on a wire so fast that it costs nothing; with a hardware stamp it is known."""
EPHEMERAL_PORTS = range(32768, 61000)


class SimChannel:
    """One port of a node, connected to a server."""

    def __init__(
        self, transport: SimTransport, port: int, remote: Endpoint, receiver: Receiver
    ) -> None:
        self._transport = transport
        self.port = port
        self.remote = remote
        self.receiver = receiver

    def send(self, encode: Encoder) -> Stamp | None:
        """See `Channel`."""
        return self._transport.send(self, encode)

    def close(self) -> None:
        """See `Channel`."""
        self._transport.forget(self)


class SimTransport:
    """See `Transport`."""

    def __init__(
        self,
        network: Network,
        address: IPAddress,
        clock: LocalClock,
        rng: random.Random,
        *,
        stamp_source: StampSource = StampSource.DAEMON,
    ) -> None:
        self.sent_ns: list[tuple[int, IPAddress]] = []
        """True time and destination of every packet sent."""
        self.stamp_source = stamp_source
        self._network = network
        self._address = address
        self._clock = clock
        self._rng = rng
        self._channels: dict[int, SimChannel] = {}

    def open(self, address: IPAddress, port: int, receiver: Receiver, *, symmetric: bool) -> SimChannel | None:
        """See `Transport`."""
        remote = Endpoint(address, port)
        if symmetric:
            # peers share the server's socket; what comes for them is found by its sender
            return SimChannel(self, NTP_PORT, remote, receiver)
        while True:
            local = self._rng.choice(EPHEMERAL_PORTS)
            if local not in self._channels:
                channel = self._channels[local] = SimChannel(self, local, remote, receiver)
                return channel

    def can_reach(self, address: IPAddress, port: int) -> bool:
        """See `Transport`."""
        return not self._network.path(self._address, address).down

    def send(self, channel: SimChannel, encode: Encoder) -> Stamp | None:
        """Send a packet of a channel."""
        raw_ns = self._clock.raw_ns()
        cooked_ns, err_s = self._clock.cook(raw_ns)
        data = encode(cooked_ns)
        if data is None:
            return None
        if not self._network.send(Datagram(Endpoint(self._address, channel.port), channel.remote, data)):
            return None
        self.sent_ns.append((self._network.world.now_ns, channel.remote.address))
        return Stamp(cooked_ns, err_s, self.stamp_source)

    def forget(self, channel: SimChannel) -> None:
        """Close a port."""
        if self._channels.get(channel.port) is channel:
            del self._channels[channel.port]

    def stamp(self, residence_s: float = 0.0) -> Stamp:
        """The receive timestamp of a packet that arrives now, with what the network says of its way."""
        cooked_ns, err_s = self._clock.cook(self._clock.raw_ns())
        if self.stamp_source is StampSource.HARDWARE and residence_s:
            return Stamp(cooked_ns, err_s, self.stamp_source, FRAME_S, residence_s + FRAME_S)
        return Stamp(cooked_ns, err_s, self.stamp_source)

    def deliver(self, datagram: Datagram) -> bool:
        """Hand a packet to the channel it came for; False if there is none."""
        channel = self._channels.get(datagram.destination.port)
        # a connected socket takes packets of its peer only
        if channel is None or channel.remote != datagram.source:
            return False
        channel.receiver.receive(datagram.data, self.stamp(datagram.residence_s), self._address)
        return True

    @property
    def ports(self) -> list[int]:
        """Ports that are open now."""
        return [*self._channels]
