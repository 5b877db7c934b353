"""CPU time of a server: all its processes and threads, to the nanosecond.

/proc/PID/task/TID/schedstat holds what the scheduler charged a thread (user and system, and the softirq work
done in its context unless the kernel is built with IRQ_TIME_ACCOUNTING) and how long it waited for a core.
The kernel brings it up to date when the thread leaves the core, so readings are taken while the server is
idle: before a run, and after its last answer.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class MeasurementError(RuntimeError):
    """The run does not tell what it was meant to."""


@dataclass(frozen=True)
class CpuTime:
    """By thread: ns on a core and ns ready but waiting for one."""

    busy_ns: dict[int, int]
    waiting_ns: dict[int, int]

    def since(self, earlier: "CpuTime") -> tuple[int, int]:
        """(busy, waiting) ns between two readings.

        MeasurementError when a thread ended meanwhile: its time is lost.
        """
        gone = earlier.busy_ns.keys() - self.busy_ns.keys()
        if gone:
            raise MeasurementError(f"threads {sorted(gone)} of the server ended during the measurement")
        return (
            sum(self.busy_ns.values()) - sum(earlier.busy_ns.values()),
            sum(self.waiting_ns.values()) - sum(earlier.waiting_ns.values()),
        )


@contextmanager
def priority(nice: int, autogroup: Path = Path("/proc/self/autogroup")) -> Iterator[None]:
    """Run at this priority (−20 to 0), and what is started meanwhile too; PermissionError without the right to.

    Where the scheduler groups processes by session, niceness counts only within the group, so the group's is set too.
    A process that belongs to no session's group (one that a container's start made without `setsid`) reads an empty
    file there, and has nothing but its own niceness.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    # "/autogroup-559 nice 0", or nothing
    group_before = (autogroup.read_text().split() or [""])[-1] if autogroup.exists() else ""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        if group_before and nice != int(group_before):
            autogroup.write_text(str(nice))
        yield
    finally:
        if group_before and nice != int(group_before):
            autogroup.write_text(group_before)
        os.setpriority(os.PRIO_PROCESS, 0, before)


@contextmanager
def realtime(wanted: bool) -> Iterator[None]:
    """If wanted run under SCHED_FIFO, and what is started meanwhile too; PermissionError without the right to.

    Nothing else of the machine then runs on these cores while server and generator are at work, but for the share the
    kernel keeps back (sched_rt_runtime_us), so single runs have to stay below a second where losses count.
    """
    if not wanted:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def may_realtime() -> bool:
    """Whether `realtime` is permitted."""
    try:
        with realtime(True):
            return True
    except PermissionError:
        return False


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants; empty when there is none."""
    found = []
    queue = [pid]
    while queue:
        process = queue.pop()
        try:
            threads = os.listdir(f"/proc/{process}/task")
        except FileNotFoundError:
            continue
        found.append(process)
        for thread in threads:
            try:
                children = Path(f"/proc/{process}/task/{thread}/children").read_text()
            except FileNotFoundError:
                continue
            queue.extend(int(child) for child in children.split())
    return found


def memory_bytes(pids: Iterable[int]) -> tuple[int, int]:
    """Memory of these processes, what they share counted once (proportional set size): all, and shared memory."""
    found = {"Pss:": 0, "Pss_Shmem:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if name in found:
                found[name] += int(rest.split()[0]) * 1024
    return found["Pss:"], found["Pss_Shmem:"]


def read(pids: Iterable[int]) -> CpuTime:
    """What the threads of these processes have used so far."""
    busy, waiting = {}, {}
    for pid in pids:
        for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                fields = schedstat.read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            thread = int(schedstat.parent.name)
            busy[thread], waiting[thread] = int(fields[0]), int(fields[1])
    return CpuTime(busy, waiting)
