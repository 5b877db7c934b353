"""Serving the command sockets: who is answered, where replies come from, how many at a time."""

import asyncio
import os
import socket
from ipaddress import ip_address

import pytest
import uvloop

from ntpd_fast.config.model import OPENCOMMANDS_DEFAULT
from ntpd_fast.monitor import sockets, transport
from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import COMMANDS, Number, Status
from ntpd_fast.monitor.dispatch import Dispatcher, Outcome
from ntpd_fast.monitor.permissions import open_commands
from tests.unit.monitor.fakes import CountingPart, full_backends

UID, GID = os.getuid(), os.getgid()
TRACKING = pk.encode_request(COMMANDS[Number.TRACKING], req.Nothing(), 77)
MAKESTEP = pk.encode_request(COMMANDS[Number.MAKESTEP], req.Nothing(), 78)


class Server:
    """A served set of sockets on a loop of its own, driven by the test."""

    def __init__(self, loop, served):
        self.loop = loop
        self.part = CountingPart()
        self.dispatcher = Dispatcher(full_backends(self.part), open_commands(OPENCOMMANDS_DEFAULT))
        self.server = transport.CommandServer(loop, self.dispatcher, served, lambda: 10**18)
        self.server.start()

    def turn(self):
        self.loop.run_until_complete(asyncio.sleep(0.02))


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield loop
    loop.close()


def client_unix(path=None):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.settimeout(2)
    if path is not None:
        client.bind(path)
    return client


def test_unix_clients_are_answered_at_their_own_path(run, loop):
    command_socket = sockets.open_unix(f"{run}/sock", UID, GID)
    server = Server(loop, [command_socket])
    client = client_unix(f"{run}/client")
    client.connect(f"{run}/sock")
    client.send(TRACKING)
    client.send(MAKESTEP)
    server.turn()
    assert pk.decode_reply_header(client.recv(1000)).status == Status.SUCCESS
    assert pk.decode_reply_header(client.recv(1000)).status == Status.SUCCESS
    assert server.part.changes == {"make_step": 1}
    abstract = client_unix("")  # bound by the kernel to an abstract name
    abstract.connect(f"{run}/sock")
    abstract.send(TRACKING)
    server.turn()
    assert len(abstract.recv(1000)) == 104
    server.server.stop()
    command_socket.close()


def test_the_group_socket_serves_reports_only(run, loop):
    command_socket = sockets.open_unix_reports(f"{run}/sock", UID, GID)
    server = Server(loop, [command_socket])
    client = client_unix(f"{run}/client")
    client.connect(f"{run}/sock")
    for wire, expected in ((TRACKING, Status.SUCCESS), (MAKESTEP, Status.UNAUTHORISED)):
        client.send(wire)
        server.turn()
        assert pk.decode_reply_header(client.recv(1000)).status == expected
    assert not server.part.changes
    server.server.stop()
    command_socket.close()


def test_a_client_without_address_or_gone_is_counted_and_harmless(run, loop):
    command_socket = sockets.open_unix(f"{run}/sock", UID, GID)
    server = Server(loop, [command_socket])
    nameless = client_unix()
    nameless.connect(f"{run}/sock")
    nameless.send(TRACKING)
    gone = client_unix(f"{run}/gone")
    gone.connect(f"{run}/sock")
    gone.send(TRACKING)
    gone.close()
    os.unlink(run / "gone")
    server.turn()
    assert server.server.faults == {
        transport.Fault.NO_PEER_ADDRESS: 1,
        transport.Fault.SEND_FAILED: 1,
    }
    server.server.stop()
    command_socket.close()


@pytest.mark.parametrize(("bound", "asked"), [("0.0.0.0", "127.0.0.5"), ("127.0.0.1", "127.0.0.1"), ("::", "::1")])
def test_udp_replies_leave_from_the_address_that_was_asked(loop, bound, asked):
    command_socket = sockets.open_udp(ip_address(bound), 0)
    port = command_socket.socket.getsockname()[1]
    server = Server(loop, [command_socket])
    client = socket.socket(command_socket.socket.family, socket.SOCK_DGRAM)
    client.settimeout(2)
    client.connect((asked, port))  # a connected socket hears nobody else
    for wire, expected in ((TRACKING, Status.SUCCESS), (MAKESTEP, Status.UNAUTHORISED)):
        client.send(wire)
        server.turn()
        assert pk.decode_reply_header(client.recv(1000)).status == expected
    assert not server.part.changes
    server.server.stop()
    command_socket.close()


def test_a_wake_up_takes_a_bounded_number_of_requests():
    class OneTurn:
        def add_reader(self, _fd, callback, *args):
            self.ready = lambda: callback(*args)

    command_socket = sockets.open_udp(ip_address("127.0.0.1"), 0)
    loop = OneTurn()
    dispatcher = Dispatcher(full_backends(CountingPart()), open_commands(OPENCOMMANDS_DEFAULT))
    transport.CommandServer(loop, dispatcher, [command_socket], lambda: 0).start()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(transport.BATCH_MAX + 3):
        client.sendto(TRACKING, command_socket.socket.getsockname())
    loop.ready()
    assert dispatcher.outcomes == {Outcome.ANSWERED: transport.BATCH_MAX}
    loop.ready()
    assert dispatcher.outcomes == {Outcome.ANSWERED: transport.BATCH_MAX + 3}
    command_socket.close()
