"""A private ntpd of ntpsec as an independent peer. It has no option to leave the clock alone, so it gets no right to.

Rules: it runs only in a network namespace of the test; before it is executed (by this module, as a program of its own)
all capabilities but the one for low ports are taken from the process for good (bounding set, no new privileges), and it
is not executed when the kernel does not confirm that; its configuration disables discipline as well.
`packaging/peers.sh`, part of `make deps`, has put it into build/peers.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import wait_until

ROOT = Path(__file__).parents[2]
TREE = ROOT / "build" / "peers" / "ntpsec"
PROGRAM = TREE / "usr" / "sbin" / "ntpd"
QUERY = TREE / "usr" / "bin" / "ntpq"
STOP_TIMEOUT_S = 10.0

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_SET_NO_NEW_PRIVS = 24, 47, 38
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_NET_BIND_SERVICE = 10
_KEPT = 1 << _CAP_NET_BIND_SERVICE
_CAPABILITY_NUMBERS = range(64)
_CAPABILITY_VERSION_3 = 0x20080522

_COMMON = (
    "disable ntp",
    "disable kernel",
    "unrestrict default noquery limited",
    "tos minsane 1 minclock 1",
    "logconfig =all",
)


def require_ntpsec() -> None:
    """Fail where `make deps` has not been run: a peer that is missing is not a reason to test less."""
    assert PROGRAM.exists(), f"{PROGRAM} is missing: run make deps (or packaging/peers.sh)"


def capability_sets(pid: int | str) -> dict[str, int]:
    """The five capability sets of a process, as bits."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line[:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


def renounce() -> None:
    """Lose every capability but that for low ports, over any exec. OSError or AssertionError: it cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), "capabilities")

    for number in _CAPABILITY_NUMBERS:
        if number != _CAP_NET_BIND_SERVICE:
            # numbers that the kernel does not have are refused; that nothing is left is checked below
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted and inheritable: low words, then high ones
    check(libc.capset(header, (ctypes.c_uint32 * 6)(_KEPT, _KEPT, 0, 0, 0, 0)))
    assert_no_right_to_the_clock("self")


def assert_no_right_to_the_clock(pid: int | str) -> None:
    """Neither has it a capability beyond that for low ports, nor can it ever get one."""
    sets = capability_sets(pid)
    assert set(sets) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    assert all(capabilities & ~_KEPT == 0 for capabilities in sets.values()), sets


class Ntpd:
    """A running ntpd: it always takes UDP port 123 of the namespace, and as a server of NTS TCP port 4460."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.process = process

    @property
    def log(self) -> str:
        return (self.directory / "ntpd.log").read_text()

    def query(self, command: str) -> dict[str, str]:
        """What ntpq shows for a command, in lines `NAME: VALUE`."""
        done = subprocess.run(
            [str(QUERY), "-n", "-c", command, "127.0.0.1"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        pairs = (line.partition(":") for line in done.stdout.splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}


@contextmanager
def running_ntpd(directory: Path, *lines: str) -> Iterator[Ntpd]:
    """Run ntpd with these lines of configuration. Call it in a network namespace of the test only."""
    require_ntpsec()
    config = directory / "ntp.conf"
    config.write_text("".join(f"{line}\n" for line in (*_COMMON, f"statsdir {directory}/", *lines)))
    libraries = ":".join(str(path) for path in (TREE / "usr" / "lib").glob("*-linux-gnu*"))
    with (directory / "ntpd.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(PROGRAM), "-n", "-c", str(config)],
            cwd=ROOT,
            env={"LD_LIBRARY_PATH": libraries},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    ntpd = Ntpd(directory, process)
    try:
        wait_until(lambda: "CLOCK: " in ntpd.log and "Listen normally" in ntpd.log, "ntpd")
        assert_no_right_to_the_clock(process.pid)
        # and the kernel has refused it the clock
        assert "ntp_adjtime: Operation not permitted" in ntpd.log
        yield ntpd
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    renounce()
    os.execv(sys.argv[1], sys.argv[1:])
