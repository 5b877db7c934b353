"""The pid file: one daemon at a time, and nothing planted in its place is followed."""

import fcntl
import multiprocessing
import os
import stat

import pytest

from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.pidfile import PidFile


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "daemon.pid")


def read(path):
    with open(path) as file:
        return file.read()


def dead_pid() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_file_is_complete_and_goes_away(path):
    pidfile = PidFile.create(path, "ntpd-fast")
    assert read(path) == f"{os.getpid()}\n"
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o133 == 0
    assert os.listdir(os.path.dirname(path)) == ["daemon.pid"]
    pidfile.remove()
    assert os.listdir(os.path.dirname(path)) == []


def test_file_of_a_running_daemon_is_left_alone(path):
    # chronyd's: a living pid, no lock
    with open(path, "w") as file:
        file.write(f"{os.getppid()}\n")
    with pytest.raises(
        FatalError, match=rf"^Another chronyd may already be running \(pid={os.getppid()}\), check {path}$"
    ):
        PidFile.create(path, "chronyd")
    assert read(path) == f"{os.getppid()}\n"


def test_lock_tells_our_own_instances_whatever_the_file_says(path):
    pidfile = PidFile.create(path, "ntpd-fast")
    os.truncate(path, 0)
    with pytest.raises(FatalError, match=r"Another ntpd-fast may already be running \(pid=0\)"):
        PidFile.create(path, "ntpd-fast")
    pidfile.remove()


@pytest.mark.parametrize("content", ["", "garbage\n", "-1\n", "0\n", "99999999999999999999\n", "9999999\n", "1 2\n"])
def test_file_that_names_nobody_is_replaced(path, content):
    with open(path, "w") as file:
        file.write(content)
    pidfile = PidFile.create(path, "ntpd-fast")
    assert read(path) == f"{os.getpid()}\n"
    pidfile.remove()


def test_stale_files_are_replaced(path):
    for pid in (dead_pid(), os.getpid()):
        with open(path, "w") as file:
            file.write(f"{pid}\n")
        pidfile = PidFile.create(path, "ntpd-fast")
        assert read(path) == f"{os.getpid()}\n"
        pidfile.remove()


def test_symbolic_link_is_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, path)
    with pytest.raises(FatalError, match=f"^Could not open {path} : "):
        PidFile.create(path, "ntpd-fast")
    assert victim.read_text() == "precious"
    assert os.path.islink(path)


def test_hard_link_to_a_file_of_others_is_replaced_not_written(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, path)
    PidFile.create(path, "ntpd-fast").remove()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("plant", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting(path, plant):
    plant(path)
    with pytest.raises(FatalError, match=f"^Could not open {path} : not a regular file$"):
        PidFile.create(path, "ntpd-fast")


def test_missing_directory(tmp_path):
    with pytest.raises(FatalError, match=r"^Could not open .*/missing/daemon.pid : No such file or directory$"):
        PidFile.create(str(tmp_path / "missing" / "daemon.pid"), "ntpd-fast")


def test_file_that_is_no_longer_ours_stays(path):
    pidfile = PidFile.create(path, "ntpd-fast")
    os.unlink(path)
    with open(path, "w") as file:
        file.write("1\n")
    pidfile.remove()
    assert read(path) == "1\n"


def test_directory_that_forbids_removal_leaves_an_empty_file(path, monkeypatch):
    pidfile = PidFile.create(path, "ntpd-fast")

    def forbid(_):
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", forbid)
        pidfile.remove()
    assert read(path) == ""
    PidFile.create(path, "ntpd-fast").remove()


def compete(path, start, results):
    start.wait()
    try:
        PidFile.create(path, "ntpd-fast")
    except FatalError as error:
        results.put(str(error))
    else:
        results.put("won")
    results.close()
    results.join_thread()
    start.wait()  # hold the lock until all have tried


def test_of_many_that_start_at_once_one_wins(path):
    context = multiprocessing.get_context("fork")
    for round_number in range(5):
        with open(path, "w") as file:
            file.write(f"{dead_pid()}\n")
        start, results = context.Barrier(8), context.Queue()
        rivals = [context.Process(target=compete, args=(path, start, results)) for _ in range(8)]
        for rival in rivals:
            rival.start()
        outcomes = [results.get(timeout=20) for _ in rivals]
        for rival in rivals:
            rival.join()
        assert outcomes.count("won") == 1, (round_number, outcomes)
        assert all("may already be running" in outcome for outcome in outcomes if outcome != "won")


def test_lock_is_released_by_the_end_of_its_process(path):
    pid = os.fork()
    if pid == 0:
        PidFile.create(path, "ntpd-fast")
        os._exit(0)
    os.waitpid(pid, 0)
    assert read(path) == f"{pid}\n"
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    PidFile.create(path, "ntpd-fast").remove()
