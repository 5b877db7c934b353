"""Opening the command sockets: who may reach them, and what happens when something is in the way."""

import os
import socket
import stat
from ipaddress import ip_address

import pytest

from ntpd_fast.monitor import sockets
from ntpd_fast.monitor.sockets import Origin

UID, GID = os.getuid(), os.getgid()


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_socket_gets_a_directory_closed_to_others(run):
    command_socket = sockets.open_unix(f"{run}/sock", UID, GID)
    assert command_socket.origin is Origin.UNIX
    assert mode(run) == 0o750
    assert stat.S_ISSOCK(os.stat(run / "sock").st_mode)
    command_socket.close()
    assert not (run / "sock").exists()


@pytest.mark.parametrize("bits", [0o775, 0o755, 0o751, 0o772, 0o777])
def test_a_directory_open_to_others_disables_the_socket(run, bits):
    run.mkdir(parents=True)
    run.chmod(bits)
    with pytest.raises(sockets.SocketRefused, match=f"Wrong permissions on {run}"):
        sockets.open_unix(f"{run}/sock", UID, GID)


@pytest.mark.parametrize("bits", [0o770, 0o750, 0o700])
def test_a_directory_closed_to_others_is_taken_as_it_is(run, bits):
    run.mkdir(parents=True)
    run.chmod(bits)
    sockets.open_unix(f"{run}/sock", UID, GID).close()
    assert mode(run) == bits


def test_a_directory_of_somebody_else_disables_the_socket(run):
    run.mkdir(parents=True, mode=0o700)
    with pytest.raises(sockets.SocketRefused, match=f"Wrong owner of {run}"):
        sockets.open_unix(f"{run}/sock", UID + 1, GID)
    with pytest.raises(sockets.SocketRefused, match="GID"):
        sockets.open_unix(f"{run}/sock", UID, GID + 1)


def test_a_stale_socket_is_replaced_and_a_file_is_not(run):
    first = sockets.open_unix(f"{run}/sock", UID, GID)
    first.socket.close()
    sockets.open_unix(f"{run}/sock", UID, GID).close()
    (run / "sock").write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        sockets.open_unix(f"{run}/sock", UID, GID)
    assert (run / "sock").read_text() == "precious"


def test_the_group_socket_is_for_the_group_and_its_directory_sticky(run):
    command_socket = sockets.open_unix_reports(f"{run}/sock", UID, GID)
    assert command_socket.origin is Origin.UNIX_REPORTS
    assert mode(run) == 0o1770
    assert mode(run / "sock") == 0o660
    command_socket.close()


def test_a_group_directory_without_sticky_bit_is_refused(run):
    run.mkdir(parents=True)
    run.chmod(0o770)
    with pytest.raises(sockets.SocketRefused, match="sticky"):
        sockets.open_unix_reports(f"{run}/sock", UID, GID)


def test_what_cannot_be_opened_is_warned_about_and_the_rest_is_opened(run):
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    run.mkdir(parents=True)
    run.chmod(0o777)
    warnings: list[str] = []
    plan = sockets.SocketPlan(
        unix_path=f"{run}/sock",
        uid=UID,
        gid=GID,
        addresses=(ip_address("127.0.0.1"), ip_address("::1")),
        port=port,
        reports_path=f"{run}/{'x' * 200}/sock",
    )
    opened = sockets.open_sockets(plan, warnings.append)
    assert [s.socket.family for s in opened] == [socket.AF_INET6]
    assert warnings[0] == f"Could not open command socket on 127.0.0.1:{port} : Address already in use"
    assert warnings[1:3] == [f"Wrong permissions on {run}", f"Disabled command socket {run}/sock"]
    assert warnings[3].startswith("Could not open command socket on ")
    assert len(warnings) == 4
    for command_socket in opened:
        command_socket.close()
    taken.close()


def test_port_0_and_empty_paths_open_nothing():
    plan = sockets.SocketPlan(unix_path="", uid=UID, gid=GID, addresses=(ip_address("127.0.0.1"),), port=0)
    assert sockets.open_sockets(plan, pytest.fail) == []


def test_an_unknown_device_is_reported_by_the_system():
    with pytest.raises(OSError, match="device"):
        sockets.open_udp(ip_address("127.0.0.1"), 0, "nosuch0")
