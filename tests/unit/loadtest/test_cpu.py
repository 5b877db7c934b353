"""CPU time of a process tree, against processes that burn a known amount."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest import cpu

# a child burns CPU time and then waits; the parent waits for it
TREE = """
import os, sys, time
child = os.fork()
if child == 0:
    while time.process_time() < 0.1:
        pass
    print("burnt", flush=True)
    time.sleep(60)
os.waitpid(child, 0)
"""


def test_children_and_their_time_are_part_of_a_server() -> None:
    process = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE)
    try:
        before = cpu.read([process.pid])
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        time.sleep(0.05)
        tree = cpu.process_tree(process.pid)
        assert len(tree) == 2
        busy_ns, waiting_ns = cpu.read(tree).since(before)
        assert 90_000_000 < busy_ns < 400_000_000
        assert waiting_ns >= 0
        memory, shared = cpu.memory_bytes(tree)
        assert memory > 1_000_000
        assert 0 <= shared <= memory
    finally:
        for pid in cpu.process_tree(process.pid)[1:]:
            subprocess.run(["kill", str(pid)], check=True)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def test_a_thread_that_ended_spoils_the_measurement() -> None:
    before = cpu.CpuTime({1: 100, 2: 100}, {1: 0, 2: 0})
    with pytest.raises(cpu.MeasurementError):
        cpu.CpuTime({1: 200}, {1: 0}).since(before)


def test_a_thread_that_came_counts_from_its_start() -> None:
    before = cpu.CpuTime({1: 100}, {1: 7})
    assert cpu.CpuTime({1: 150, 2: 30}, {1: 9, 2: 1}).since(before) == (80, 3)


def test_there_is_no_tree_under_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert cpu.process_tree(process.pid) == []


def test_priority_lasts_as_long_as_the_block() -> None:
    group = Path("/proc/self/autogroup")
    before = group.read_text() if group.exists() else ""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if os.geteuid() == 0:
        with cpu.priority(-3):
            assert os.getpriority(os.PRIO_PROCESS, 0) == -3
            assert not before or group.read_text().split()[-1] == "-3"
    else:
        with pytest.raises(PermissionError), cpu.priority(-3):
            pass
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    assert not before or group.read_text() == before


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_process_without_a_group_has_only_its_own_priority(tmp_path: Path, text: str) -> None:
    """A process that never was in a session of its own reads an empty file; to write there would be an error."""
    group = tmp_path / "autogroup"
    group.write_text(text)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with cpu.priority(own, group):
        assert group.read_text() == text
    assert group.read_text() == text


def test_a_priority_that_is_not_wanted_changes_nothing() -> None:
    before = os.sched_getscheduler(0)
    with cpu.realtime(False):
        assert os.sched_getscheduler(0) == before


def test_real_time_priority_reaches_children_and_ends() -> None:
    program = "import os; print(os.sched_getscheduler(0))"
    child = None
    try:
        with cpu.realtime(True):
            child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    except PermissionError:
        assert not cpu.may_realtime()
    else:
        assert cpu.may_realtime()
        assert int(child.stdout) == os.SCHED_FIFO
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
