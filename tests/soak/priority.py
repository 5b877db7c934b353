"""Real-time priority for a soak and its daemons, so that other work on the machine costs them no request.

Children inherit it, and the processes that a reload adds do, too. The order is the one a server wants: who answers
comes before who asks, and both before who reports. Who tells when nobody could run comes before all, and hardly runs.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.processes import children_of, status_of

WITNESS, WORKER, CLIENTS, OTHERS = 4, 3, 2, 1
"""Priorities of SCHED_FIFO; kernel threads for interrupts have 50."""
_FOLLOW_S = 0.02


def take_realtime() -> None:
    """For this process, and whatever it starts. OSError where it may not."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(OTHERS))


def take_clients() -> None:
    """For the calling thread."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(CLIENTS))


def take_witness() -> None:
    """For this process, if whoever started it took real-time priority."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(WITNESS))


def raise_workers(supervisor: int, raised: set[int]) -> None:
    """Workers before the rest; those that a reload adds as soon as this is called again. `raised`: who was already."""
    for pid in children_of(supervisor):
        if pid in raised:
            continue
        try:
            if status_of(pid, "Name")[0].startswith("ntpd-worker"):
                os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(WORKER))
                raised.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue


@contextmanager
def workers_first(supervisor: int) -> Iterator[None]:
    """Raise workers all the time, those that come, too: else others would keep them from their first requests."""
    ends = threading.Event()
    raised: set[int] = set()

    def follow() -> None:
        while not ends.wait(_FOLLOW_S):
            raise_workers(supervisor, raised)

    raise_workers(supervisor, raised)
    thread = threading.Thread(target=follow, name="priorities")
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
