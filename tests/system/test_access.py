"""Access rules that commands change: every worker follows at once, and none is stopped for it."""

import contextlib
import itertools
import os
import select
import signal
import socket

import pytest

from tests.processes import children_of, wait_until
from tests.system.harness import REQUEST, ask
from tests.system.test_reload import reload

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


def is_refused(daemon, address: str = "127.0.0.1") -> bool:
    """Whether nobody listens on the server port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect((address, daemon.port))
        client.send(REQUEST)
        try:
            client.recv(1024)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            pass
        return False


def answers(daemon, address: str = "127.0.0.1") -> bool:
    return ask(address, daemon.port, 0.2) is not None


def command(daemon, text: str) -> None:
    assert daemon.chronyc(*text.split()) == "200 OK\n"


@pytest.mark.parametrize("bound", [(), ("bindaddress 127.0.0.1",)])
@pytest.mark.parametrize("workers", [0, 2])
def test_commands_open_and_close_the_port(make_daemon, workers, bound):
    daemon = make_daemon("local", "allow", f"workers {workers}", *bound).start()
    family = children_of(daemon.pid)
    assert answers(daemon)
    command(daemon, "deny all 0/0")
    wait_until(lambda: is_refused(daemon), "the port of IPv4 to be closed")
    assert answers(daemon, "::1")
    reload(daemon)
    assert is_refused(daemon)
    command(daemon, "allow 127.0.0.1")
    wait_until(lambda: answers(daemon), "answers again")
    command(daemon, "deny all")
    wait_until(lambda: is_refused(daemon) and is_refused(daemon, "::1"), "both ports to be closed")
    command(daemon, "allow all")
    wait_until(lambda: answers(daemon) and answers(daemon, "::1"), "answers in both families")
    # each on the heels of the other: the last one counts
    for _ in range(10):
        command(daemon, "deny all")
        command(daemon, "allow all")
    for host in HOSTS:
        wait_until(lambda host=host: ask(port=daemon.port, timeout_s=0.2, source=f"127.0.0.{host}"), "every worker")
    command(daemon, "deny all")
    wait_until(lambda: is_refused(daemon) and is_refused(daemon, "::1"), "both ports to be closed")
    reload(daemon, ("allow", "allow 127.0.0.1"))
    wait_until(lambda: answers(daemon), "the new rules")
    assert is_refused(daemon, "::1")
    assert children_of(daemon.pid) == family
    assert not any("Could not" in line for line in daemon.log_texts())
    daemon.stop()


def test_control_and_workers_that_died_come_back_to_a_closed_port(make_daemon):
    daemon = make_daemon("local", "allow 127/8", "workers 2").start()
    command(daemon, "deny all")
    wait_until(lambda: is_refused(daemon), "the port to be closed")
    for index in (0, 1):
        victim = children_of(daemon.pid)[index]
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda victim=victim: len(children_of(daemon.pid)) == 3 and victim not in children_of(daemon.pid), "others"
        )
    wait_until(lambda: "7F7F0101" in daemon.chronyc("tracking"), "its command socket")
    assert is_refused(daemon)
    reload(daemon)
    assert is_refused(daemon)
    command(daemon, "allow 127/8")
    for host in HOSTS:
        wait_until(lambda host=host: ask(port=daemon.port, timeout_s=0.2, source=f"127.0.0.{host}"), "every worker")
    daemon.stop()


def test_control_that_serves_beside_key_exchange_follows_too(make_nts_server):
    """There is a supervisor, which has the sockets as well, but no worker."""
    daemon = make_nts_server("workers 0", "ntsprocesses 1").start()
    command(daemon, "deny all")
    wait_until(lambda: is_refused(daemon), "the port to be closed")
    reload(daemon)
    assert is_refused(daemon)
    command(daemon, "allow 127/8")
    wait_until(lambda: answers(daemon), "answers again")
    for _ in range(10):
        command(daemon, "deny all")
        command(daemon, "allow 127/8")
    wait_until(lambda: answers(daemon), "answers again")
    assert not any("Could not open" in line for line in daemon.log_texts())
    daemon.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_port_stays_open_for_whom_else_it_serves(make_daemon, workers):
    daemon = make_daemon("local", "allow 127/8", "broadcast 60 127.255.255.255", f"workers {workers}").start()
    command(daemon, "deny all")
    wait_until(lambda: not answers(daemon), "the rule")
    assert not is_refused(daemon)
    daemon.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_port_stays_open_for_a_peer_that_a_command_has_added(make_daemon, workers):
    daemon = make_daemon("local", "allow 127/8", f"workers {workers}").start()
    command(daemon, "add peer 127.0.0.9")
    wait_until(lambda: "127.0.0.9" in daemon.chronyc("-n", "sources"), "the peer")
    command(daemon, "deny all")
    wait_until(lambda: not answers(daemon), "the rule")
    reload(daemon)
    assert not is_refused(daemon)
    daemon.stop()
