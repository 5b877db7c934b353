"""Path rules in processes of their own. Without kernel support there is nothing to restrict, and that is told."""

import errno
import os
import socket

import pytest

from ntpd_fast.system import landlock
from ntpd_fast.system.privileges import forbid_new_privileges
from tests.forked import in_child

SUPPORTED = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


def restricted(act, paths, **more):
    """What `act` gives in a process that keeps only `paths`: its value, or the errno it failed with."""

    def run():
        forbid_new_privileges()
        landlock.restrict(paths, **more)
        try:
            return act()
        except OSError as error:
            return -error.errno

    return in_child(run)


def read(path) -> str:
    with open(path) as file:
        return file.read()


def replace(path) -> str:
    """As state files are written."""
    with open(f"{path}.tmp", "w") as file:
        file.write("new")
    os.rename(f"{path}.tmp", path)
    return read(path)


def listen() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
    return "bound"


def signal_parent() -> str:
    os.kill(os.getppid(), 0)
    return "sent"


def bind_unix(path) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
    os.unlink(path)
    return "bound"


@pytest.fixture
def state(tmp_path):
    """A directory with a file, and one beside it."""
    for name in ("kept", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("old")
    return tmp_path


@SUPPORTED
def test_without_paths_nothing_can_be_opened(state):
    assert restricted(lambda: read(state / "kept/file"), []) == -errno.EACCES
    assert restricted(lambda: read("/etc/passwd"), []) == -errno.EACCES
    assert restricted(lambda: os.listdir("/"), []) == -errno.EACCES


@SUPPORTED
def test_reading_is_not_writing(state):
    rules = [(str(state / "kept"), landlock.READ)]
    assert restricted(lambda: read(state / "kept/file"), rules) == "old"
    assert restricted(lambda: replace(state / "kept/file"), rules) == -errno.EACCES
    assert restricted(lambda: read(state / "other/file"), rules) == -errno.EACCES


@SUPPORTED
def test_state_files_are_replaced_where_they_are_kept_and_nowhere_else(state):
    rules = [("/", landlock.READ), (str(state / "kept"), landlock.STATE)]
    assert restricted(lambda: replace(state / "kept/file"), rules) == "new"
    assert restricted(lambda: bind_unix(state / "kept/socket"), rules) == "bound"
    assert restricted(lambda: replace(state / "other/file"), rules) == -errno.EACCES
    assert restricted(lambda: os.unlink(state / "other/file"), rules) == -errno.EACCES
    assert restricted(lambda: bind_unix(state / "other/socket"), rules) == -errno.EACCES
    assert restricted(lambda: read(state / "other/file"), rules) == "old"


@SUPPORTED
def test_nothing_is_executed(state):
    rules = [("/", landlock.STATE)]
    assert restricted(lambda: os.execv("/bin/true", ["true"]), rules) == -errno.EACCES


@SUPPORTED
def test_a_path_that_does_not_exist_gives_nothing(state):
    assert restricted(lambda: read(state / "kept/file"), [(str(state / "missing"), landlock.STATE)]) == -errno.EACCES


@SUPPORTED
def test_a_single_file_may_be_kept(state):
    rules = [(str(state / "kept/file"), landlock.STATE)]
    assert restricted(lambda: read(state / "kept/file"), rules) == "old"
    assert restricted(lambda: replace(state / "kept/file"), rules) == -errno.EACCES


@SUPPORTED
def test_rules_of_a_child_only_take_away(state):
    def again() -> str:
        landlock.restrict([("/", landlock.STATE)])
        return replace(state / "kept/file")

    assert restricted(again, [("/", landlock.READ)]) == -errno.EACCES


@pytest.mark.skipif(landlock.abi() < 4, reason="this kernel's Landlock knows no TCP")
def test_the_secluded_open_no_port():
    assert restricted(listen, [], secluded=True) == -errno.EACCES
    assert restricted(listen, []) == "bound"


@pytest.mark.skipif(landlock.abi() < 6, reason="this kernel's Landlock knows no signals")
def test_the_secluded_signal_nobody():
    assert restricted(signal_parent, [], secluded=True) == -errno.EPERM
    assert restricted(signal_parent, []) == "sent"
