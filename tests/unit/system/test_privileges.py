"""Dropping rights: in children, since there is no way back."""

import errno
import os
import pwd
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from ntpd_fast.system import privileges
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.privileges import Capability, User, files_as, find_user
from tests.forked import in_child


def status(*names):
    with open("/proc/self/status") as file:
        fields = dict(line.split(":\t", 1) for line in file.read().splitlines())
    return [fields[name].split() for name in names]


@pytest.fixture
def nobody():
    if os.getuid() != 0:
        # An ordinary user can only stay what it is: everything below still has to hold.
        entry = pwd.getpwuid(os.getuid())
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return find_user("nobody")


def test_unknown_user():
    with pytest.raises(FatalError, match=r"^Could not get user/group ID of no-such-user$"):
        find_user("no-such-user")


def test_user_by_name():
    entry = pwd.getpwuid(os.getuid())
    assert find_user(entry.pw_name) == User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def test_drop_keeps_only_what_was_asked_for(nobody):
    have = privileges.permitted() & (1 << Capability.SYS_TIME)

    def drop():
        privileges.drop_to(nobody, [Capability.SYS_TIME])
        uids, gids, *sets = status("Uid", "Gid", "CapPrm", "CapEff", "CapInh")
        assert set(uids) == {str(nobody.uid)}
        assert set(gids) == {str(nobody.gid)}
        assert os.getuid() != 0 or nobody.uid == 0
        return [int(word[0], 16) for word in sets] if nobody.uid else [have, have, 0]

    assert in_child(drop) == [have, have, 0]


def test_drop_to_root_changes_nothing():
    root = User("root", 0, 0)
    before = status("Uid", "CapPrm", "CapEff")
    if os.getuid() == 0:
        assert in_child(lambda: privileges.drop_to(root, []) or status("Uid", "CapPrm", "CapEff")) == before


def test_no_capability_can_come_back(nobody):
    def drop():
        privileges.drop_to(nobody, [])
        privileges.forbid_new_privileges()
        privileges.keep_capabilities([Capability.SYS_TIME, Capability.NET_ADMIN])
        return privileges.permitted() if nobody.uid else 0

    assert in_child(drop) == 0


def test_files_belong_to_the_user(nobody, tmp_path):
    os.chmod(tmp_path, 0o777)
    with files_as(nobody):
        opened = socket.socket(socket.AF_UNIX)
        owner = os.fstat(opened.fileno()).st_uid
        opened.close()
    assert owner == nobody.uid
    with files_as(nobody), pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError
    with socket.socket(socket.AF_UNIX) as opened:
        assert os.fstat(opened.fileno()).st_uid == os.getuid()
    with files_as(None), socket.socket(socket.AF_UNIX) as opened:
        assert os.fstat(opened.fileno()).st_uid == os.getuid()


@pytest.fixture
def open_directory():
    """One that everybody comes to, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_what_a_user_may_read(nobody, open_directory):
    readable, closed = open_directory / "readable", open_directory / "closed"
    for directory, mode in ((readable, 0o755), (closed, 0o700)):
        directory.mkdir()
        (directory / "file").touch()
        directory.chmod(mode)
    assert privileges.may_read(nobody, [str(readable), str(readable / "file")])
    assert not privileges.may_read(nobody, [str(readable), str(readable / "missing")])
    if os.getuid() == 0:
        assert not privileges.may_read(nobody, [str(readable), str(closed)])
        assert not privileges.may_read(nobody, [str(closed / "file")])


def test_parent_that_is_gone_is_noticed():
    assert in_child(lambda: privileges.die_with_parent(signal.SIGKILL, os.getppid())) is True
    assert in_child(lambda: privileges.die_with_parent(signal.SIGKILL, 1 << 22)) is False


@pytest.mark.parametrize("priority", [-1, 0, 100])
def test_priority_out_of_range(priority):
    with pytest.raises(FatalError, match=f"^Bad scheduler priority: {priority}$"):
        privileges.set_realtime_priority(priority)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may")
def test_memory_lock_and_priority():
    def raise_both() -> tuple[bool, int]:
        privileges.lock_memory()
        privileges.set_realtime_priority(1)
        return status("VmLck")[0][0] != "0", os.sched_getscheduler(0)

    assert in_child(raise_both) == (True, os.SCHED_FIFO)


def test_priority_that_is_refused_is_named(monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(FatalError, match=r"^Could not set real-time priority 7 : Operation not permitted$"):
        privileges.set_realtime_priority(7)
