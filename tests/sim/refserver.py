"""A stand-alone NTP server with a clock as wrong as the scenario wants, basic and interleaved.

Written from the RFCs and the wire facts, not with the code under test: the accuracy that clients reach
against it is theirs. It answers at the instant of arrival (transmit = receive time).
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.sim.network import Datagram, Endpoint, Network
from tests.sim.world import NS_PER_S, World

HEADER = struct.Struct("!BBbbIIIQQQQ")
NET_CORRECTION = struct.Struct("!HHq16x")
NET_CORRECTION_TYPE = 0x010A
FRAME_S = 1e-9
"""Time a frame takes on the wire, part of what is reported as its correction."""
UNIX_TO_NTP_S = 2_208_988_800
NTP_PORT = 123
SAVED_MAX = 1024


def ntp64(unix_ns: int) -> int:
    """NTP timestamp of a Unix time."""
    seconds, ns = divmod(unix_ns, NS_PER_S)
    return (((seconds + UNIX_TO_NTP_S) & 0xFFFFFFFF) << 32) | ((ns << 32) // NS_PER_S)


def short(value_s: float) -> int:
    """NTP short format, rounded up."""
    return min(max(-int(-value_s * 65536 // 1), 0), 0xFFFFFFFF)


@dataclass(slots=True)
class ServerState:
    """What the server says of itself."""

    stratum: int = 1
    leap: int = 0
    precision: int = -30
    refid: int = 0x47505300
    root_delay_s: float = 0.0
    root_dispersion_s: float = 0.0


class ReferenceServer:
    """One server on a network."""

    def __init__(
        self,
        world: World,
        network: Network,
        address: IPv4Address,
        *,
        error_s: Callable[[float], float] | None = None,
        state: ServerState | None = None,
    ) -> None:
        """`error_s` gives how far the server's clock is ahead of UTC at a true time (s)."""
        self.world = world
        self.network = network
        self.address = address
        self.error_s = error_s
        self.state = state or ServerState()
        self.answering = True
        self.requests: list[int] = []
        """True times of the requests, ns."""
        self.interleaved = 0
        self._rng = world.random(f"server/{address}")
        self._saved: OrderedDict[int, int] = OrderedDict()
        network.attach(address, self.receive)

    def time_ns(self) -> int:
        """The server's idea of UTC."""
        utc_ns = self.world.utc_ns()
        if self.error_s is None:
            return utc_ns
        return utc_ns + round(self.error_s(self.world.now_ns / NS_PER_S) * NS_PER_S)

    def receive(self, datagram: Datagram) -> None:
        """Answer a request."""
        if datagram.destination.port != NTP_PORT or len(datagram.data) < HEADER.size:
            return
        self.requests.append(self.world.now_ns)
        if not self.answering:
            return
        answer = self.answer(datagram.data, datagram.residence_s)
        if answer is not None:
            self.network.send(Datagram(Endpoint(self.address, NTP_PORT), datagram.source, answer))

    def answer(self, request: bytes, residence_s: float = 0.0) -> bytes | None:
        """The answer to a request that has just arrived, after a time in the network's queues."""
        first, _, poll, _, _, _, _, _, origin, receive, transmit = HEADER.unpack_from(request)
        version, mode = first >> 3 & 7, first & 7
        if mode != 3:
            return None
        state = self.state
        now_ns = self.time_ns()
        rx = self._fuzz(now_ns) | 1
        tx = self._fuzz(now_ns) & ~1
        saved = None
        if version == 4 and origin & 1 and receive != transmit:
            saved = self._saved.pop(origin, None)
            self._save(rx, tx)
        if saved is not None:
            self.interleaved += 1
        fields = b""
        if version == 4 and len(request) == HEADER.size + NET_CORRECTION.size:
            kind, length, _ = NET_CORRECTION.unpack_from(request, HEADER.size)
            if (kind, length) == (NET_CORRECTION_TYPE, NET_CORRECTION.size):
                correction_s = residence_s + FRAME_S if residence_s else 0.0
                fields = NET_CORRECTION.pack(kind, length, round(correction_s * 2**32))
        return HEADER.pack(
            state.leap << 6 | version << 3 | 4,
            state.stratum,
            poll,
            state.precision,
            short(state.root_delay_s),
            short(state.root_dispersion_s),
            state.refid,
            ntp64(now_ns - NS_PER_S),
            receive if saved is not None else transmit,
            rx,
            saved if saved is not None else tx,
        ) + fields

    def _fuzz(self, unix_ns: int) -> int:
        """The timestamp with random bits below the precision."""
        bits = min(max(self.state.precision + 32, 0), 32)
        return ntp64(unix_ns) ^ self._rng.getrandbits(bits) if bits else ntp64(unix_ns)

    def _save(self, rx: int, tx: int) -> None:
        self._saved[rx] = tx
        if len(self._saved) > SAVED_MAX:
            self._saved.popitem(last=False)
