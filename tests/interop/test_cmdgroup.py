"""The socket of the monitoring group: chronyc and ntpc-fast of its members get every report and change nothing."""

import grp
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, environment, running

IS_ROOT = os.geteuid() == 0
# Root gives the socket to a group of somebody else; an ordinary user has only its own.
GROUP = "daemon" if IS_ROOT else grp.getgrgid(os.getgid()).gr_name
REPORTS = ("tracking", "sources", "activity", "clients", "serverstats", "selectdata", "accheck 127.0.0.1")
CHANGES = ("makestep", "shutdown", "allow 10", "manual on", "clients -r", "dump", "offline", "rekey")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running([f"cmdgroup {GROUP}"]) as daemon:
        os.chmod(daemon.directory, 0o755)  # as /run is: everybody can enter
        yield daemon


@pytest.fixture(scope="module")
def group_socket(daemon) -> str:
    return f"{daemon.directory}/run-monitor/chronyd.sock"


def as_member(command: list[str], *, member: bool = True) -> subprocess.CompletedProcess[str]:
    """Run as a user with nothing but the group; where the tests are not root's, as ourselves."""
    identity = {}
    if IS_ROOT:
        nobody = pwd.getpwnam("nobody")
        groups = [grp.getgrnam(GROUP).gr_gid] if member else []
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": groups}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env=environment(), cwd="/", **identity
    )


def chronyc(socket: str, line: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("chronyc")
    assert program is not None, "chronyc is one of the packages the tests need"
    return as_member([program, "-n", "-h", socket, line])


def test_directory_and_socket_are_the_groups_and_closed_to_others(group_socket):
    directory = os.stat(os.path.dirname(group_socket))
    assert stat.S_IMODE(directory.st_mode) == 0o1770
    assert grp.getgrgid(directory.st_gid).gr_name == GROUP
    found = os.stat(group_socket)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert grp.getgrgid(found.st_gid).gr_name == GROUP


@pytest.mark.parametrize("line", REPORTS)
def test_a_member_gets_every_report(group_socket, line):
    done = chronyc(group_socket, line)
    assert done.returncode == 0, done
    assert done.stdout


@pytest.mark.parametrize("line", CHANGES)
def test_a_member_changes_nothing(daemon, group_socket, line):
    done = chronyc(group_socket, line)
    assert done.returncode == 1
    assert done.stdout.endswith("501 Not authorised\n")
    assert daemon.process.poll() is None


def test_ntpc_fast_says_what_the_socket_is_for(group_socket):
    command = [sys.executable, "-m", "ntpd_fast.cli.control", "-h", group_socket, "makestep"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment())
    assert (done.returncode, done.stdout) == (1, "501 Not authorised\n")
    assert done.stderr == f"hint: {group_socket} is for reports only; changes need the daemon's main socket\n"


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else")
def test_others_reach_neither_socket(daemon, group_socket):
    for path in (group_socket, daemon.socket):
        command = [shutil.which("chronyc") or "", "-n", "-h", path, "tracking"]
        done = as_member(command, member=False)
        assert (done.returncode, done.stderr) == (1, "Could not open connection to daemon\n")


def test_the_main_socket_still_takes_changes(daemon):
    assert daemon.chronyc("cyclelogs") == "200 OK\n"


def test_an_unknown_group_is_fatal(tmp_path):
    (tmp_path / "conf").write_text(f"port 0\ncmdport 0\ncmdgroup no-such-group\npidfile {tmp_path}/pid\n")
    done = subprocess.run(
        [sys.executable, "-m", "ntpd_fast.cli.start", "-d", "-x", "-u", "root", "-f", str(tmp_path / "conf")],
        capture_output=True, text=True, check=False, timeout=30, env=environment(),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Could not get group ID of no-such-group" in done.stderr
    assert os.listdir(tmp_path) == ["conf"]
