"""A daemon that loses its network and gets it back, and one that is restarted with what it had measured."""

import os
from pathlib import Path

from tests.daemon import Daemon, running
from tests.interop import chronyd
from tests.interop.test_pools import in_site, reach, selected, servers
from tests.interop.test_upstream import KEYS, field
from tests.nameserver import NameServer
from tests.netns import ip
from tests.processes import wait_until

POLLS = "iburst minpoll 0 maxpoll 0"


def activity(daemon: Daemon) -> tuple[int, ...]:
    """Sources online, offline, in a burst to return to either, without an address."""
    return tuple(int(word) for word in daemon.chronyc("-c", "activity").split(","))


def sent(daemon: Daemon, address: str) -> int:
    """Requests sent to a source so far."""
    return int(field(daemon.chronyc("ntpdata", address), "Total TX"))


def test_sources_follow_their_routes(tmp_path: Path) -> None:
    """`onoffline`, as a network manager says it, and `auto_offline`, which needs nobody to say anything."""

    def scenario(directory: Path, names: NameServer) -> None:
        lines = [
            f"server 192.0.2.1 {POLLS}", f"server 192.0.2.2 {POLLS} auto_offline", f"server 192.0.2.3 {POLLS} offline",
        ]  # fmt: skip
        with servers(directory, 1, 2, 3), running(lines, local=False) as daemon:
            wait_until(lambda: activity(daemon) == (2, 1, 0, 0, 0), "two are online")
            wait_until(lambda: selected(daemon), "one is followed")
            # no address, no route: whoever notices by itself goes offline, the other goes on asking
            for number in 1, 2, 3:
                ip("addr", "del", f"192.0.2.{number}/32", "dev", "lo")
            wait_until(lambda: activity(daemon) == (1, 2, 0, 0, 0), "one has noticed")
            daemon.chronyc("onoffline")
            assert activity(daemon) == (0, 3, 0, 0, 0)
            assert reach(daemon)["192.0.2.1"] == "0"
            # still synchronised, with a growing distance
            assert int(daemon.chronyc("-c", "tracking").split(",")[2]) == 3
            for number in 1, 2, 3:
                ip("addr", "add", f"192.0.2.{number}/32", "dev", "lo")
            daemon.chronyc("onoffline")
            wait_until(lambda: activity(daemon) == (3, 0, 0, 0, 0), "all are online")
            wait_until(lambda: all(value != "0" for value in reach(daemon).values()), "all answer")
            # a burst on demand leaves an offline source offline
            daemon.chronyc("offline")
            assert activity(daemon) == (0, 3, 0, 0, 0)
            before = sent(daemon, "192.0.2.1")
            daemon.chronyc("burst", "2/4", "192.0.2.1")
            wait_until(lambda: sent(daemon, "192.0.2.1") >= before + 2, "there is a burst")
            wait_until(lambda: activity(daemon) == (0, 3, 0, 0, 0), "the burst is over")
            assert sent(daemon, "192.0.2.1") <= before + 4

    in_site(scenario, tmp_path)


def test_measurements_outlive_a_restart(tmp_path: Path) -> None:
    """They are at once as good as before; not without `-r`, and not when they were made without the key."""
    keyfile = tmp_path / "keys"
    keyfile.write_text(KEYS)
    keyfile.chmod(0o600)
    (tmp_path / "server").mkdir(mode=0o700)
    dumps = tmp_path / "dumps"
    dump = dumps / "127.0.0.1.dat"
    with chronyd.running(tmp_path / "server", "local stratum 3", "allow", f"keyfile {keyfile}") as server:
        source = f"server 127.0.0.1 port {server.port} minpoll -2 maxpoll -2"
        lines = [f"dumpdir {dumps}", f"keyfile {keyfile}"]
        with running([source, *lines], local=False) as daemon:
            wait_until(lambda: int(daemon.chronyc("-c", "sourcestats").split(",")[1]) >= 8, "enough samples")
        measured = dump.read_bytes()
        for key, options, loaded in ("", ["-r"], True), ("key 2", ["-r"], False), ("", [], False):
            dump.write_bytes(measured)
            with running([f"{source} offline {key}", *lines], local=False, options=["-d", *options]) as daemon:
                wait_until(lambda: os.listdir(dumps) == [], "old dump files are removed")
                assert ("Loaded dump file for 127.0.0.1" in daemon.log) == loaded
                assert ("Could not load dump file for 127.0.0.1" in daemon.log) == bool(key)
                samples = int(daemon.chronyc("-c", "sourcestats").split(",")[1])
                assert samples >= 4 if loaded else samples == 0
                assert int(daemon.chronyc("-c", "tracking").split(",")[2]) == (4 if loaded else 0)
