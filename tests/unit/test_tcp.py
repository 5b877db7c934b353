"""Stream connections by descriptor, on loopback."""

import contextlib
import errno
import os
import socket
import struct
import time
from ipaddress import ip_address

import pytest

from ntpd_fast import _tcp


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextlib.contextmanager
def connected(address="127.0.0.1"):
    """A listener, a client, and the descriptor of its connection on the server's side."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        listener.setblocking(False)
        assert _tcp.accept(listener.fileno()) is None
        with socket.create_connection(listener.getsockname()[:2], 10) as client:
            accepted = []
            wait_for(lambda: accepted.append(_tcp.accept(listener.fileno())) or accepted[-1])
            fd, peer = accepted[-1]
            assert peer == ip_address(address).packed
            try:
                yield client, fd
            finally:
                os.close(fd)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_conversation(address):
    with connected(address) as (client, fd):
        assert not os.get_inheritable(fd)
        assert _tcp.receive(fd) is None
        client.sendall(b"question")
        received = []
        wait_for(lambda: received.append(_tcp.receive(fd)) or received[-1])
        assert received[-1] == b"question"
        assert _tcp.send(fd, b"answer") == 6
        assert client.recv(100) == b"answer"
        _tcp.finish(fd)
        assert client.recv(100) == b""
        client.shutdown(socket.SHUT_WR)
        wait_for(lambda: _tcp.receive(fd) == b"")


def test_a_peer_that_does_not_read():
    with connected() as (_, fd):
        sent = 0
        while taken := _tcp.send(fd, bytes(100_000)):
            sent += taken
            assert sent < 100_000_000
        assert _tcp.send(fd, b"x") == 0


def test_a_broken_stream():
    with connected() as (client, fd):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(ConnectionResetError):
            wait_for(lambda: _tcp.receive(fd) is not None)
        with pytest.raises(BrokenPipeError):
            _tcp.send(fd, b"x")
        with pytest.raises(OSError) as refused:
            _tcp.finish(fd)
        assert refused.value.errno == errno.ENOTCONN


def test_what_is_no_listener():
    with connected() as (_, fd), pytest.raises(OSError) as refused:
        _tcp.accept(fd)
    assert refused.value.errno == errno.EINVAL
