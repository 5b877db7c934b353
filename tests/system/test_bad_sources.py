"""Sources that make no sense, in numbers: the whole daemon tells each thing once, stays bounded and answers.

In a namespace of its own: a name server that fails, servers that do not exist, and files that somebody has damaged.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.nameserver import NameServer, name_server
from tests.netns import in_network_namespace, make_etc, mount_over
from tests.processes import status_of, wait_until

RESOLVER = "127.0.0.53"
MANY = 10_000
MEMORY_MAX_KB = 400_000
LINES_MAX = 80

LIST_OF_2016 = """\
#$	3676924800
#@	3707596800
2272060800	10
3439756800	34
3550089600	35
3644697600	36
3692217600	37
"""
NONSENSE = {
    "expired": (LIST_OF_2016, "needs update"),
    "cut": (LIST_OF_2016[:60], "failed check, ignoring"),
    "nonsense": ("\0\xff\n#@ x\n" * 100, "failed check, ignoring"),
}


def resident_kb(daemon: Daemon) -> int:
    return int(status_of(daemon.process.pid, "VmRSS")[0].split()[0])


def damage_dumps(directory: Path) -> list[str]:
    """Dump files that nobody can have written, and addresses they are for."""
    directory.mkdir()
    header = "SRC0\n{}\n0 377 8 1 0\n{}"
    sample = "{} 1.0e-3 1.0e-3 1.0e-4 1.0e-6 1.0e-4 1.0e-6\n"
    now = time.time()
    contents = {
        "127.0.1.1": b"\0" * 100_000,
        "127.0.1.2": header.format("127.0.1.2", "99999999999 0\n").encode(),
        "127.0.1.3": header.format("127.0.1.3", "3 0\n" + sample.format(f"{now + 1e6:.9f}") * 3).encode(),
        "127.0.1.4": header.format("127.0.1.4", "3 0\n" + sample.format("nan") * 3).encode(),
        "127.0.1.5": header.format("somebody.else", "1 0\n" + sample.format(f"{now - 10:.9f}")).encode(),
    }
    for address, data in contents.items():
        (directory / f"{address}.dat").write_bytes(data)
    os.mkfifo(directory / "127.0.1.6.dat")
    (directory / "127.0.1.7.dat").symlink_to("/etc/passwd")
    return [*contents, "127.0.1.6", "127.0.1.7"]


@pytest.mark.parametrize(
    "kind", ["expired", pytest.param("cut", marks=pytest.mark.slow), pytest.param("nonsense", marks=pytest.mark.slow)]
)
def test_what_is_nonsense_is_told_once_and_does_no_harm(kind: str, tmp_path: Path) -> None:
    text, complaint = NONSENSE[kind]
    leap_list = tmp_path / "leap-seconds.list"
    leap_list.write_text(text, encoding="latin-1")
    dumped = damage_dumps(tmp_path / "dumps")

    def inside() -> None:
        etc = make_etc(tmp_path, {"resolv.conf": f"nameserver {RESOLVER}\noptions timeout:1 attempts:1\n"})
        mount_over(etc, "/etc")
        with name_server(RESOLVER) as names:
            for index in range(100):
                names.zone[f"host{index}.test"] = NameServer.FAILS
            lines = [f"server host{index}.test iburst" for index in range(100)]
            lines += [f"server {address} iburst" for address in dumped]
            lines += [f"leapseclist {leap_list}", f"dumpdir {tmp_path}/dumps", "server 127.0.2.1 iburst"]
            with running(port=123), running(lines, options=("-d", "-r"), local=False) as daemon:
                wait_until(lambda: len(set(names.asked)) == 100, "all names have been asked for")
                wait_until(lambda: "No address for 90 more names yet" in daemon.log, "names are told")
                for address in dumped:
                    assert daemon.log.count(f"Could not load dump file for {address}") == 1, daemon.log
                wait_until(lambda: not os.listdir(tmp_path / "dumps"), "old dump files are removed")
                assert Path("/etc/passwd").exists()
                wait_until(lambda: daemon.chronyc("-c", "tracking").split(",")[2] == "11", "the good one is followed")
                assert daemon.log.count(f"Leap second list {leap_list} {complaint}") == 1, daemon.log
                for _ in range(3):
                    daemon.chronyc("online")
                    daemon.chronyc("refresh")
                assert len(daemon.log.splitlines()) < LINES_MAX, daemon.log
                assert abs(float(daemon.chronyc("-c", "tracking").split(",")[4])) < 0.01

    in_network_namespace(inside, mounts=True)


def activity(daemon: Daemon) -> str:
    """What `chronyc activity` prints; nothing while the daemon is too busy with ten thousand sources to answer it."""
    command = ["chronyc", "-h", daemon.socket, "activity"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def reload(daemon: Daemon) -> None:
    """Read the directories again; chronyc may give up waiting before that is done."""
    subprocess.run(["chronyc", "-h", daemon.socket, "reload", "sources"], capture_output=True, timeout=30, check=False)


@pytest.mark.slow
def test_ten_thousand_sources_of_a_directory(tmp_path: Path) -> None:
    sourcedir = tmp_path / "sources.d"
    sourcedir.mkdir()
    lines = [f"server 127.1.{index // 250}.{index % 250 + 1}" for index in range(MANY)]
    (sourcedir / "1.sources").write_text("\n".join([*lines, ""]))

    def inside() -> None:
        with running([f"sourcedir {sourcedir}"]) as daemon:
            everybody = f"{MANY} sources online"
            wait_until(lambda: everybody in activity(daemon), "all are there")
            # some of them again, and what is no source at all
            (sourcedir / "2.sources").write_text("".join(f"{line} iburst\nserver\nbogus\n" for line in lines[:500]))
            for _ in range(2):
                reload(daemon)
                wait_until(lambda: everybody in activity(daemon), "it has read the directory")
            assert resident_kb(daemon) < MEMORY_MAX_KB
            told = [line for line in daemon.log.splitlines() if "Added source" not in line]
            assert len(told) < LINES_MAX, told
            assert len([line for line in told if "Already in use" in line]) == 10, told
            for path in sourcedir.iterdir():
                path.unlink()
            reload(daemon)
            wait_until(lambda: "\n0 sources online" in activity(daemon), "all are gone")

    in_network_namespace(inside)
