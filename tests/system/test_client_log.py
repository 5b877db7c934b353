"""The client log of the whole daemon: IPv6 clients by prefix, where the administrator wants them so."""

import re
import socket

from tests.daemon import running
from tests.netns import in_network_namespace, ip

REQUEST = bytes([0x23, 0, 6, 32]) + bytes(36) + bytes(range(1, 9))


def clients_listed(*lines: str) -> list[str]:
    def in_namespace() -> str:
        ip("-6", "route", "add", "local", "2001:db8::/32", "dev", "lo")
        with running(["allow 2001:db8::/32", *lines]) as daemon:
            for last in range(1, 6):
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                    sock.setsockopt(socket.IPPROTO_IPV6, 78, 1)     # IPV6_FREEBIND
                    sock.settimeout(5)
                    sock.bind((f"2001:db8:0:7::{last}", 0))
                    sock.sendto(REQUEST, ("::1", daemon.port))
                    sock.recv(100)
            return daemon.chronyc("clients")

    return re.findall(r"^(2001:db8:\S*) +(\d+)", in_network_namespace(in_namespace), re.MULTILINE)


def test_each_address_is_a_client() -> None:
    assert sorted(clients_listed()) == [(f"2001:db8:0:7::{last}", "1") for last in range(1, 6)]


def test_a_prefix_is_one_client_where_that_is_configured() -> None:
    assert clients_listed("clientlogprefix6 64") == [("2001:db8:0:7::", "5")]
