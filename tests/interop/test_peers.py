"""The whole daemon and Debian's chronyd as each other's peers: whoever has the time, with and without keys."""

import re
from pathlib import Path

import pytest

from tests.daemon import Daemon, free_port, running
from tests.interop import chronyd
from tests.interop.test_unasked_and_signed import BOUND
from tests.interop.test_upstream import KEYS, field, wait_for
from tests.processes import wait_until

POLLS = "minpoll -1 maxpoll -1"
OTHER_KEYS = re.sub("1f", "1e", KEYS)


def make_files(tmp_path: Path) -> Path:
    """A directory for chronyd, which is returned, and beside it two key files that differ in key 2."""
    for name, text in ("keys", KEYS), ("other", OTHER_KEYS):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "theirs").mkdir(mode=0o700)
    return tmp_path / "theirs"


def their_stratum(server: chronyd.Chronyd) -> int:
    return int(server.command("tracking").split(",")[2])


def our_stratum(daemon: Daemon) -> int:
    return int(daemon.chronyc("-c", "tracking").split(",")[2])


@pytest.mark.parametrize(
    ("options", "workers", "leader"),
    [
        ("", 0, "ours"),
        pytest.param("", 0, "theirs", marks=pytest.mark.slow),
        ("key 3 xleave", 1, "ours"),
        ("key 3 xleave", 1, "theirs"),
    ],
)
def test_peers_follow_whoever_has_the_time(options: str, workers: int, leader: str, tmp_path: Path) -> None:
    directory = make_files(tmp_path)
    theirs, ours = free_port(), free_port()
    local = "local stratum 3"
    keyfile = f"keyfile {tmp_path}/keys"
    their_lines = [keyfile, f"peer 127.0.0.1 port {ours} {POLLS} {options}", *[local] * (leader == "theirs")]
    our_lines = [
        keyfile, f"peer 127.0.0.1 port {theirs} {POLLS} {options}", f"workers {workers}", *[local] * (leader == "ours"),
    ]  # fmt: skip
    authenticated = interleaved = "Yes" if options else "No"
    with (
        chronyd.running(directory, *their_lines, port=theirs) as server,
        running(our_lines, options=("-n",) if workers else ("-d",), local=False, port=ours) as daemon,
    ):
        if leader == "theirs":
            wait_until(lambda: our_stratum(daemon) == 4, "we follow")
            assert "=* 127.0.0.1" in daemon.chronyc("sources")
            wait_for(daemon, "ntpdata", r"NTP tests +: 111 111 1111")
        else:
            wait_until(lambda: their_stratum(server) == 4, "they follow")
            assert server.command("sources").startswith("=,*,127.0.0.1,3,")
        report = wait_for(daemon, "ntpdata", rf"Interleaved +: {interleaved}")
        assert field(report, "Mode").startswith("Symmetric")
        assert field(report, "Authenticated") == authenticated
        # test D fails where the other one follows
        passed = r"111,111,111[01]"
        wait_until(
            lambda: re.search(f"{passed},{interleaved},{authenticated},", server.command("ntpdata")),
            "they get good measurements in this mode",
        )
        assert abs(float(field(daemon.chronyc("ntpdata"), "Offset").split()[0])) < 1e-2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_peer_knows_a_server_of_several_addresses_by_the_one_of_its_network(workers: int, tmp_path: Path) -> None:
    """Here 127.0.0.1, from which this machine sends to itself; the second of the bound ones."""
    directory = make_files(tmp_path)
    theirs, ours = free_port(), free_port()
    our_lines = [f"peer 127.0.0.1 port {theirs} {POLLS}", f"workers {workers}", *BOUND]
    with (
        chronyd.running(directory, f"peer 127.0.0.1 port {ours} {POLLS}", port=theirs) as server,
        running([*our_lines, "local stratum 3"], options=("-n",) if workers else ("-d",), local=False, port=ours),
    ):
        wait_until(lambda: their_stratum(server) == 4, "they follow")
        assert server.command("sources").startswith("=,*,127.0.0.1,3,")


def test_a_peer_with_another_key_is_believed_by_neither(tmp_path: Path) -> None:
    directory = make_files(tmp_path)
    theirs, ours = free_port(), free_port()
    with (
        chronyd.running(
            directory, f"keyfile {tmp_path}/other", f"peer 127.0.0.1 port {ours} {POLLS} key 2", "local stratum 5",
            port=theirs,
        ) as server,
        running(
            [f"keyfile {tmp_path}/keys", f"peer 127.0.0.1 port {theirs} {POLLS} key 2"], port=ours, local=False,
        ) as daemon,
    ):  # fmt: skip
        wait_until(lambda: int(field(daemon.chronyc("ntpdata"), "Total RX")) >= 4, "they have sent a few packets")
        report = daemon.chronyc("ntpdata")
        assert field(report, "Total valid RX") == "0"
        assert our_stratum(daemon) == 0
        assert server.command("ntpdata").split(",")[-1].strip() == "0"


@pytest.mark.parametrize("asking", ["ours", "theirs"])
def test_a_peer_that_does_not_know_the_other_answers_it(asking: str, tmp_path: Path) -> None:
    """Passive, for one answer at a time: only who has the line follows."""
    directory = make_files(tmp_path)
    theirs, ours = free_port(), free_port()
    their_lines = ["local stratum 3"] if asking == "ours" else [f"peer 127.0.0.1 port {ours} {POLLS}"]
    our_lines = ["local stratum 3"] if asking == "theirs" else [f"peer 127.0.0.1 port {theirs} {POLLS}"]
    with (
        chronyd.running(directory, "allow", *their_lines, port=theirs) as server,
        running(our_lines, port=ours, local=False) as daemon,
    ):
        if asking == "ours":
            wait_until(lambda: our_stratum(daemon) == 4, "we follow")
            assert field(daemon.chronyc("ntpdata"), "Mode") == "Symmetric passive"
            assert server.command("sources") == ""
        else:
            wait_until(lambda: their_stratum(server) == 4, "they follow")
            assert "Symmetric passive" in server.command("ntpdata")
            assert daemon.chronyc("-c", "sources") == ""
