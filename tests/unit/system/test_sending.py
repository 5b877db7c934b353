"""Which of several bound sockets is right: by the routes of a machine with two networks."""

import contextlib
import socket
from ipaddress import ip_address

from ntpd_fast.system.sending import sending_socket, socket_bound_to
from tests.netns import in_network_namespace, ip

NETWORKS = {"one": ["192.0.2.1/24", "2001:db8:1::1/64"], "two": ["198.51.100.1/24", "2001:db8:2::1/64"]}
BOUND = ["192.0.2.1", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1"]


@contextlib.contextmanager
def sockets(addresses):
    with contextlib.ExitStack() as stack:
        opened = []
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            opened.append(stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)))
            opened[-1].bind((address, 0))
        yield opened


def bound(chosen):
    return None if chosen is None else chosen.getsockname()[0]


def test_a_packet_leaves_from_the_address_of_its_network():
    def choose():
        ip("link", "add", "one", "type", "veth", "peer", "name", "two")
        for name, addresses in NETWORKS.items():
            ip("link", "set", name, "up")
            for address in addresses:
                ip("address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        ip("route", "add", "default", "via", "198.51.100.254")
        destinations = [
            "192.0.2.9", "198.51.100.9", "203.0.113.9", "192.0.2.255", "2001:db8:1::9", "2001:db8:2::9", "3fff::1",
        ]  # fmt: skip
        with sockets(BOUND) as opened, sockets(["192.0.2.1", "127.0.0.1"]) as others:
            chosen = [bound(sending_socket(opened, ip_address(there), 123)) for there in destinations]
            # the address the kernel would take is not bound: the first
            unbound = bound(sending_socket(others, ip_address("198.51.100.9"), 123))
            return chosen, unbound

    chosen, unbound = in_network_namespace(choose)
    assert chosen == [
        "192.0.2.1", "198.51.100.1", "198.51.100.1", "192.0.2.1", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::1",
    ]  # fmt: skip
    assert unbound == "192.0.2.1"


def test_one_socket_of_a_family_is_the_right_one():
    with sockets(["127.0.0.2"]) as opened:
        assert sending_socket(opened, ip_address("192.0.2.1"), 123) is opened[0]
        assert sending_socket(opened, ip_address("::1"), 123) is None
        assert sending_socket([], ip_address("192.0.2.1"), 123) is None


def test_the_socket_of_an_address():
    with sockets(["127.0.0.2", "127.0.0.3", "::1"]) as opened:
        assert socket_bound_to(opened, ip_address("127.0.0.3"), 4) is opened[1]
        assert socket_bound_to(opened, ip_address("127.0.0.4"), 4) is opened[0]
        assert socket_bound_to(opened, None, 4) is opened[0]
        assert socket_bound_to(opened, ip_address("::1"), 6) is opened[2]
        assert socket_bound_to(opened[:2], ip_address("::1"), 6) is None
