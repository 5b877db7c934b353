"""Access rules that commands change: every worker follows at once, and none is stopped for it."""

import contextlib
import itertools
import select
import socket

import pytest

from tests.processes import children_of, wait_until
from tests.system.harness import REQUEST, ask

NETWORKS = [f"127.9.{number}" for number in range(3)]
# so many sources that each of two workers has some of every network
HOSTS = range(1, 13)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_worker_follows_the_commands(make_daemon, workers):
    daemon = make_daemon("local", "allow localhost", "deny 10/8", f"workers {workers}").start()
    family = children_of(daemon.pid)

    def answered() -> list[bool | None]:
        """By network: all of its sources, none, or (None) some of them."""
        with contextlib.ExitStack() as stack:
            clients: dict[socket.socket, str] = {}
            for network, host in itertools.product(NETWORKS, HOSTS):
                client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                client.bind((f"{network}.{host}", 0))
                client.sendto(REQUEST, ("127.0.0.1", daemon.port))
                clients[client] = network
            silent = set(clients)
            while silent and (ready := select.select(silent, [], [], 0.2)[0]):
                silent.difference_update(ready)
        missing = [sum(clients[client] == network for client in silent) for network in NETWORKS]
        return [None if 0 < count < len(HOSTS) else count == 0 for count in missing]

    assert ask(port=daemon.port) is not None
    for command, expected in (
        ("allow 127.9", [True, True, True]),
        ("deny 127.9.1.0/24", [True, False, True]),
        ("deny 127.9", [False, False, False]),
        ("allow 127.9.2.0/25", [False, False, True]),
        ("allow all 127.9", [True, True, True]),
        ("deny all", [False, False, False]),
    ):
        assert daemon.chronyc(*command.split()) == "200 OK\n"
        wait_until(lambda expected=expected: answered() == expected, command)
    assert children_of(daemon.pid) == family
    daemon.stop()
