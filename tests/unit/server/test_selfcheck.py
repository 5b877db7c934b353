"""Asking ourselves: who is asked from where, and what counts as an answer."""

import select
import socket
from ipaddress import ip_address

import pytest

from ntpd_fast.server.selfcheck import SOURCES_MAX, SelfCheck
from ntpd_fast.server.sockets import BindAddress, SocketOptions, open_sockets

PROBE = bytes(range(16))


@pytest.fixture
def served():
    """NTP sockets of `workers` workers on a free port, and the check that asks them."""
    opened = []

    def make(workers, address="127.0.0.1", family=socket.AF_INET, device=None):
        with socket.socket(family, socket.SOCK_DGRAM) as free:
            free.bind((address, 0))
            port = free.getsockname()[1]
        sockets = open_sockets([BindAddress(family, address, port)], workers, SocketOptions(device=device))
        opened.append(sockets)
        return sockets, SelfCheck(sockets, PROBE)

    yield make
    for sockets in opened:
        sockets.close()


def requests(sockets):
    """What lies in the sockets of each worker: (source, data)."""
    found = []
    for member in sockets.groups[0].workers or [sockets.groups[0].control]:
        found.append([])
        while select.select([member], [], [], 0.2)[0]:
            data, source = member.recvfrom(100)
            found[-1].append((source, data, member))
    return found


def test_each_worker_is_asked_once(served):
    sockets, check = served(3, address="0.0.0.0")
    assert check.ask()
    for row in requests(sockets):
        assert [data for _, data, _ in row] == [PROBE]
        assert ip_address(row[0][0][0]).is_loopback
    check.close()
    assert check.descriptors() == []


def test_of_many_workers_some_are_asked(served):
    sockets, check = served(SOURCES_MAX + 5)
    assert check.ask()
    assert len(check.descriptors()) == SOURCES_MAX
    assert sum(len(row) for row in requests(sockets)) == SOURCES_MAX
    check.close()


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", socket.AF_INET), ("::", socket.AF_INET6)])
def test_only_our_own_bytes_are_an_answer(served, address, family):
    sockets, check = served(0, address=address, family=family)
    for answer in (PROBE, b"x" * 16, PROBE + b"x"):
        assert check.ask()
        ((source, data, member),) = requests(sockets)[0]
        assert data == PROBE
        member.sendto(answer, source)
        (descriptor,) = check.descriptors()
        assert select.select([descriptor], [], [], 5)[0]
        assert check.heard(descriptor) is (answer == PROBE)
        assert check.descriptors() == []
        # one that is late belongs to no question
        assert check.heard(descriptor) is False


def test_a_closed_port_is_no_answer(served):
    sockets, check = served(0)
    sockets.groups[0].control.close()
    check.ask()
    for descriptor in check.descriptors():
        select.select([descriptor], [], [], 1)
        assert check.heard(descriptor) is False
    check.close()


def test_nobody_to_ask(served):
    sockets, check = served(0)
    sockets.close()
    assert not check.ask()


def test_sockets_of_one_device_are_not_reached_from_inside(served):
    sockets, check = served(0, device="lo")
    assert sockets.device == "lo"
    assert not check.ask()
