"""Descriptors watched through an epoll set, under both event loops: what libuv forgets must be reported here."""

import asyncio
import socket
import struct

import pytest
import uvloop

from ntpd_fast.system.readiness import EVENTS_A_TURN, Readiness


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def readiness(loop):
    made = Readiness(loop)
    yield made
    made.close()


def run(loop):
    """A moment of the loop."""
    loop.run_until_complete(asyncio.sleep(0.02))


def test_a_reset_connection_is_reported(loop, readiness):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        server.setblocking(False)
        seen = []

        def readable():
            try:
                seen.append(server.recv(100))
            except OSError as error:
                seen.append(type(error))
                readiness.forget(server.fileno())

        readiness.watch(server.fileno(), readable)
        server.shutdown(socket.SHUT_WR)
        client.send(b"bye")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        run(loop)
        assert seen == [b"bye", ConnectionResetError]
        server.close()


def test_reading_and_writing_replace_each_other(loop, readiness):
    one, other = socket.socketpair()
    calls = []
    readiness.watch(one.fileno(), lambda: calls.append(one.recv(10)))
    other.send(b"a")
    run(loop)
    assert calls == [b"a"]

    def writable():
        calls.append("write")
        readiness.watch(one.fileno(), lambda: calls.append(one.recv(10)))

    readiness.watch(one.fileno(), writable, write=True)
    run(loop)
    other.send(b"b")
    run(loop)
    assert calls == [b"a", "write", b"b"]
    one.close()
    other.close()


def test_a_forgotten_descriptor_is_not_reported_even_in_the_same_turn(loop, readiness):
    pairs = [socket.socketpair() for _ in range(2)]
    calls = []

    def first_forgets_all():
        calls.append(1)
        for one, _ in pairs:
            readiness.forget(one.fileno())

    for one, other in pairs:
        readiness.watch(one.fileno(), first_forgets_all)
        other.send(b"x")
    run(loop)
    assert calls == [1]
    readiness.forget(pairs[0][0].fileno())
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_more_than_one_turn_holds_are_all_reported(loop, readiness):
    pairs = [socket.socketpair() for _ in range(2 * EVENTS_A_TURN)]
    calls = []
    for one, other in pairs:
        readiness.watch(one.fileno(), lambda one=one: calls.append(one.recv(10)))
        other.send(b"x")
    run(loop)
    assert calls == [b"x"] * len(pairs)
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_closing_in_a_callback_ends_the_turn(loop):
    made = Readiness(loop)
    pairs = [socket.socketpair() for _ in range(2)]
    calls = []

    def close():
        calls.append(1)
        made.close()

    for one, other in pairs:
        made.watch(one.fileno(), close)
        other.send(b"x")
    run(loop)
    assert calls == [1]
    for pair in pairs:
        for sock in pair:
            sock.close()
