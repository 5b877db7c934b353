"""Sockets handed over by the service manager, and environments full of junk."""

import os
import socket

import pytest

from ntpd_fast.system.listen_fds import HandedOver, format_address


def handed(monkeypatch, objects, *, count=None, pid=None):
    """`HandedOver.from_environment` in a child whose descriptors 3... are the given ones; what `describe` says."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        out = os.dup2(write_end, 900)
        copies = [os.dup(thing.fileno()) for thing in objects]
        copies = [os.dup2(copy, 100 + index) for index, copy in enumerate(copies)]
        os.closerange(3, 100)
        for index, copy in enumerate(copies):
            os.dup2(copy, 3 + index)
        os.environ["LISTEN_PID"] = str(os.getpid()) if pid is None else pid
        os.environ["LISTEN_FDS"] = str(len(objects)) if count is None else count
        try:
            taken = HandedOver.from_environment()
            found = [repr(item.getsockname()) for item in taken._sockets]
            closed = [number for number in range(3, 3 + len(objects)) if not os.path.exists(f"/proc/self/fd/{number}")]
            left = [name for name in os.environ if name.startswith("LISTEN_")]
            os.write(out, repr((found, closed, left)).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return eval(text)


@pytest.fixture
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        yield opened


def test_sockets_are_taken_over_and_the_environment_cleaned(monkeypatch, udp):
    found, closed, left = handed(monkeypatch, [udp, udp])
    assert found == [repr(udp.getsockname())] * 2
    assert closed == []
    assert left == []


def test_what_is_no_ip_socket_is_closed(monkeypatch, udp):
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with open("/dev/null") as plain, unix:
        found, closed, _ = handed(monkeypatch, [plain, udp, unix])
    assert found == [repr(udp.getsockname())]
    assert closed == [3, 5]


@pytest.mark.parametrize(("count", "pid"), [("1", "1"), ("junk", None), ("-1", None), ("", ""), ("1", "junk")])
def test_junk_is_not_believed(monkeypatch, udp, count, pid):
    found, _, left = handed(monkeypatch, [udp], count=count, pid=pid)
    assert (found, left) == ([], [])


def test_more_than_there_are_is_bounded(monkeypatch, udp):
    found, _, _ = handed(monkeypatch, [udp], count="99999999999")
    # the second is the copy the helper made at descriptor 100
    assert found == [repr(udp.getsockname())] * 2


def test_take_gives_each_socket_once(udp):
    address, port = udp.getsockname()
    given = HandedOver([udp])
    assert given.take(socket.AF_INET, socket.SOCK_STREAM, address, port) == []
    assert given.take(socket.AF_INET6, socket.SOCK_DGRAM, address, port) == []
    assert given.take(socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", port) == []
    assert given.take(socket.AF_INET, socket.SOCK_DGRAM, address, port) == [udp]
    assert given.take(socket.AF_INET, socket.SOCK_DGRAM, address, port) == []


def test_addresses_as_admins_write_them():
    assert format_address("0.0.0.0", 123) == "0.0.0.0:123"
    assert format_address("::", 123) == "[::]:123"
