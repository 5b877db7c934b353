"""An association, a clock to turn by hand, and a server that answers as it is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from ntpd_fast.client.actions import (
    Action,
    CancelTimer,
    CloseSocket,
    MeasurementRecord,
    SetTimer,
    Timer,
    Transmit,
    WentOffline,
)
from ntpd_fast.client.association import Association
from ntpd_fast.client.auth import Authenticator, NoAuthentication
from ntpd_fast.client.logs import format_tests
from ntpd_fast.client.packet import Header, Mode, Packet, ns_to_ntp64, parse
from ntpd_fast.client.source import SelectableSource, SourceKind
from ntpd_fast.client.sourcestats import SourceStats, StatsOptions
from ntpd_fast.client.stamps import Now, Stamp, StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import ClockChange
from ntpd_fast.clock.served import UNSYNCHRONISED, Served
from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from ntpd_fast.config.model import SourceOptions
from ntpd_fast.system.era import era_start_s

S = 1_000_000_000
BASE = 1_700_000_000 * S
PRECISION_S = 1e-9
ADDRESS = IPv4Address("192.0.2.1")
OUR_ADDRESS = IPv4Address("192.0.2.99")
KEY = SymmetricKey(7, KeyType.SHA256, b"0123456789abcdef")
OWN = Served(Leap.NORMAL, 3, int(ADDRESS), BASE, 0.5, 0.25)
ALL_PASSED = "111 111 1111"


@dataclass
class Around:
    """See `Surroundings`."""

    precision_s: float = PRECISION_S
    precision_log2: int = -30
    max_clock_error: float = 1e-6
    era_start_s: int = era_start_s({})
    random: random.Random = field(default_factory=lambda: random.Random(1))
    serving: bool = False
    one_shot: bool = False
    net_corrections: bool = False
    hold_timeout_s: float = 0.0
    own: Served = UNSYNCHRONISED
    leap_close: bool = False

    def nonce(self) -> int:
        return self.random.getrandbits(64)

    def own_reference(self, cooked_ns: int) -> Served:
        return self.own

    def leap_is_close(self, cooked_ns: int) -> bool:
        return self.leap_close


class Talk:
    """One association and what it did."""

    def __init__(
        self,
        options: SourceOptions | None = None,
        *,
        around: Around | None = None,
        auth: Authenticator | None = None,
        symmetric: bool = False,
        start: bool = True,
        t: float = 0.0,
    ) -> None:
        options = options or SourceOptions()
        self.around = around or Around()
        self.t = t
        self.source = SelectableSource(
            SourceKind.NTP,
            SourceStats(StatsOptions(asymmetry=options.asymmetry), self.around.precision_s),
            refid=int(ADDRESS),
            address=ADDRESS,
        )
        self.selected = False
        self.association = Association(
            self.source,
            options,
            self.around,
            auth or NoAuthentication(),
            symmetric=symmetric,
            is_selected=lambda: self.selected,
        )
        self.timers: dict[Timer, float] = {}
        self.randomness = 0.0
        """See `Scheduler.call_later`."""
        self.sent: list[bytes] = []
        self.sent_at: list[float] = []
        self.seen: list[Action] = []
        self.records: list[MeasurementRecord] = []
        self.socket_open = False
        self.send_works = True
        self.tx_source = StampSource.KERNEL
        if start:
            self.carry_out(self.association.start(self.now))

    @property
    def ns(self) -> int:
        """Local time."""
        return BASE + round(self.t * S)

    @property
    def now(self) -> Now:
        return Now(self.ns, self.ns, 0.0, round(self.t * S))

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            self.seen.append(action)
            match action:
                case SetTimer():
                    stretch = 1.0 + self.randomness * self.around.random.random()
                    self.timers[action.timer] = self.t + max(0.0, action.delay_s) * stretch
                case CancelTimer():
                    self.timers.pop(action.timer, None)
                case CloseSocket():
                    self.socket_open = False
                case WentOffline():
                    self.source.reset_reachability()
                case MeasurementRecord():
                    self.records.append(action)
                case Transmit():
                    self._transmit(action.encode)

    def _transmit(self, encode: Callable[[int], bytes | None]) -> None:
        data = encode(self.ns)
        stamp = None
        if data is not None:
            if self.send_works:
                stamp = Stamp(self.ns, 0.0, self.tx_source)
                self.socket_open = True
                self.sent_at.append(self.t)
            self.sent.append(data)
        self.carry_out(self.association.on_sent(self.now, stamp))

    def fire(self, timer: Timer = Timer.TRANSMIT) -> None:
        """Let time pass until a timer fires."""
        self.t = max(self.t, self.timers.pop(timer))
        self.carry_out(self.association.on_timer(timer, self.now))

    def request(self) -> bytes:
        """Let the next request be sent."""
        count = len(self.sent)
        while len(self.sent) == count:
            self.fire()
        return self.sent[-1]

    def receive(self, data: bytes, *, source: StampSource = StampSource.KERNEL) -> None:
        """A datagram comes now."""
        stamp = Stamp(self.ns, 0.0, source)
        self.carry_out(self.association.on_packet(data, stamp, self.now, OUR_ADDRESS))

    def change(self, change: ClockChange) -> None:
        """The clock is changed; time goes on from the new reading."""
        self.t += (change.slewed_ns(self.ns) - self.ns) / S
        self.carry_out(self.association.handle_change(change, self.now))

    def exchange(self, server: Server) -> MeasurementRecord:
        """A request and its answer."""
        server.answer(self, self.request())
        return self.records[-1]

    @property
    def last_header(self) -> Header:
        """Of the last request."""
        return header_of(self.sent[-1])


def header_of(data: bytes) -> Header:
    return packet_of(data).header


def packet_of(data: bytes) -> Packet:
    packet = parse(data)
    assert packet is not None
    return packet


@dataclass
class Server:
    """A server that is `theta` ahead of the local clock."""

    theta: float = 0.0
    delay: float = 1e-3
    return_delay: float | None = None
    """Of the way back; as there if None."""
    processing: float = 1e-5
    leap: Leap = Leap.NORMAL
    stratum: int = 2
    precision: int = -25
    root_delay: float = 1e-3
    root_dispersion: float = 1e-3
    refid: int = 0x0A000001
    reference_ts: int = 12345
    xleave: bool = False
    mode: Mode = Mode.SERVER
    poll: int = 6
    extra: Callable[[int], bytes] | None = None
    """Makes extension fields from the receive time."""
    saved: dict[int, int] = field(default_factory=dict)

    def remote(self, t: float) -> int:
        return BASE + round((t + self.theta) * S)

    def header(self, request: Header, t: float) -> Header:
        """The answer to a request that arrives at a local time."""
        rx = ns_to_ntp64(self.remote(t)) | 1
        tx = ns_to_ntp64(self.remote(t + self.processing)) & ~1
        origin, told = request.transmit_ts, tx
        if self.xleave and request.origin_ts & 1 and request.receive_ts != request.transmit_ts:
            saved = self.saved.pop(request.origin_ts, None)
            if saved is not None:
                origin, told = request.receive_ts, saved
            self.saved[rx] = tx
        return Header(
            self.leap,
            request.version,
            self.mode,
            self.stratum,
            self.poll,
            self.precision,
            self.root_delay,
            self.root_dispersion,
            self.refid,
            self.reference_ts,
            origin,
            rx,
            told,
        )

    def response(self, talk: Talk, request: bytes) -> bytes:
        """The answer to a request that was just sent; time goes on until it is back."""
        arrival = talk.t + self.delay
        header = self.header(header_of(request), arrival)
        talk.t = arrival + self.processing + (self.delay if self.return_delay is None else self.return_delay)
        data = header.pack()
        if self.extra is not None:
            data += self.extra(header.receive_ts)
        return data

    def answer(self, talk: Talk, request: bytes) -> None:
        """Answer and deliver."""
        talk.receive(self.response(talk, request))


def with_history(options: SourceOptions, *, jitter: float = 1e-6, n: int = 8) -> tuple[Talk, Server]:
    """An association that knows its server."""
    rng = random.Random(1)
    talk = Talk(replace(options, minpoll=4, maxpoll=4))
    server = Server()
    for _ in range(n):
        server.theta = rng.gauss(0.0, jitter)
        assert format_tests(talk.exchange(server).tests) == ALL_PASSED
    return talk, server
