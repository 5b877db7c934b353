"""ntpc-fast and Debian's chronyc on the same daemon at the same moment: the same output, as text and as CSV.

The daemon is Debian's chronyd, and then ours.
"""

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntpd_fast.cli.ntpc.connection import Connection, Endpoint
from ntpd_fast.cli.ntpc.options import parse
from tests import daemon
from tests.interop.chronyd import free_port, running
from tests.interop.frozen import frozen
from tests.unit.cli.ntpc.scripted import Run

REPORTS = [
    "tracking", "sources", "sources -a", "sourcestats", "sourcestats -a", "selectdata", "selectdata -a", "authdata",
    "authdata -a", "ntpdata", "ntpdata 127.0.0.1", "ntpdata 127.0.0.9", "activity", "serverstats", "clients",
    "clients -k", "clients -p 2", "smoothing", "rtcdata", "manual list", "sourcename 127.0.0.1",
    "sourcename ID#0000000001", "sourcename 192.0.2.1", "accheck 127.0.0.1", "accheck 192.0.2.1",
    "cmdaccheck 127.0.0.1", "waitsync 1", "waitsync 1 1e-9 1e-9",
]  # fmt: skip
FORMATS = [[], ["-n"], ["-N"], ["-c"], ["-c", "-N"]]
SOCK_MAGIC = 0x534F434B


@pytest.fixture(scope="module")
def chronyd(tmp_path_factory) -> Iterator[str]:
    """A chronyd with sources of every kind, clients, manual samples and smoothing."""
    directory = tmp_path_factory.mktemp("chronyd")
    (directory / "keys").write_text("7 SHA1 HEX:0123456789abcdef0123456789abcdef01234567\n")
    port = free_port()
    lines = [
        "local stratum 10",
        "allow 127.0.0.0/8",
        "manual",
        "smoothtime 400 0.01",
        f"keyfile {directory / 'keys'}",
        f"server 127.0.0.1 port {port} minpoll -2 maxpoll -2 iburst key 7 xleave prefer",
        f"server ::1 port {port} minpoll 0 maxpoll 0 noselect",
        "peer 127.0.0.8 minpoll 5",
        "server nonexistent.invalid",
        f"refclock SOCK {directory / 'sock'} refid GPS0 poll 0 noselect",
    ]
    with running(directory, *lines, port=port) as server:
        for _ in range(6):
            _sample(directory / "sock")
            time.sleep(0.5)
        server.command("settime", "12:00:00")
        yield str(server.command_socket)


def _sample(path: Path) -> None:
    """One sample of the SOCK reference clock: time, offset, pulse, leap, padding, magic."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(struct.pack("=qqdiiii", seconds, microseconds, -0.001, 0, 0, 0, SOCK_MAGIC), str(path))


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Iterator[str]:
    """Our daemon in the same state, as far as it goes without reference clocks."""
    keys = tmp_path_factory.mktemp("ours") / "keys"
    keys.write_text("7 SHA1 HEX:0123456789abcdef0123456789abcdef01234567\n")
    port = daemon.free_port()
    lines = [
        "manual",
        f"keyfile {keys}",
        f"server 127.0.0.1 port {port} minpoll -2 maxpoll -2 iburst key 7 xleave prefer",
        f"server ::1 port {port} minpoll 0 maxpoll 0 noselect",
        "peer 127.0.0.8 minpoll 5",
        "server nonexistent.invalid",
    ]
    with daemon.running(lines, port=port) as server:
        time.sleep(3)
        server.chronyc("settime", "12:00:00")
        yield server.socket


@pytest.fixture(scope="module", params=["chronyd", "ours"])
def moment(request, tmp_path_factory) -> Iterator[str]:
    living = request.getfixturevalue(request.param)
    with frozen(str(tmp_path_factory.mktemp("frozen") / "sock"), living) as path:
        yield path


def chronyc(path: str, words: list[str]) -> tuple[str, str, int]:
    program = shutil.which("chronyc")
    assert program is not None, "chronyc is one of the packages the tests need"
    done = subprocess.run(
        [program, "-h", path, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "TZ": "UTC"},
    )
    return done.stdout, done.stderr, done.returncode


def ntpc(path: str, words: list[str]) -> tuple[str, str, int]:
    options = parse(words)
    connection = Connection([Endpoint(path)])
    try:
        run = Run(connection, options)
        status = run.lines(options)
    finally:
        connection.close()
    return run.stdout, run.stderr, status


@pytest.mark.parametrize("form", FORMATS, ids=" ".join)
@pytest.mark.parametrize("report", REPORTS)
def test_same_report(moment, report, form):
    words = [*form, *report.split()]
    # chronyc first: what it can read, ours can, and the proxy keeps the first answer.
    theirs = chronyc(moment, words)
    assert ntpc(moment, words) == theirs


def test_the_moment_has_something_to_show(moment):
    """Or the comparisons above would prove little."""
    rows = chronyc(moment, ["-c", "sources", "-a"])[0].splitlines()
    assert sorted(row[0] for row in rows if row[0] != "#") == ["=", "^", "^", "^"]
    assert chronyc(moment, ["-c", "authdata"])[0].splitlines()[0].startswith("127.0.0.1,SK,7,2,160,")
    assert len(chronyc(moment, ["-c", "clients"])[0].splitlines()) >= 1
    assert chronyc(moment, ["-c", "manual", "list"])[0].count("\n") == 1


def test_several_commands_at_once(moment):
    words = ["-n", "-m", "activity", "tracking", "ntpdata 192.0.2.1", "sources"]
    theirs = chronyc(moment, words)
    assert ntpc(moment, words) == theirs


def test_plain_commands_on_a_living_chronyd(chronyd):
    for line in ("reselect", "burst 1/1", "offline 127.0.0.8", "online 127.0.0.8", "local stratum 11", "makestep",
                 "cyclelogs", "dump", "selectopts GPS0 +prefer", "allow 1.2.3.4/40", "trimrtc"):  # fmt: skip
        ours = ntpc(chronyd, ["-n", *line.split()])
        if line.startswith("selectopts"):
            assert ours[0] == "502 Invalid command\n"  # chronyd 4.3
        else:
            assert ours == chronyc(chronyd, ["-n", *line.split()])
