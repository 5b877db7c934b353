"""A setup with nothing but a configuration and its NTP sockets, for tests of what opens and closes them."""

import socket
from typing import Any

from ntpd_fast.config import parse_lines
from ntpd_fast.control.plan import make_plan
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.control.setup import Setup
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.sockets import SocketOptions, open_sockets
from tests.system.harness import free_port

RUN = RunOptions()
NOTHING: Any = None


def make_setup(*lines: str, workers: int = 0) -> Setup:
    """As after the start with these lines, on a free port."""
    config = parse_lines([f"port {free_port()}", *lines])
    plan = make_plan(config, RUN, cpus=1)
    return Setup(
        config, RUN, plan, NOTHING, NOTHING, NOTHING, open_sockets(plan.binds, workers, SocketOptions()), [], {},
        workers, [], NOTHING,
    )  # fmt: skip


def table(*lines: str) -> AccessTable:
    """The access rules of these lines."""
    return AccessTable.from_rules(parse_lines(lines).access)


def versions(setup: Setup) -> list[int]:
    """The families in which there are sockets."""
    return sorted(group.bind.version for group in setup.ntp_sockets.groups)


def is_free(setup: Setup, version: int) -> bool:
    """Whether nobody has the port in this family."""
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as other:
        if version == 6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            other.bind(("", setup.config.port))
        except OSError:
            return False
    return True
