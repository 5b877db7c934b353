"""The sockets: who may reach them, where replies come from, what happens when something is in the way."""

import asyncio
import os
import socket
import stat
from ipaddress import ip_address

import pytest
import uvloop

from ntpd_fast.config.model import OPENCOMMANDS_DEFAULT
from ntpd_fast.monitor import transport
from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import COMMANDS, Number, Status
from ntpd_fast.monitor.dispatch import Dispatcher, Outcome
from ntpd_fast.monitor.permissions import Origin, open_commands
from tests.unit.monitor.fakes import CountingPart, full_backends

UID, GID = os.getuid(), os.getgid()
TRACKING = pk.encode_request(COMMANDS[Number.TRACKING], req.Nothing(), 77)
MAKESTEP = pk.encode_request(COMMANDS[Number.MAKESTEP], req.Nothing(), 78)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def run(tmp_path, umask):
    return tmp_path / "run" / "ntp"


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_socket_gets_a_directory_closed_to_others(run):
    command_socket = transport.open_unix(f"{run}/sock", UID, GID)
    assert command_socket.origin is Origin.UNIX
    assert mode(run) == 0o750
    assert stat.S_ISSOCK(os.stat(run / "sock").st_mode)
    command_socket.close()
    assert not (run / "sock").exists()


@pytest.mark.parametrize("bits", [0o775, 0o755, 0o751, 0o772, 0o777])
def test_a_directory_open_to_others_disables_the_socket(run, bits):
    run.mkdir(parents=True)
    run.chmod(bits)
    with pytest.raises(transport.SocketRefused, match=f"Wrong permissions on {run}"):
        transport.open_unix(f"{run}/sock", UID, GID)


@pytest.mark.parametrize("bits", [0o770, 0o750, 0o700])
def test_a_directory_closed_to_others_is_taken_as_it_is(run, bits):
    run.mkdir(parents=True)
    run.chmod(bits)
    transport.open_unix(f"{run}/sock", UID, GID).close()
    assert mode(run) == bits


def test_a_directory_of_somebody_else_disables_the_socket(run):
    run.mkdir(parents=True, mode=0o700)
    with pytest.raises(transport.SocketRefused, match=f"Wrong owner of {run}"):
        transport.open_unix(f"{run}/sock", UID + 1, GID)
    with pytest.raises(transport.SocketRefused, match="GID"):
        transport.open_unix(f"{run}/sock", UID, GID + 1)


def test_a_stale_socket_is_replaced_and_a_file_is_not(run):
    first = transport.open_unix(f"{run}/sock", UID, GID)
    first.socket.close()
    transport.open_unix(f"{run}/sock", UID, GID).close()
    (run / "sock").write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        transport.open_unix(f"{run}/sock", UID, GID)
    assert (run / "sock").read_text() == "precious"


def test_the_group_socket_is_for_the_group_and_its_directory_sticky(run):
    command_socket = transport.open_unix_reports(f"{run}/sock", UID, GID)
    assert command_socket.origin is Origin.UNIX_REPORTS
    assert mode(run) == 0o1770
    assert mode(run / "sock") == 0o660
    command_socket.close()


def test_a_group_directory_without_sticky_bit_is_refused(run):
    run.mkdir(parents=True)
    run.chmod(0o770)
    with pytest.raises(transport.SocketRefused, match="sticky"):
        transport.open_unix_reports(f"{run}/sock", UID, GID)


def test_what_cannot_be_opened_is_warned_about_and_the_rest_is_opened(run):
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    run.mkdir(parents=True)
    run.chmod(0o777)
    warnings: list[str] = []
    plan = transport.SocketPlan(
        unix_path=f"{run}/sock",
        uid=UID,
        gid=GID,
        addresses=(ip_address("127.0.0.1"), ip_address("::1")),
        port=port,
        reports_path=f"{run}/{'x' * 200}/sock",
    )
    opened = transport.open_sockets(plan, warnings.append)
    assert [s.socket.family for s in opened] == [socket.AF_INET6]
    assert warnings[0] == f"Could not open command socket on 127.0.0.1:{port} : Address already in use"
    assert warnings[1:3] == [f"Wrong permissions on {run}", f"Disabled command socket {run}/sock"]
    assert warnings[3].startswith("Could not open command socket on ")
    assert len(warnings) == 4
    for command_socket in opened:
        command_socket.close()
    taken.close()


def test_port_0_and_empty_paths_open_nothing():
    plan = transport.SocketPlan(unix_path="", uid=UID, gid=GID, addresses=(ip_address("127.0.0.1"),), port=0)
    assert transport.open_sockets(plan, pytest.fail) == []


def test_an_unknown_device_is_reported_by_the_system():
    with pytest.raises(OSError, match="device"):
        transport.open_udp(ip_address("127.0.0.1"), 0, "nosuch0")


class Server:
    """A served set of sockets on a loop of its own, driven by the test."""

    def __init__(self, loop, sockets):
        self.loop = loop
        self.part = CountingPart()
        self.dispatcher = Dispatcher(full_backends(self.part), open_commands(OPENCOMMANDS_DEFAULT))
        self.server = transport.CommandServer(loop, self.dispatcher, sockets, lambda: 10**18)
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
    command_socket = transport.open_unix(f"{run}/sock", UID, GID)
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
    command_socket = transport.open_unix_reports(f"{run}/sock", UID, GID)
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
    command_socket = transport.open_unix(f"{run}/sock", UID, GID)
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
    command_socket = transport.open_udp(ip_address(bound), 0)
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

    command_socket = transport.open_udp(ip_address("127.0.0.1"), 0)
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
