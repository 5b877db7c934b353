"""A tiny NTP server whose behaviour a test writes as a function: request and its number in, datagrams out."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loadtest.targets import Target, target

NTP_UNIX_OFFSET = 2208988800

# (request, how many came before it) → answers, sent in order from the server's address
Script = Callable[[bytes, int], list[bytes]]


def ntp_now() -> int:
    """NTP64 of the system clock."""
    seconds, ns = divmod(time.time_ns(), 1_000_000_000)
    return (seconds + NTP_UNIX_OFFSET) << 32 | (ns << 32) // 1_000_000_000


def answer(
    request: bytes,
    *,
    origin: bytes | None = None,
    rx: int | None = None,
    tx: int | None = None,
    stratum: int = 10,
    refid: bytes = b"\x7f\x7f\x01\x01",
    first: int = 0x24,
) -> bytes:
    """A basic answer to `request` with some of its fields replaced."""
    rx = ntp_now() | 1 if rx is None else rx
    tx = ntp_now() & ~1 if tx is None else tx
    head = struct.pack("!BBbb", first, stratum, 0, -25) + bytes(8) + refid + bytes(8)
    return head + (request[40:48] if origin is None else origin) + struct.pack("!QQ", rx, tx)


@contextmanager
def scripted(script: Script) -> Iterator[Target]:
    """Serve in a thread on a free loopback port until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            number = 0
            while not ended.is_set():
                try:
                    request, client = sock.recvfrom(2048)
                except TimeoutError:
                    continue
                for datagram in script(request, number):
                    sock.sendto(datagram, client)
                number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield target("127.0.0.1", sock.getsockname()[1])
        finally:
            ended.set()
            thread.join()
