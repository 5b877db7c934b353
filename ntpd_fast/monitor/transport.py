"""The command sockets: Unix datagram sockets and UDP, and the reader that feeds the dispatcher.

Opening is apart from serving: sockets are opened by the supervisor before privileges are dropped, and served by
control. A socket that cannot be opened costs that socket and a warning, never the daemon: time goes on being
served. A wake-up takes a bounded number of requests, so that a flood of questions does not starve timers. Replies
leave from the address that was asked; nothing is queued: a reply the kernel does not take is counted and lost,
as on any datagram socket.
"""

import errno
import os
import socket
import stat
import struct
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._record import dataclass

from .codec.address import Address, Family
from .codec.commands import REQUEST_LENGTH_MAX
from .dispatch import Dispatcher, Peer
from .permissions import Origin

IPAddress = IPv4Address | IPv6Address
Warn = Callable[[str], None]

# Requests taken at one wake-up; what is left wakes the loop again at once.
BATCH_MAX = 16
# Room for control messages; simulators in front of libc want at least this much.
_CONTROL_ROOM = 512
_IP_PKTINFO = 8  # <linux/in.h>; the socket module of Python 3.11 lacks it
_PKTINFO4 = struct.Struct("=i4s4s")  # interface, address of the interface, destination
_PKTINFO6 = struct.Struct("=16si")
_DIRECTORY_MODE = 0o770
# Members of the group may make their own sockets beside ours, and not remove or replace what others made.
_REPORTS_DIRECTORY_MODE = 0o1770
_REPORTS_SOCKET_MODE = 0o660


@dataclass(frozen=True)
class CommandSocket:
    """An open socket; `path` is what has to be removed at the end (None for UDP)."""

    socket: socket.socket
    origin: Origin
    path: str | None = None

    def close(self, *, remove: bool = True) -> None:
        self.socket.close()
        if remove and self.path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.path)


class SocketRefused(Exception):
    """Why a socket was not opened; for the log."""


def open_udp(address: IPAddress, port: int, device: str | None = None) -> CommandSocket:
    """A UDP command socket. OSError when it cannot be had."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if device is not None:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        udp.bind((str(address), port))
    except OSError:
        udp.close()
        raise
    return CommandSocket(udp, Origin.UDP)


def open_unix(path: str, uid: int, gid: int) -> CommandSocket:
    """The Unix command socket, in a directory that only user `uid` and group `gid` can reach.

    The directory is made if it is missing; one that others can enter or that somebody else owns is refused,
    because it is the directory that protects the socket. SocketRefused says why; OSError from the system.
    """
    directory = os.path.dirname(path) or "."
    _make_directory(directory, uid, gid, _DIRECTORY_MODE)
    _check_directory(directory, uid, gid)
    return CommandSocket(_bind_unix(path, uid, gid), Origin.UNIX, path)


def open_unix_reports(path: str, uid: int, group_gid: int) -> CommandSocket:
    """The Unix socket of the monitoring group: reports and no changes.

    It has a directory of its own, because that of the command socket is closed to everybody else. The group
    may write there: chronyc, and whatever is built on the protocol, binds its own socket beside the daemon's.
    """
    directory = os.path.dirname(path) or "."
    _make_directory(directory, uid, group_gid, _REPORTS_DIRECTORY_MODE)
    _check_directory(directory, uid, group_gid)
    if not os.stat(directory).st_mode & stat.S_ISVTX:
        raise SocketRefused(f"{directory} has no sticky bit: members of the group could replace the socket")
    unix = _bind_unix(path, uid, group_gid)
    try:
        os.chmod(path, _REPORTS_SOCKET_MODE)
    except OSError:
        CommandSocket(unix, Origin.UNIX_REPORTS, path).close()
        raise
    return CommandSocket(unix, Origin.UNIX_REPORTS, path)


def _make_directory(directory: str, uid: int, gid: int, mode: int) -> None:
    parent = os.path.dirname(directory)
    if parent and not os.path.isdir(parent):
        os.makedirs(parent, 0o755, exist_ok=True)
    try:
        os.mkdir(directory, mode & 0o777)
    except FileExistsError:
        return
    _give(directory, uid, gid)
    if mode & stat.S_ISVTX:
        os.chmod(directory, mode)


def _give(path: str, uid: int, gid: int) -> None:
    found = os.stat(path)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.chown(path, uid, gid)


def _check_directory(directory: str, uid: int, gid: int) -> None:
    found = os.stat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise SocketRefused(f"{directory} is not a directory")
    if found.st_mode & 0o777 & ~_DIRECTORY_MODE:
        raise SocketRefused(f"Wrong permissions on {directory}")
    if found.st_uid != uid:
        raise SocketRefused(f"Wrong owner of {directory} (UID != {uid})")
    if found.st_gid != gid:
        raise SocketRefused(f"Wrong owner of {directory} (GID != {gid})")


def _bind_unix(path: str, uid: int, gid: int) -> socket.socket:
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        unix.bind(path)
        try:
            _give(path, uid, gid)
        except OSError:
            os.unlink(path)
            raise
    except OSError:
        unix.close()
        raise
    return unix


def _remove_stale(path: str) -> None:
    """A socket left by a daemon that did not end properly; a file of any other kind is not ours to remove."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "not a socket", path)
    os.unlink(path)


@dataclass(frozen=True, kw_only=True)
class SocketPlan:
    """What to open; an empty path or port 0 is none of that kind."""

    unix_path: str
    uid: int
    gid: int
    addresses: tuple[IPAddress, ...]
    port: int
    device: str | None = None
    reports_path: str = ""
    reports_gid: int = 0


def open_sockets(plan: SocketPlan, warn: Warn) -> list[CommandSocket]:
    """Every socket of the plan that can be had; a warning for each that cannot."""
    opened: list[CommandSocket] = []
    if plan.port:
        for address in plan.addresses:
            where = f"[{address}]" if address.version == 6 else str(address)
            try:
                opened.append(open_udp(address, plan.port, plan.device))
            except OSError as error:
                warn(f"Could not open command socket on {where}:{plan.port} : {error.strerror or error}")
    wanted = (
        (plan.unix_path, open_unix, plan.gid),
        (plan.reports_path, open_unix_reports, plan.reports_gid),
    )
    for path, opener, gid in wanted:
        if not path:
            continue
        try:
            opened.append(opener(path, plan.uid, gid))
        except SocketRefused as refusal:
            warn(str(refusal))
            warn(f"Disabled command socket {path}")
        except OSError as error:
            warn(f"Could not open command socket on {path} : {error.strerror or error}")
    return opened


class Fault(Enum):
    """What went wrong outside the dispatcher."""

    NO_PEER_ADDRESS = "the client's socket has no address to reply to"
    RECEIVE_FAILED = "the system reported an error on receiving"
    SEND_FAILED = "the reply was not taken by the system or by the client"


class CommandServer:
    """Reads the sockets on an event loop (asyncio's or uvloop's) and sends the dispatcher's replies."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        dispatcher: Dispatcher,
        sockets: Iterable[CommandSocket],
        now_ns: Callable[[], int],
        before_batch: Callable[[], None] | None = None,
    ) -> None:
        """`before_batch` is called whenever requests have come in, before they are served."""
        self._before_batch = before_batch
        self._loop = loop
        self._dispatcher = dispatcher
        self._sockets = list(sockets)
        self._now_ns = now_ns
        self.faults: Counter[Fault] = Counter()

    def start(self) -> None:
        for command_socket in self._sockets:
            serve = self._serve_udp if command_socket.origin is Origin.UDP else self._serve_unix
            self._loop.add_reader(command_socket.socket.fileno(), serve, command_socket)

    def stop(self) -> None:
        """Stop reading; the sockets stay open and the caller's."""
        for command_socket in self._sockets:
            self._loop.remove_reader(command_socket.socket.fileno())

    def _serve_unix(self, command_socket: CommandSocket) -> None:
        if self._before_batch is not None:
            self._before_batch()
        unix, peer = command_socket.socket, Peer(command_socket.origin)
        for _ in range(BATCH_MAX):
            try:
                packet, client = unix.recvfrom(REQUEST_LENGTH_MAX + 1)
            except OSError as error:
                self._received_error(error)
                return
            if not client:
                self.faults[Fault.NO_PEER_ADDRESS] += 1
                continue
            reply = self._dispatcher.handle(packet, peer, self._now_ns())
            if reply is not None:
                try:
                    unix.sendto(reply, client)
                except OSError:
                    self.faults[Fault.SEND_FAILED] += 1

    def _serve_udp(self, command_socket: CommandSocket) -> None:
        if self._before_batch is not None:
            self._before_batch()
        udp = command_socket.socket
        for _ in range(BATCH_MAX):
            try:
                packet, control, _flags, client = udp.recvmsg(REQUEST_LENGTH_MAX + 1, _CONTROL_ROOM)
            except OSError as error:
                self._received_error(error)
                return
            peer = Peer(Origin.UDP, _peer_address(udp.family, client))
            reply = self._dispatcher.handle(packet, peer, self._now_ns())
            if reply is not None:
                try:
                    udp.sendmsg([reply], _reply_from(control, client), 0, client)
                except OSError:
                    self.faults[Fault.SEND_FAILED] += 1

    def _received_error(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError | InterruptedError):
            self.faults[Fault.RECEIVE_FAILED] += 1


def _peer_address(family: int, client: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    if family == socket.AF_INET:
        return Address(Family.INET4, socket.inet_pton(socket.AF_INET, client[0]))
    return Address(Family.INET6, socket.inet_pton(socket.AF_INET6, client[0].partition("%")[0]))


def _reply_from(
    control: Sequence[tuple[int, int, bytes]], client: tuple[str, int] | tuple[str, int, int, int]
) -> list[tuple[int, int, bytes]]:
    """The control message that sends from the address the request came to."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _PKTINFO4.size:
            _interface, _, destination = _PKTINFO4.unpack_from(data)
            return [(level, kind, _PKTINFO4.pack(0, destination, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _PKTINFO6.size:
            destination, interface = _PKTINFO6.unpack_from(data)
            link_local = len(client) > 2 and client[3] != 0
            return [(level, kind, _PKTINFO6.pack(destination, interface if link_local else 0))]
    return []
