"""MS-SNTP: answers that Samba's signing daemon signs, sent from control's own server sockets.

A worker prepares the answer and hands it over; what comes back signed goes to the client from the address it asked.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence

from ntpd_fast.control.associations import Handed
from ntpd_fast.server.signd import SigndClient, SigndCounters
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.sending import socket_bound_to

_IP_PKTINFO = 8
_LINK_LOCAL_ONLY = 0


class Signer:
    """Has answers signed and sends them, while there is somebody to sign.

    `counters` are of all signing daemons there were.
    """

    def __init__(self, directory: str | None, sockets: Callable[[], Sequence[socket.socket]], log: Log) -> None:
        """`directory`: see `follow`; `sockets`: gives those there are now."""
        self._sockets = sockets
        self._log = log
        self._client: SigndClient[Handed] | None = None
        self.counters = SigndCounters()
        self.follow(directory)

    def follow(self, directory: str | None) -> None:
        """Ask the signing daemon of this directory (`ntpsigndsocket`) from now on; None: nobody."""
        self.close()
        if directory is not None:
            self._client = SigndClient(directory, self._deliver, self._log, counters=self.counters)
            self._log(Severity.INFO, "MS-SNTP authentication enabled")

    def close(self) -> None:
        """Drop what waits for a signature, and leave the signing daemon."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def sign(self, handed: Handed) -> None:
        """Have one answer signed; it is dropped and counted when too many wait."""
        if self._client is not None:
            self._client.submit(handed.key_id.to_bytes(4, "big"), handed.data, handed)

    def _deliver(self, handed: Handed, packet: bytes) -> None:
        opened = socket_bound_to(self._sockets(), handed.local, handed.remote.version)
        if opened is None:
            self.counters.unsent += 1
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
            self.counters.unsent += 1
