"""Pools and names: the whole daemon with a name server of its own and Debian's chronyd as the servers.

Everything is in a network namespace: servers on port 123 of addresses that exist nowhere else, and a name server that
does what the test wants.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.daemon import Daemon, running
from tests.interop import chronyd
from tests.nameserver import NameServer, name_server
from tests.netns import in_network_namespace, ip, make_etc, mount_over
from tests.processes import wait_until

RESOLVER = "127.0.0.53"
LIE_S = 2.0


def server_address(number: int) -> str:
    return f"192.0.2.{number}"


def in_site(function: Callable[[Path, NameServer], None], tmp_path: Path) -> None:
    """Run in a namespace with twelve addresses (IPv6 as well), where names are what the name server says."""

    def inside() -> None:
        etc = make_etc(tmp_path, {"resolv.conf": f"nameserver {RESOLVER}\noptions timeout:1 attempts:1\n"})
        mount_over(etc, "/etc")
        for number in range(1, 13):
            ip("addr", "add", f"{server_address(number)}/32", "dev", "lo")
            ip("addr", "add", f"2001:db8::{number}/128", "dev", "lo", "nodad")
        with name_server(RESOLVER) as names:
            function(tmp_path, names)

    in_network_namespace(inside, mounts=True)


@contextlib.contextmanager
def servers(
    directory: Path, *numbers: int, lines: Sequence[str] = ("local stratum 2",)
) -> Iterator[list[chronyd.Chronyd]]:
    """chronyd on these addresses."""
    with contextlib.ExitStack() as stack:
        started = []
        for number in numbers:
            own = directory / f"server{number}"
            own.mkdir(mode=0o700)
            started.append(
                stack.enter_context(
                    chronyd.running(
                        own, f"bindaddress {server_address(number)}", f"bindaddress 2001:db8::{number}", "allow",
                        *lines, port=123,
                    )
                )
            )
        yield started


@contextlib.contextmanager
def liar(directory: Path, number: int) -> Iterator[chronyd.Chronyd]:
    """A stratum-1 chronyd whose reference clock is wrong by `LIE_S`; it leaves the system's clock alone and lies."""
    path = directory / "refclock.sock"
    ended = threading.Event()

    def tick() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            while not ended.wait(0.25):
                now_us = time.time_ns() // 1000
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    sock.sendto(
                        struct.pack("=qqdiiii", now_us // 10**6, now_us % 10**6, LIE_S, 0, 0, 0, 0x534F434B), str(path)
                    )

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        lines = (f"refclock SOCK {path} poll 0 filter 3 refid LIE",)
        with servers(directory, number, lines=lines) as (server,):
            wait_until(lambda: server.command("tracking").startswith("4C494500"), "the liar believes itself")
            yield server
    finally:
        ended.set()
        thread.join()


def column(daemon: Daemon, index: int) -> dict[str, str]:
    """A column of the sources by address."""
    rows = [line.split(",") for line in daemon.chronyc("-c", "sources").splitlines()]
    return {row[2]: row[index] for row in rows}


def states(daemon: Daemon) -> dict[str, str]:
    """State characters of the sources."""
    return column(daemon, 1)


def reach(daemon: Daemon) -> dict[str, str]:
    """Reachability registers of the sources, octal."""
    return column(daemon, 5)


def selected(daemon: Daemon) -> str | None:
    return next((address for address, state in states(daemon).items() if state == "*"), None)


def test_a_pool_sheds_who_lies_and_who_dies(tmp_path: Path) -> None:
    """Four real servers, one of which lies and one is killed. A second client has no liar, and loses the dead one."""

    def scenario(directory: Path, names: NameServer) -> None:
        with servers(directory, 1, 2, 3, 5, 6) as honest, liar(directory, 4):
            names.zone["pool.test"] = [server_address(number) for number in (1, 2, 3, 4)]
            names.zone["honest.test"] = [server_address(number) for number in (1, 2, 3, 5)]
            polls = "iburst minpoll 0 maxpoll 0"
            with (
                running([f"pool pool.test {polls}"], local=False) as daemon,
                running([f"pool honest.test {polls}"], local=False) as other,
            ):
                wait_until(lambda: len(states(daemon)) == len(states(other)) == 4, "four of each pool")
                # before anybody is to be replaced: a source without an alternative would not be looked at again soon
                names.zone["pool.test"] = [server_address(number) for number in range(1, 6)]
                names.zone["honest.test"] = [server_address(number) for number in (1, 2, 3, 5, 6)]
                falseticker = "Detected falseticker 192.0.2.4 (pool.test)"
                wait_until(lambda: falseticker in daemon.log, "the liar is found out")
                wait_until(lambda: selected(daemon) and selected(other), "both have selected")
                began = len(daemon.log), len(other.log)
                honest[2].kill()
                wait_until(lambda: server_address(4) not in states(daemon), "the liar is replaced")
                assert "Source 192.0.2.4 replaced with 192.0.2.5 (pool.test)" in daemon.log
                wait_until(lambda: server_address(3) not in states(other), "the dead one is replaced")
                assert "Source 192.0.2.3 replaced with 192.0.2.6 (honest.test)" in other.log
                # strangers are asked at most once in a while, so the first client keeps the dead one for now
                wait_until(lambda: reach(daemon).get(server_address(3)) == "0", "the dead one is unreachable")
                # what it told is good for a while, so it may even be the selected one
                assert selected(daemon)
                names.zone["pool.test"] = [server_address(number) for number in (1, 2, 5, 6)]
                daemon.chronyc("refresh")
                wait_until(lambda: server_address(3) not in states(daemon), "the dead one is replaced")
                assert "Source 192.0.2.3 replaced with 192.0.2.6 (pool.test)" in daemon.log
                for client, start in zip((daemon, other), began, strict=True):
                    wait_until(lambda client=client: set("*+-") >= set(states(client).values()), "all are good")  # type: ignore[misc]
                    wait_until(lambda client=client: selected(client), "one is selected")  # type: ignore[misc]
                    assert "Can't synchronise" not in client.log[start:]
                    assert abs(float(client.chronyc("-c", "tracking").split(",")[4])) < 0.1

    in_site(scenario, tmp_path)


def test_names_that_fail_then_resolve_then_change(tmp_path: Path) -> None:
    def scenario(directory: Path, names: NameServer) -> None:
        names.zone["broken.test"] = NameServer.FAILS
        names.zone["silent.test"] = NameServer.SILENT
        polls = "iburst minpoll 0 maxpoll 0"
        lines = [
            f"server {name}.test {polls}" for name in ("missing", "broken", "silent")
        ]
        sourcedir = directory / "sources.d"
        sourcedir.mkdir()
        lines += [f"server six.test ipv6 {polls}", f"sourcedir {sourcedir}", f"server bad..name.test {polls}"]
        names.zone["six.test"] = [server_address(1), "2001:db8::1"]
        with servers(directory, 1, 2, 3, 4), running(lines, local=False) as daemon:
            wait_until(lambda: "No address for silent.test yet" in daemon.log, "the silent name has failed")
            for name in ("missing", "broken", "silent"):
                assert daemon.log.count(f"No address for {name}.test yet") == 1, daemon.log
            assert daemon.log.count("Invalid host bad..name.test") == 1
            # the family asked for, and no other
            wait_until(lambda: states(daemon).get("2001:db8::1") == "*", "the name is resolved to IPv6")
            assert set(states(daemon)) == {"2001:db8::1"}
            assert daemon.chronyc("sources", "-a").count("^? ID#000000000") == 3
            assert "3 sources with unknown address" in daemon.chronyc("activity")
            assert "missing.test" in daemon.chronyc("-N", "sources", "-a")
            # the network is there: names are asked for at once
            for number, name in enumerate(("missing", "broken", "silent"), 2):
                names.zone[f"{name}.test"] = [server_address(number)]
            daemon.chronyc("online")
            everybody = {"2001:db8::1", *map(server_address, (2, 3, 4))}
            wait_until(lambda: set(states(daemon)) == everybody, "all names are resolved")
            wait_until(lambda: all(state in "*+-" for state in states(daemon).values()), "all servers answer")
            # a host moves, another one's name vanishes for a while
            names.zone["missing.test"] = [server_address(1)]
            del names.zone["broken.test"]
            daemon.chronyc("refresh")
            wait_until(lambda: server_address(1) in states(daemon), "the move is noticed")
            assert "Source 192.0.2.2 replaced with 192.0.2.1 (missing.test)" in daemon.log
            assert server_address(3) in states(daemon)
            wait_until(lambda: all(state in "*+-" for state in states(daemon).values()), "the new place answers")
            # sources that come and go in a directory
            names.zone["pool.test"] = [server_address(2), "2001:db8::2"]
            (sourcedir / "dhcp.sources").write_text(f"nonsense\npool pool.test {polls}\nserver 2001:db8::3 {polls}\n")
            before = states(daemon).keys()
            daemon.chronyc("reload", "sources")
            wait_until(lambda: {server_address(2), "2001:db8::2", "2001:db8::3"} <= states(daemon).keys(), "added")
            assert before <= states(daemon).keys()
            for line in ("Added pool pool.test", "Added source 2001:db8::3"):
                assert daemon.log.count(line) == 1
            (sourcedir / "dhcp.sources").write_text(f"nonsense\nserver 2001:db8::3 {polls}\n")
            daemon.chronyc("reload", "sources")
            assert "Removed pool pool.test" in daemon.log
            assert states(daemon).keys() == {*before, "2001:db8::3"}
            assert daemon.log.count("Ignored line") == 1

    in_site(scenario, tmp_path)
