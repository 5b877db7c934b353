"""What the levels of `-F` come to, and what is told when the kernel offers less."""

import errno
import os

import pytest

from ntpd_fast.system import landlock, seccomp
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.sandbox import Paths, Sandbox, directories_of
from ntpd_fast.system.syscalls import Kind
from tests.forked import in_child
from tests.processes import status_of


def closed_in(sandbox: Sandbox, kind: Kind, act):
    """What `act` gives in a process closed in: its value, or the errno it failed with."""
    sandbox.prepare()

    def run():
        sandbox.close_in(kind)
        try:
            return act()
        except OSError as error:
            return -error.errno

    return in_child(run)


def confinement() -> list[str]:
    return status_of(os.getpid(), "NoNewPrivs", "Seccomp")


def open_a_file() -> int:
    os.close(os.open("/etc/passwd", os.O_RDONLY))
    return 0


def test_level_0_closes_nothing():
    assert closed_in(Sandbox(0), Kind.WORKER, confinement) == status_of(os.getpid(), "NoNewPrivs", "Seccomp")


@pytest.mark.parametrize("level", [-2, -1, 1, 2])
@pytest.mark.parametrize("kind", [Kind.SUPERVISOR, Kind.CONTROL, Kind.NTS_KE])
def test_other_levels_have_a_filter_and_no_new_privileges(kind, level):
    sandbox = Sandbox(level, {kind: Paths(readable=["/proc"])})
    assert closed_in(sandbox, kind, confinement) == ["1", "2"]


@pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
def test_a_worker_opens_no_file_at_level_2_either():
    assert closed_in(Sandbox(2), Kind.WORKER, open_a_file) == -errno.EACCES
    assert closed_in(Sandbox(2, {Kind.CONTROL: Paths(readable=["/"])}), Kind.CONTROL, open_a_file) == 0


def test_kernel_without_path_rules_is_one_line(monkeypatch, caplog):
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    caplog.set_level("INFO")
    # level 2 leaves files to the path rules
    assert closed_in(Sandbox(2), Kind.WORKER, open_a_file) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "This kernel has no path rules (Landlock): files are protected by their permissions alone"
    ]


def test_filter_that_cannot_be_had_is_fatal(monkeypatch):
    monkeypatch.setattr(seccomp, "LIBRARY", "libnothing.so.0")
    with pytest.raises(FatalError, match="which -F needs"):
        Sandbox(1).prepare()
    Sandbox(0).prepare()


def test_directories_are_those_of_the_names_and_of_what_they_link_to(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "live").mkdir()
    (tmp_path / "archive/cert1.pem").touch()
    (tmp_path / "live/cert.pem").symlink_to("../archive/cert1.pem")
    found = directories_of(str(tmp_path / "live/cert.pem"), None, "", "drift")
    assert set(found) >= {str(tmp_path / "live"), str(tmp_path / "archive"), "."}
