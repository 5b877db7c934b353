"""Filters in processes of their own: what is allowed, refused, and what ends the process."""

import ctypes
import errno
import os
import signal
import socket
import threading

import pytest

from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.privileges import forbid_new_privileges
from ntpd_fast.system.seccomp import Filter, open_library
from ntpd_fast.system.syscalls import ALLOWED, CONDITIONS, FORBIDDEN, REFUSED_AT_LEVEL_1, Kind

LEVELS = pytest.mark.parametrize("level", [1, 2, -1, -2])
libc = ctypes.CDLL(None, use_errno=True)


def outcome(kind: Kind, level: int, act) -> int:
    """Exit status of a process that does something behind a filter: 0, an errno, or the negative signal."""
    the_filter = Filter(open_library(), kind, level)
    pid = os.fork()
    if pid == 0:
        status = 250
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            forbid_new_privileges()
            the_filter.load()
            act()
            status = 0
        except OSError as error:
            status = error.errno or 251
        finally:
            os._exit(status)
    the_filter.close()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def execute() -> None:
    os.execv("/bin/true", ["true"])


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def start_thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def open_a_file() -> None:
    os.close(os.open("/etc/passwd", os.O_RDONLY))


def write_a_file() -> None:
    os.close(os.open("/dev/null", os.O_WRONLY | os.O_TRUNC))


def open_a_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def use_io_uring() -> None:
    if libc.syscall(ctypes.c_long(425), ctypes.c_uint(1), None) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")


def make_memory_executable() -> None:
    memory = libc.mmap(None, 4096, 3, 0x22, -1, 0)
    libc.mprotect(memory, ctypes.c_size_t(4096), 5)


def trace() -> None:
    libc.ptrace(0, 0, None, None)


def signal_our_parent() -> None:
    os.kill(os.getppid(), 0)


def signal_a_thread_of_our_parent() -> None:
    libc.tgkill(os.getppid(), os.getppid(), 0)


def raise_in_ourselves() -> None:
    signal.raise_signal(signal.SIGUSR1)


def write_everything_out() -> None:
    """A call that nothing forbids and nothing needs."""
    libc.sync()


@LEVELS
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("act", [execute, trace])
def test_nobody_executes_or_traces(kind, level, act):
    assert outcome(kind, level, act) == -signal.SIGSYS


@LEVELS
@pytest.mark.parametrize("kind", list(Kind))
def test_only_the_supervisor_forks(kind, level):
    assert outcome(kind, level, fork) == (0 if kind is Kind.SUPERVISOR else -signal.SIGSYS)


@LEVELS
@pytest.mark.parametrize("kind", list(Kind))
def test_io_uring_is_refused_not_punished(kind, level):
    assert outcome(kind, level, use_io_uring) == errno.ENOSYS


@LEVELS
@pytest.mark.parametrize("kind", [Kind.SUPERVISOR, Kind.CONTROL])
@pytest.mark.parametrize("act", [start_thread, open_a_file, write_a_file, open_a_socket])
def test_control_works(kind, level, act):
    """Threads are for looking names up."""
    assert outcome(kind, level, act) == 0


@pytest.mark.parametrize(
    ("kind", "act", "expected"),
    [
        (Kind.WORKER, open_a_file, errno.EACCES),
        (Kind.WORKER, open_a_socket, errno.EACCES),
        (Kind.WORKER, start_thread, -signal.SIGSYS),
        (Kind.WORKER, make_memory_executable, -signal.SIGSYS),
        (Kind.WORKER, signal_our_parent, -signal.SIGSYS),
        (Kind.WORKER, signal_a_thread_of_our_parent, -signal.SIGSYS),
        (Kind.WORKER, raise_in_ourselves, -signal.SIGUSR1),
        (Kind.WORKER, write_everything_out, -signal.SIGSYS),
        (Kind.NTS_KE, open_a_file, 0),
        (Kind.NTS_KE, write_a_file, -signal.SIGSYS),
        (Kind.NTS_KE, open_a_socket, errno.EACCES),
        (Kind.NTS_KE, make_memory_executable, -signal.SIGSYS),
        (Kind.NTS_KE, signal_our_parent, -signal.SIGSYS),
        (Kind.CONTROL, signal_our_parent, -signal.SIGSYS),
        (Kind.CONTROL, write_everything_out, -signal.SIGSYS),
        (Kind.SUPERVISOR, write_everything_out, -signal.SIGSYS),
    ],
)
def test_level_1_allows_what_is_listed(kind, act, expected):
    assert outcome(kind, 1, act) == expected
    assert outcome(kind, -1, act) == expected


@pytest.mark.parametrize("kind", list(Kind))
def test_level_2_leaves_what_is_not_listed(kind):
    assert outcome(kind, 2, write_everything_out) == 0


def test_a_filter_only_adds_to_that_of_the_parent():
    """A worker's filter on the supervisor's: the supervisor's list covers every other one."""
    for kind in Kind:
        assert ALLOWED[kind] <= ALLOWED[Kind.SUPERVISOR]
        assert FORBIDDEN[Kind.SUPERVISOR] <= FORBIDDEN[kind]


def test_tables_do_not_contradict_themselves():
    library = open_library()
    for kind in Kind:
        assert not ALLOWED[kind] & FORBIDDEN[kind] - {"fork", "vfork"}
        assert not ALLOWED[kind] & REFUSED_AT_LEVEL_1[kind].keys()
        assert CONDITIONS[kind].keys() <= ALLOWED[kind]
        for name in (*ALLOWED[kind], *FORBIDDEN[kind], *REFUSED_AT_LEVEL_1[kind]):
            assert library.seccomp_syscall_resolve_name(name.encode()) != -1, name


def test_a_negative_level_says_where(capfd):
    the_filter = Filter(open_library(), Kind.WORKER, -1)
    pid = os.fork()
    if pid == 0:
        the_filter.load()
        signal_our_parent()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGSYS
    assert "signal_our_parent" in capfd.readouterr().err


def test_missing_library_is_fatal():
    with pytest.raises(FatalError, match=r"Could not load libnothing\.so\.0, which -F needs"):
        open_library("libnothing.so.0")
