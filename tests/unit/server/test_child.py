"""What a forked child is left with."""

import os
import signal
import socket
import sys
import time

import pytest

from ntpd_fast.server.child import EXIT_BUG, Confinement, spawn
from ntpd_fast.system import privileges
from ntpd_fast.system.privileges import Capability


@pytest.fixture
def told():
    """A pipe children write to: (descriptor to keep, function that runs a child and returns its words and status)."""
    read_end, write_end = os.pipe()

    def run(main, **more):
        keep = more.pop("keep", ())
        pid = spawn(main, Confinement(keep=[write_end, *keep], **more))
        _, status = os.waitpid(pid, 0)
        os.set_blocking(read_end, False)
        try:
            words = os.read(read_end, 65536).decode()
        except BlockingIOError:
            words = ""
        return words, os.waitstatus_to_exitcode(status)

    yield write_end, run
    os.close(read_end)
    os.close(write_end)


def open_descriptors() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def test_child_keeps_only_the_descriptors_on_its_list(told):
    tell, run = told
    kept, dropped = socket.socketpair()

    def main() -> int:
        os.write(tell, repr(open_descriptors()).encode())
        return 7

    words, status = run(main, keep=[kept.fileno()])
    assert status == 7
    assert eval(words) == sorted({0, 1, 2, tell, kept.fileno()})
    dropped.close()
    kept.close()


def test_child_has_the_name_it_is_given(told):
    tell, run = told

    def main() -> int:
        with open("/proc/self/comm", "rb") as file:
            os.write(tell, file.read())
        return 0

    assert run(main, name="ntpd-worker 255")[0] == "ntpd-worker 255\n"


def test_child_has_default_signals_and_no_wakeup(told):
    tell, run = told
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    old_wakeup = signal.set_wakeup_fd(write_end)

    def main() -> int:
        os.write(tell, repr(signal.set_wakeup_fd(-1)).encode())
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(5)
        return 0

    try:
        words, status = run(main)
    finally:
        signal.set_wakeup_fd(old_wakeup)
        signal.signal(signal.SIGUSR1, old)
    # not by SIGINT: the keys of the terminal are the supervisor's business
    assert (words, status) == ("-1", -signal.SIGUSR1)
    os.close(write_end)
    assert os.read(read_end, 10) == b""
    os.close(read_end)


def test_mask_of_the_parent_is_restored(told):
    _, run = told
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    run(lambda: 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_child_loses_its_capabilities_for_good(told):
    tell, run = told

    def main() -> int:
        with open("/proc/self/status") as file:
            fields = dict(line.split(":\t", 1) for line in file.read().splitlines())
        os.write(tell, repr([fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")]).encode())
        return 0

    words, _ = run(main)
    assert eval(words) == ["0" * 16] * 4 + ["1"]


def test_child_keeps_the_capabilities_it_is_given(told):
    tell, run = told
    have = privileges.permitted() >> Capability.SYS_TIME & 1

    def main() -> int:
        os.write(tell, repr((privileges.permitted(), privileges.has_capability(Capability.SYS_TIME))).encode())
        return 0

    words, _ = run(main, capabilities=[Capability.SYS_TIME])
    assert eval(words) == (have << Capability.SYS_TIME, bool(have))


def test_error_in_child_is_told_and_ends_it(told, capfd):
    _, run = told

    def main() -> int:
        raise RuntimeError("surprise")

    assert run(main)[1] == EXIT_BUG


def test_sys_exit_is_an_exit_status(told):
    _, run = told
    assert run(lambda: sys.exit(3))[1] == 3


def test_child_dies_with_its_parent():
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        pid = spawn(lambda: time.sleep(60) or 0, Confinement(keep=[write_end]))
        os.write(write_end, f"{pid}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write_end)
    os.waitpid(middle, 0)
    # The pipe ends when the last process that holds it is gone.
    started = time.monotonic()
    with open(read_end) as words:
        orphan = int(words.read())
    assert time.monotonic() - started < 5
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{orphan}") and "\nState:\tZ" not in process_status(orphan):
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.01)


def process_status(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/status") as file:
            return file.read()
    except FileNotFoundError:
        return "\nState:\tZ"
