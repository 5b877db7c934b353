"""MS-SNTP: answers that Samba's signing daemon signs, sent from control's own server sockets.

A worker prepares the answer and hands it over; what comes back signed goes to the client from the address it asked.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence

from ntpd_fast.config.model import Config
from ntpd_fast.control.associations import Handed
from ntpd_fast.server.signd import SigndClient
from ntpd_fast.system.messages import Log, Severity

_IP_PKTINFO = 8
_LINK_LOCAL_ONLY = 0


def make_signer(
    config: Config, sockets: Callable[[], Sequence[socket.socket]], log: Log
) -> Callable[[Handed], None] | None:
    """Takes answers that Samba is to sign, where that is configured."""
    directory = config.ntpsigndsocket
    return None if directory is None else Signer(directory, sockets, log).sign


class Signer:
    """Has answers signed and sends them."""

    def __init__(self, directory: str, sockets: Callable[[], Sequence[socket.socket]], log: Log) -> None:
        """`directory`: the argument of `ntpsigndsocket`; `sockets`: those there are now, at most one of each family."""
        self._sockets = sockets
        self._client: SigndClient[Handed] = SigndClient(directory, self._deliver, log)
        self.send_errors = 0
        log(Severity.INFO, "MS-SNTP authentication enabled")

    @property
    def client(self) -> SigndClient[Handed]:
        """The connection to the signing daemon, with its counters."""
        return self._client

    def sign(self, handed: Handed) -> None:
        """Have one answer signed; it is dropped and counted when too many wait."""
        self._client.submit(handed.key_id.to_bytes(4, "big"), handed.data, handed)

    def _deliver(self, handed: Handed, packet: bytes) -> None:
        family = socket.AF_INET if handed.remote.version == 4 else socket.AF_INET6
        opened = next((opened for opened in self._sockets() if opened.family == family), None)
        if opened is None:
            self.send_errors += 1
            return
        control = []
        if handed.local is not None and handed.local.version == 4:
            info = struct.pack("=i4s4s", _LINK_LOCAL_ONLY, handed.local.packed, bytes(4))
            control.append((socket.IPPROTO_IP, _IP_PKTINFO, info))
        elif handed.local is not None:
            interface = handed.interface if handed.local.is_link_local else 0
            info = struct.pack("=16si", handed.local.packed, interface)
            control.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info))
        try:
            opened.sendmsg([packet], control, 0, (str(handed.remote), handed.port))
        except OSError:
            self.send_errors += 1
