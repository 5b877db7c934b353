"""When the machine kept everybody from running: the only excuse for a request that the server dropped.

A witness on each core does nothing but look at the clock every few milliseconds. Where the daemon's workers may not run
it may not either: it has the highest priority of all that takes part. A worker that keeps itself busy does not hold it
up. `python -m tests.soak.pauses CORE` is one witness; it ends with its standard input.
"""

import os
import select
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.daemon import environment
from tests.soak.priority import take_witness

LOOK_S = 0.004
PAUSE_S = 0.012
"""The shortest that counts, a look included: at 100,000 requests/s a receive buffer is full not much later."""
NEAR_S = 1.0
"""What is dropped so soon after a pause is its consequence: the queue it left has to be worked off, and be read."""
_KEPT = 1000


@dataclass
class Pauses:
    """Times are of the monotonic clock, in seconds. `count`, `longest_s`: of all; the latest are remembered."""

    count: int = 0
    longest_s: float = 0.0
    _latest: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def note(self, start_s: float, end_s: float) -> None:
        """One, seen by a witness or made by the soak itself."""
        self.count += 1
        self.longest_s = max(self.longest_s, end_s - start_s)
        self._latest.append((start_s, end_s))

    def between(self, start_s: float, end_s: float) -> bool:
        """Was there one then, or shortly before?"""
        return any(first <= end_s and last >= start_s - NEAR_S for first, last in self._latest)


@dataclass
class Drops:
    """What the server dropped for having no time, each in a pause or not. `look` again and again."""

    pauses: Pauses
    excused: int = 0
    unexcused: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the start, how many)"""
    _seen: int = 0
    _looked_s: float = 0.0

    def look(self, dropped: int, now_s: float, since_start_s: float) -> None:
        """`dropped`: the server's count so far, at `now_s`."""
        fresh = dropped - self._seen
        if fresh > 0 and self.pauses.between(self._looked_s, now_s):
            self.excused += fresh
        elif fresh > 0:
            self.unexcused.append((since_start_s, fresh))
        self._seen, self._looked_s = dropped, now_s


class Witnesses:
    """One on each core that this process may use, looking from the start of the `with` block; `read` what they saw."""

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._processes: list[subprocess.Popen[bytes]] = []
        self._rest: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        for core in sorted(os.sched_getaffinity(0)):
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(core)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
            )  # fmt: skip
            assert process.stdout is not None
            self._processes.append(process)
            self._rest[process.stdout.fileno()] = b""
        for fd in self._rest:
            if os.read(fd, 1) != b"\n":
                self.close()
                raise RuntimeError("a witness of the machine's pauses did not start")
            os.set_blocking(fd, False)
        return self

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.communicate()

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def read(self) -> None:
        """Note the pauses seen since the last time. RuntimeError when a witness has ended."""
        for fd, rest in self._rest.items():
            try:
                got = os.read(fd, 65536)
            except BlockingIOError:
                continue
            if not got:
                raise RuntimeError("a witness of the machine's pauses has ended")
            *lines, self._rest[fd] = (rest + got).split(b"\n")
            for line in lines:
                start, end = line.split()
                self._pauses.note(float(start), float(end))


def witness(core: int) -> None:
    """Write start and end of each pause of this core until the standard input ends."""
    os.sched_setaffinity(0, {core})
    take_witness()
    last_s = time.monotonic()
    os.write(1, b"\n")
    while not select.select([0], [], [], LOOK_S)[0]:
        now_s = time.monotonic()
        if now_s - last_s >= PAUSE_S:
            os.write(1, f"{last_s:.6f} {now_s:.6f}\n".encode())
        last_s = now_s


if __name__ == "__main__":
    witness(int(sys.argv[1]))
