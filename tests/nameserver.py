"""A name server of a test's own: a thread that answers what the test says, to whoever asks on one address.

It knows addresses (A and AAAA) and the ways to fail: a name that does not exist, a server that says it failed, none at
all. The zone may be changed at any time.
"""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

HEADER = struct.Struct("!HHHHHH")
A, AAAA = 1, 28
NO_ERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
ANSWER_FLAGS = 0x8180
PORT = 53


class NameServer:
    """`zone` says what names stand for: addresses, or one of the failures; other names do not exist."""

    FAILS = "fails"
    SILENT = "silent"

    def __init__(self) -> None:
        self.zone: dict[str, list[str] | str] = {}
        self.asked: list[str] = []
        """Every question for an IPv4 address."""

    def answer(self, request: bytes) -> bytes | None:
        """The answer to a question, None for no answer."""
        number = HEADER.unpack_from(request)[0]
        labels, place = [], HEADER.size
        while request[place]:
            labels.append(request[place + 1 : place + 1 + request[place]].decode())
            place += 1 + request[place]
        question = request[HEADER.size : place + 5]
        (kind,) = struct.unpack_from("!H", request, place + 1)
        name = ".".join(labels)
        if kind == A:
            self.asked.append(name)
        found = self.zone.get(name)
        if found == self.SILENT:
            return None
        code = {None: NXDOMAIN, self.FAILS: SERVFAIL}.get(found if not isinstance(found, list) else "", NO_ERROR)
        version = {A: 4, AAAA: 6}.get(kind)
        addresses = [ip_address(text) for text in found] if isinstance(found, list) else []
        records = [
            struct.pack("!HHHIH", 0xC000 | HEADER.size, kind, 1, 0, len(address.packed)) + address.packed
            for address in addresses
            if address.version == version
        ]
        return HEADER.pack(number, ANSWER_FLAGS | code, 1, len(records), 0, 0) + question + b"".join(records)


@contextmanager
def name_server(address: str) -> Iterator[NameServer]:
    """Serve on port 53 of an address."""
    server = NameServer()
    end, other_end = socket.socketpair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, end, other_end:
        sock.bind((address, PORT))

        def serve() -> None:
            while other_end not in (ready := select.select([sock, other_end], [], [])[0]):
                if sock in ready:
                    request, client = sock.recvfrom(512)
                    answer = server.answer(request)
                    if answer is not None:
                        sock.sendto(answer, client)

        thread = threading.Thread(target=serve, name="name server")
        thread.start()
        try:
            yield server
        finally:
            end.close()
            thread.join()
