"""Command sockets that are there and may not be used, tried by a process without rights."""

import grp
import importlib
import os
import pwd
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntpd_fast.cli import control
from tests.forked import in_child

NOBODY = 65534
LOADED = ("commands", "hints", "session", "interactive")


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket with somebody behind it, in a directory that everybody can get at, unlike pytest's."""
    with (
        tempfile.TemporaryDirectory(prefix="ntpc") as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        os.chmod(name, 0o777)
        (directory := Path(name) / "run").mkdir()
        listening.bind(str(directory / "sock"))
        yield directory / "sock"
        directory.chmod(0o700)


def asked_without_rights(path: Path) -> tuple[int, str, list[str]]:
    """Exit status and output of `tracking`."""

    def ask() -> tuple[int, str, list[str]]:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        files = [os.memfd_create(name) for name in ("out", "errors")]
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
        sys.argv = ["ntpc-fast"]
        status = control.main(["-h", str(path), "tracking"])
        out, errors = (os.pread(file, 4096, 0).decode() for file in files)
        return status, out, errors.splitlines()

    # what it loads on the way, while there are rights to read it
    for name in LOADED:
        importlib.import_module(f"ntpd_fast.cli.ntpc.{name}")
    return in_child(ask)


@pytest.mark.parametrize(
    ("directory_mode", "socket_mode"),
    [(0o000, 0o777), (0o500, 0o777), (0o555, 0o777), (0o777, 0o000), (0o777, 0o444)],
    ids=["closed directory", "directory of others", "read-only directory", "closed socket", "unwritable socket"],
)
def test_a_socket_that_may_not_be_used_is_told_with_whose_it_is(path, directory_mode, socket_mode):
    path.chmod(socket_mode)
    path.parent.chmod(directory_mode)
    owner = f"user {pwd.getpwuid(os.getuid()).pw_name} and group {grp.getgrgid(os.getgid()).gr_name}"
    assert asked_without_rights(path) == (
        1, "", ["Could not open connection to daemon", f"hint: permission denied, it is for {owner}: {path}"]
    )  # fmt: skip


def test_the_socket_is_named_and_not_a_directory_that_is_for_all(path):
    """As in /tmp: the directory is root's and open, the socket somebody's."""
    path.parent.chmod(0o1777)
    path.chmod(0o600)
    if os.getuid() == 0:
        os.chown(path, 1, 1)
    owner = f"user {pwd.getpwuid(path.stat().st_uid).pw_name} and group {grp.getgrgid(path.stat().st_gid).gr_name}"
    path.chmod(0o000)
    assert asked_without_rights(path)[2][1:] == [f"hint: permission denied, it is for {owner}: {path}"]
