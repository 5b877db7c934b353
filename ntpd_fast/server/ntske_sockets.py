"""The listening sockets of NTS key exchange: opened once, shared by all its processes.

One that cannot be opened is an error in the log and no more: a daemon without key exchange still serves time. Every
socket is a plain listener; connections are whoever's accepts them first.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterable
from typing import Final

from ntpd_fast.server.sockets import BindAddress
from ntpd_fast.system.listen_fds import HandedOver

log = logging.getLogger(__name__)

# linux/in.h, linux/in6.h
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


def open_ke_sockets(
    wanted: Iterable[BindAddress], backlog: int, device: str | None, handed_over: HandedOver | None = None
) -> list[socket.socket]:
    """Listeners on the wanted addresses. `backlog`: connections that may wait to be accepted."""
    opened = []
    for bind in wanted:
        taken = handed_over.take(bind.family, socket.SOCK_STREAM, bind.address, bind.port) if handed_over else []
        if taken:
            log.info("Using socket handed over for NTS-KE on %s", bind)
            opened += taken
            continue
        try:
            opened.append(_listen(bind, backlog, device))
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                # a system without that family has no clients in it either
                continue
            log.error("Could not open NTS-KE socket on %s : %s", bind, error.strerror)
    return opened


def _listen(bind: BindAddress, backlog: int, device: str | None) -> socket.socket:
    listener = socket.socket(bind.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if bind.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            # an address that does not exist yet may be bound
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        # connections of a daemon that has just ended must not keep the next one from its port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        listener.bind((bind.address, bind.port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
