"""The command sockets, Unix datagram sockets and UDP: opened by the supervisor before privileges are dropped.

A socket that cannot be opened costs that socket and a warning, never the daemon: time goes on being served. Who reads
them is `transport`.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._record import dataclass

IPAddress = IPv4Address | IPv6Address
Warn = Callable[[str], None]

IP_PKTINFO = 8  # <linux/in.h>; the socket module of Python 3.11 lacks it
_DIRECTORY_MODE = 0o770
# Members of the group may make their own sockets beside ours, and not remove or replace what others made.
_REPORTS_DIRECTORY_MODE = 0o1770
_REPORTS_SOCKET_MODE = 0o660


class Origin(Enum):
    """The kind of socket a request came in by."""

    UNIX = "Unix socket"
    UNIX_REPORTS = "Unix socket of the monitoring group"
    UDP = "UDP"


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
            udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
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
