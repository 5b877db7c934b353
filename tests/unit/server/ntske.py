"""Clients and keys for the tests of key exchange."""

import asyncio
import contextlib
import socket

from ntpd_fast._nts import KeyRing
from ntpd_fast.nts.records import MessageReader, encode, read_response, request_records
from ntpd_fast.server.keyring import CURRENT, random_keys
from tests.tls_peers import tls_client

SIV = 15


class Lines:
    def __init__(self):
        self.lines = []

    def __call__(self, severity, text):
        self.lines.append(text)

    def having(self, part):
        return [line for line in self.lines if part in line]


def publish(ring):
    keys = random_keys()
    ring.publish([(k.identifier, k.algorithm, k.key) for k in keys], keys[CURRENT].identifier)


def filled_ring():
    ring = KeyRing()
    publish(ring)
    return ring


async def exchange(authority, port, *, tls=None, message=None, source="127.0.0.1"):
    """A whole key exchange; what the server answered."""
    loop = asyncio.get_running_loop()
    client = tls or tls_client(authority)
    message = encode(request_records([SIV])) if message is None else message
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind((source, 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        received = b""
        sent = False
        while True:
            if client.handshake() and not sent:
                sent = True
                client.write(message)
            if data := client.out():
                await loop.sock_sendall(sock, data)
            data = await loop.sock_recv(sock, 16384)
            client.feed(data)
            if sent:
                while chunk := client.read():
                    received += chunk
                if chunk == b"":
                    return received


@contextlib.asynccontextmanager
async def greeting(authority, port):
    """A client that has sent its first flight: socket and TLS session."""
    loop = asyncio.get_running_loop()
    client = tls_client(authority)
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        client.handshake()
        await loop.sock_sendall(sock, client.out())
        yield sock, client


async def take_greeting(sock, client):
    """Take what the server sends first; the client's Finished is to be sent then, by itself or with a request."""
    while not client.handshake():
        client.feed(await asyncio.get_running_loop().sock_recv(sock, 16384))


async def half_open(port, data=b"\x16\x03\x01", source="127.0.0.1"):
    """A connection that never goes on."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    await loop.sock_connect(sock, ("127.0.0.1", port))
    if data:
        await loop.sock_sendall(sock, data)
    return sock


async def is_closed(sock, timeout_s=1.0):
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), timeout_s) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def granted(data):
    return read_response(MessageReader().feed(data), [SIV])
