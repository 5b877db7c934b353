"""The sockets of the associations under an asyncio (uvloop) loop: the production `Transport`.

A client's request leaves from a new connected socket with a random port that is closed after the answer; with
`acquisitionport` all share one socket a family. Peers use the server's own socket. The loop watches one epoll
descriptor that holds them all: libuv goes deaf on a UDP socket whose error queue has something. Rules: the
number of sockets is bounded; transmit timestamps are read before the answer they belong to; nothing is
received that epoll did not announce.
"""

from __future__ import annotations

import asyncio
import select
import socket
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._ptp import wrap
from ntpd_fast._record import dataclass, field
from ntpd_fast.client import kernelstamps
from ntpd_fast.client.packet import HEADER_LENGTH, MAX_PACKET_LENGTH, IPAddress
from ntpd_fast.client.stamps import Stamp, StampSource, diff_s
from ntpd_fast.client.transport import Channel, Encoder, Receiver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.config.model import Config
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.sending import sending_socket

MAX_SOCKETS = 512
"""More requests than this are not on the way at once; the rest count as not sent."""

MAX_EVENTS = 64
FRAME_ROOM = 2048
CONTROL_ROOM = 512
MAX_ERRORS_A_TURN = 16
MAX_STAMP_DISTANCE_S = 1.0
"""A kernel timestamp that is further away from the daemon's is not believed."""


@dataclass(frozen=True, slots=True)
class PollerOptions:
    """How client sockets are made."""

    acquisition_port: int | None = None
    """None: a new port for each request; 0: one random port for all; else that port."""
    server_port: int = 123
    """An equal `acquisition_port` means the server's socket, where there is one."""
    bind_ipv4: IPv4Address | None = None
    bind_ipv6: IPv6Address | None = None
    bind_device: str | None = None
    dscp: int = 0
    ptp_port: int = 0
    """Servers with this port are asked by NTP over PTP, from our own socket of that port; 0: none."""
    ptp_domain: int = 123
    max_sockets: int = MAX_SOCKETS

    @classmethod
    def from_config(cls, config: Config) -> PollerOptions:
        """The options of a configuration."""
        return cls(
            acquisition_port=config.acquisitionport,
            server_port=config.port,
            bind_ipv4=config.bindacqaddress_ipv4,
            bind_ipv6=config.bindacqaddress_ipv6,
            bind_device=config.bindacqdevice,
            dscp=config.dscp,
            ptp_port=config.ptpport,
            ptp_domain=config.ptpdomain,
        )


@dataclass(slots=True)
class PollerCounters:
    """What happened to the sockets."""

    opened: int = 0
    open_errors: int = 0
    table_full: int = 0
    """Requests not sent because of `max_sockets`."""
    send_errors: int = 0
    receive_errors: int = 0
    """Also errors that routers and hosts reported, like unreachable ports."""
    unmatched: int = 0
    """Datagrams and timestamps that belong to no request."""
    foreign_stamps: int = 0
    """Kernel timestamps too far away from the daemon's."""


@dataclass(slots=True)
class _Socket:
    """A socket and who waits for something on it."""

    sock: socket.socket
    family: socket.AddressFamily
    connected: bool
    channels: dict[tuple[IPAddress, int], _Channel] = field(default_factory=dict)
    """By server; a connected socket has one."""
    local_address: IPAddress | None = None
    ptp: bool = False


class _Channel:
    """See `transport.Channel`."""

    def __init__(self, poller: Poller, holder: _Socket, address: IPAddress, port: int, receiver: Receiver) -> None:
        self._poller = poller
        self.holder = holder
        self.address = address
        self.port = port
        self.receiver = receiver
        self.sent: bytes | None = None
        """The last packet, by which its transmit timestamp is known."""

    def send(self, encode: Encoder) -> Stamp | None:
        """See `transport.Channel`."""
        data, stamp = self._poller.send(self.holder, (self.address, self.port), encode)
        self.sent = data
        return stamp

    def close(self) -> None:
        """See `transport.Channel`."""
        self._poller.close_channel(self.holder, self)


class _OwnSockets:
    """The server's own sockets of one kind, each bound to another address, and the channels that use them."""

    def __init__(self) -> None:
        self.holders: list[_Socket] = []
        self._left: list[_Socket] = []
        """Sockets that are gone while there was no other one for their channels."""

    def serve(self, family: socket.AddressFamily) -> bool:
        """Whether there is one of this family."""
        return any(holder.family is family for holder in self.holders)

    def pick(self, address: IPAddress, port: int) -> _Socket | None:
        """The one from which packets to this server leave."""
        chosen = sending_socket((holder.sock for holder in self.holders), address, port)
        return next((holder for holder in self.holders if holder.sock is chosen), None)

    def add(self, holder: _Socket) -> None:
        """One more; channels for which it is the right one change over."""
        self.holders.append(holder)
        self._settle()

    def remove(self, sock: socket.socket) -> _Socket | None:
        """Take one out and its channels to others; without others they wait for one to be added."""
        for holder in self.holders:
            if holder.sock is sock:
                self.holders.remove(holder)
                self._left.append(holder)
                self._settle()
                return holder
        return None

    def _settle(self) -> None:
        """Give every channel the socket that is right for it now, where there is one."""
        for holder in [*self.holders, *self._left]:
            for server, channel in list(holder.channels.items()):
                chosen = self.pick(*server)
                if chosen is not None and chosen is not holder:
                    del holder.channels[server]
                    chosen.channels[server] = channel
                    channel.holder = chosen
        self._left = [holder for holder in self._left if holder.channels]


class Poller:
    """Client sockets of the daemon."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: LocalClock, options: PollerOptions, log: Log) -> None:
        self.counters = PollerCounters()
        self._loop = loop
        self._clock = clock
        self._options = options
        self._log = log
        self._epoll = select.epoll()
        self._sockets: dict[int, _Socket] = {}
        self._server_sockets = _OwnSockets()
        self._ptp_sockets = _OwnSockets()
        self._ptp_sequence = 0
        self._shared: dict[socket.AddressFamily, _Socket] = {}
        self._keep_alive: socket.socket | None = None
        self._tx_stamps = True
        self._rx_stamps = True
        self._told_no_server = False
        self._event_stamp = self._read_clock()
        loop.add_reader(self._epoll.fileno(), self._ready)

    def close(self) -> None:
        """Close everything but the server's sockets."""
        self._loop.remove_reader(self._epoll.fileno())
        servers = {id(holder) for holder in [*self._server_sockets.holders, *self._ptp_sockets.holders]}
        for holder in list(self._sockets.values()):
            if id(holder) not in servers:
                holder.sock.close()
        self._sockets.clear()
        self._server_sockets.holders.clear()
        self._ptp_sockets.holders.clear()
        self._epoll.close()
        if self._keep_alive is not None:
            self._keep_alive.close()

    def attach_server_socket(self, sock: socket.socket, *, own: bool = True, ptp: bool = False) -> None:
        """Send the packets of peers (and of clients with `acquisitionport` = `port`) from this socket; beside others of
        its family those for which its address is the right one (`sending_socket`).

        Only its error queue is read here; what others send to the server comes through `Sources.receive`. Without
        `own` the same process answers clients on it: its options and its error queue are theirs, and what is sent
        from here has the daemon's timestamps. `ptp`: it carries NTP over PTP.
        """
        holder = _Socket(sock, socket.AddressFamily(sock.family), connected=False, ptp=ptp)
        (self._ptp_sockets if ptp else self._server_sockets).add(holder)
        if own:
            self._enable_stamps(sock)
            self._watch(holder, select.EPOLLPRI)

    def detach_server_socket(self, sock: socket.socket) -> None:
        """The socket is going to be closed; who used it goes on with another one, as soon as there is one."""
        for sockets in (self._server_sockets, self._ptp_sockets):
            holder = sockets.remove(sock)
            if holder is not None:
                self._unwatch(holder)

    def set_options(self, options: PollerOptions) -> None:
        """Make sockets this way from now on; a shared one (`acquisitionport`) is closed and made again."""
        if options == self._options:
            return
        self._options = options
        for holder in self._shared.values():
            # what is on its way to it counts as lost
            holder.channels.clear()
            self._forget(holder)
        self._shared.clear()

    def open(self, address: IPAddress, port: int, receiver: Receiver, *, symmetric: bool) -> Channel | None:
        """See `Transport.open`."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        options = self._options
        if options.ptp_port and port == options.ptp_port:
            holder = self._ptp_sockets.pick(address, port)
        elif symmetric or (options.acquisition_port == options.server_port and self._server_sockets.serve(family)):
            holder = self._server_sockets.pick(address, port)
        elif options.acquisition_port is not None:
            holder = self._shared_socket(family, options.acquisition_port)
        else:
            holder = self._connected_socket(family, address, port)
        if holder is None:
            if symmetric and not self._told_no_server:
                self._told_no_server = True
                self._log(Severity.ERROR, f"Could not send to peer {address} : no server socket to send from")
            return None
        channel = _Channel(self, holder, address, port, receiver)
        holder.channels[address, port] = channel
        return channel

    def can_reach(self, address: IPAddress, port: int) -> bool:
        """See `Transport.can_reach`."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            with self._make_socket(family) as sock:
                sock.connect((str(address), port))
        except OSError:
            return False
        return True

    def send(
        self, holder: _Socket, server: tuple[IPAddress, int], encode: Encoder
    ) -> tuple[bytes | None, Stamp | None]:
        """Send for a channel; returns the packet and when it was sent."""
        data = encode(self._clock.cooked_ns())
        if data is None:
            return None, None
        stamp = self._read_clock()
        try:
            if holder.connected:
                holder.sock.send(data)
            else:
                self._ptp_sequence += holder.ptp
                message = wrap(data, self._options.ptp_domain, self._ptp_sequence) if holder.ptp else data
                holder.sock.sendto(message, (str(server[0]), server[1]))
        except OSError:
            self.counters.send_errors += 1
            return data, None
        return data, stamp

    def close_channel(self, holder: _Socket, channel: _Channel) -> None:
        """A channel is not used any longer."""
        key = (channel.address, channel.port)
        if holder.channels.get(key) is not channel:
            return
        del holder.channels[key]
        if holder.connected:
            self._forget(holder)

    def _connected_socket(self, family: socket.AddressFamily, address: IPAddress, port: int) -> _Socket | None:
        if len(self._sockets) >= self._options.max_sockets:
            self.counters.table_full += 1
            return None
        sock = None
        try:
            sock = self._make_socket(family)
            sock.connect((str(address), port))
        except OSError:
            self.counters.open_errors += 1
            if sock is not None:
                sock.close()
            return None
        self._enable_stamps(sock)
        holder = _Socket(sock, family, connected=True, local_address=_address_of(sock.getsockname()[0]))
        self._watch(holder, select.EPOLLIN | select.EPOLLPRI)
        self.counters.opened += 1
        return holder

    def _shared_socket(self, family: socket.AddressFamily, port: int) -> _Socket | None:
        holder = self._shared.get(family)
        if holder is not None:
            return holder
        sock = None
        try:
            sock = self._make_socket(family, port)
            if family is socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, kernelstamps.IP_PKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        except OSError as error:
            self.counters.open_errors += 1
            self._log(Severity.ERROR, f"Could not open NTP socket on port {port} : {error.strerror}")
            if sock is not None:
                sock.close()
            return None
        self._enable_stamps(sock)
        holder = self._shared[family] = _Socket(sock, family, connected=False)
        self._watch(holder, select.EPOLLIN | select.EPOLLPRI)
        self.counters.opened += 1
        return holder

    def _make_socket(self, family: socket.AddressFamily, port: int = 0) -> socket.socket:
        """A bound socket; raises OSError."""
        options = self._options
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if options.dscp:
                level, option = (
                    (socket.IPPROTO_IP, socket.IP_TOS)
                    if family is socket.AF_INET
                    else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
                )
                sock.setsockopt(level, option, options.dscp << 2)
            if options.bind_device is not None:
                device = options.bind_device.encode() + b"\0"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            address = options.bind_ipv4 if family is socket.AF_INET else options.bind_ipv6
            if address is not None or port:
                sock.bind((str(address) if address is not None else "", port))
        except OSError:
            sock.close()
            raise
        return sock

    def _enable_stamps(self, sock: socket.socket) -> None:
        """Ask for kernel timestamps; what the kernel refuses once it is not asked for again."""
        if self._tx_stamps and not kernelstamps.enable(sock):
            self._tx_stamps = False
            self._log(Severity.WARNING, "Kernel transmit timestamps are not available")
        if not self._tx_stamps and self._rx_stamps and not kernelstamps.enable_rx(sock):
            self._rx_stamps = False
            self._log(Severity.WARNING, "Kernel receive timestamps are not available")

    def _keep_stamping(self) -> None:
        """Keep a socket with timestamps open: the kernel switches them on late for the first one."""
        if self._keep_alive is not None or not self._rx_stamps:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._enable_stamps(sock)
        self._keep_alive = sock

    def _watch(self, holder: _Socket, events: int) -> None:
        self._sockets[holder.sock.fileno()] = holder
        self._epoll.register(holder.sock.fileno(), events)

    def _forget(self, holder: _Socket) -> None:
        fd = holder.sock.fileno()
        self._epoll.unregister(fd)
        del self._sockets[fd]
        holder.sock.close()

    def _unwatch(self, holder: _Socket) -> None:
        fd = holder.sock.fileno()
        if self._sockets.get(fd) is holder:
            self._epoll.unregister(fd)
            del self._sockets[fd]

    def _read_clock(self) -> Stamp:
        cooked_ns, err_s = self._clock.cook(self._clock.raw_ns())
        return Stamp(cooked_ns, err_s)

    def _ready(self) -> None:
        """Something is to be read somewhere."""
        self._clock.scheduler.begin_event()
        self._event_stamp = self._read_clock()
        for fd, events in self._epoll.poll(0, MAX_EVENTS):
            holder = self._sockets.get(fd)
            if holder is None:
                continue
            if events & (select.EPOLLERR | select.EPOLLPRI):
                self._read_errors(holder)
            if events & select.EPOLLIN and self._sockets.get(fd) is holder:
                self._receive(holder)

    def _read_errors(self, holder: _Socket) -> None:
        """Read transmit timestamps; other errors are cleared and counted."""
        for _ in range(MAX_ERRORS_A_TURN):
            try:
                frame, messages, _, _ = holder.sock.recvmsg(
                    FRAME_ROOM, CONTROL_ROOM, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except OSError:
                break
            ancillary = kernelstamps.read_ancillary(messages)
            if ancillary.is_tx_stamp and ancillary.kernel_ns is not None:
                self._improve_tx_stamp(holder, frame, ancillary.kernel_ns)
        if holder.sock.fileno() >= 0 and holder.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.counters.receive_errors += 1

    def _improve_tx_stamp(self, holder: _Socket, frame: bytes, raw_ns: int) -> None:
        """The looped frame has the packet at its end; it is found by its content."""
        for channel in holder.channels.values():
            sent = channel.sent
            if sent is not None and sent in frame:
                cooked_ns, err_s = self._clock.cook(raw_ns)
                channel.receiver.improve_tx_stamp(sent, Stamp(cooked_ns, err_s, StampSource.KERNEL))
                return
        self.counters.unmatched += 1

    def _receive(self, holder: _Socket) -> None:
        try:
            data, messages, _, sender = holder.sock.recvmsg(MAX_PACKET_LENGTH + 4, CONTROL_ROOM)
        except OSError:
            self.counters.receive_errors += 1
            return
        ancillary = kernelstamps.read_ancillary(messages)
        channel = self._channel_of(holder, sender)
        if channel is None or len(data) < HEADER_LENGTH:
            self.counters.unmatched += 1
            return
        local_address = holder.local_address
        if local_address is None and ancillary.local_address is not None:
            local_address = _address_of(socket.inet_ntop(holder.family, ancillary.local_address))
        channel.receiver.receive(data, self._rx_stamp(ancillary), local_address)

    def _rx_stamp(self, ancillary: kernelstamps.Ancillary) -> Stamp:
        daemon = self._event_stamp
        if ancillary.kernel_ns is None:
            self._keep_stamping()
            return daemon
        cooked_ns, err_s = self._clock.cook(ancillary.kernel_ns)
        if abs(diff_s(daemon.cooked_ns, cooked_ns)) > MAX_STAMP_DISTANCE_S:
            self.counters.foreign_stamps += 1
            return daemon
        return Stamp(cooked_ns, err_s, StampSource.KERNEL)

    def _channel_of(self, holder: _Socket, sender: tuple[str, int]) -> _Channel | None:
        if holder.connected:
            return next(iter(holder.channels.values()), None)
        address = _address_of(sender[0])
        return holder.channels.get((address, sender[1])) if address is not None else None


def _address_of(text: str) -> IPAddress | None:
    """An address as the socket module gives it, with or without a zone."""
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None
