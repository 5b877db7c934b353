"""`python -m tests.bench.control`: what the daemon that follows sources costs, as CPU time of its processes.

The whole daemon runs with `-x` and without workers: what it uses is control's. Its sources are addresses of another
daemon on loopback. The time is read from /proc/PID/stat, start and first measurements excluded.
Exit status 1 when a budget is missed or a source was not followed.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

from tests import daemon
from tests.processes import children_of, wait_until

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    """Sources to follow and the share of a core that this may take."""

    sources: int
    options: str
    window_s: float
    most: float

    def __str__(self) -> str:
        return f"{self.sources} sources, {self.options or 'default polling'}"


LOADS = (
    # two polls of each source are in the window
    Load(8, "", 140.0, 0.01),
    Load(32, "minpoll 0 maxpoll 0", 30.0, 0.08),
    # requests to different sources keep an eighth of the polling interval apart, as chronyd's do, which allows 32
    # sources a quarter of their polls; here they measure 32 times a second
    Load(32, "minpoll -2 maxpoll -2", 30.0, 0.08),
)


def family(pid: int) -> list[int]:
    """A process and all that came from it."""
    return [pid, *(one for child in children_of(pid) for one in family(child))]


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        # the name in parentheses may hold anything
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def answered(client: daemon.Daemon) -> int:
    """Good measurements so far, of all sources."""
    return sum(
        int(line.rpartition(":")[2])
        for line in client.chronyc("ntpdata").splitlines()
        if line.startswith("Total good RX")
    )


def measure(load: Load, server: daemon.Daemon) -> tuple[float, float]:
    """Share of a core, and good measurements a second."""
    lines = [f"server 127.0.1.{k + 1} port {server.port} {load.options}" for k in range(load.sources)]
    lines += ["workers 0", "ntsprocesses 0"]
    with daemon.running(lines, local=False) as client:
        wait_until(lambda: answered(client) >= load.sources, "an answer of every source")
        time.sleep(SETTLE_S)
        pids = family(client.process.pid)
        good, used_s, began_s = answered(client), sum(map(cpu_s, pids)), time.monotonic()
        time.sleep(load.window_s)
        took_s = time.monotonic() - began_s
        used_s = sum(map(cpu_s, pids)) - used_s
        return used_s / took_s, (answered(client) - good) / took_s


def main() -> int:
    kept = True
    with daemon.running(["local stratum 1"], local=False) as server:
        for load in LOADS:
            share, rate = measure(load, server)
            good = share <= load.most and rate > 0.0
            kept = kept and good
            print(
                f"{'kept  ' if good else 'MISSED'}  {load}: {100.0 * share:.2f} % of a core ≤ {100.0 * load.most:g} %,"
                f" {rate:.2f} measurements/s",
                flush=True,
            )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
