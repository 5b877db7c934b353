"""A daemon at one moment: a proxy in front of its socket that answers the same question always the same."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ntpd_fast.monitor.codec.commands import COMMANDS
from ntpd_fast.monitor.codec.layout import Layout


class Frozen:
    """The proxy; `path` is its socket."""

    def __init__(self, path: str, daemon: str) -> None:
        self.path = path
        self._replies: dict[bytes, bytes] = {}
        self._clients = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._clients.bind(path)
        self._daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._daemon.bind(path + ".proxy")
        self._daemon.settimeout(5)
        self._daemon.connect(daemon)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            request, client = self._clients.recvfrom(2000)
            if request == b"end":
                return
            reply = self._reply(request)
            self._clients.sendto(reply[:16] + request[8:12] + reply[20:], client)

    def _reply(self, request: bytes) -> bytes:
        number = int.from_bytes(request[4:6], "big")
        # Clients of different versions pad differently; what is asked is the same.
        key = request[4:6] + request[20 : 20 + Layout.of(COMMANDS[number].request).size]
        if key not in self._replies:
            self._daemon.send(request)
            self._replies[key] = self._daemon.recv(2000)
        return self._replies[key]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self.path)
        self._thread.join()
        self._clients.close()
        self._daemon.close()


@contextmanager
def frozen(path: str, daemon: str) -> Iterator[str]:
    """The path of a proxy at `path` in front of the socket `daemon`."""
    proxy = Frozen(path, daemon)
    try:
        yield proxy.path
    finally:
        proxy.close()
