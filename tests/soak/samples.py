"""What a daemon's processes hold, read from /proc, and whether it grew.

Sans-IO but for `read`: samples come in, a verdict goes out. What may not grow is the anonymous memory a process has
resident, whoever else has the same pages: copying a page on write changes nothing then. Shared memory (client log,
timestamp map) is told and not judged: its size is fixed by the configuration, and clients that come fill it.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.processes import children_of, status_of

GROWTH_MAX_KIB = 1024
# Share of a role's samples at each end that are compared by their medians.
_END_SHARE = 0.1


@dataclass(frozen=True)
class Sample:
    """One process at one time. `own_kib`: its anonymous memory; `pss_kib`: its share of everything."""

    at_s: float
    role: str
    pid: int
    rss_kib: int
    own_kib: int
    pss_kib: int
    shared_kib: int
    descriptors: int


def read(supervisor: int, at_s: float) -> list[Sample]:
    """The supervisor and its children; one that ends meanwhile is left out."""
    samples = []
    for pid in (supervisor, *children_of(supervisor)):
        try:
            role = "supervisor" if pid == supervisor else status_of(pid, "Name")[0].removeprefix("ntpd-")
            try:
                memory = status_of(pid, "VmRSS", "RssAnon", "RssShmem")
            except KeyError:  # one that has ended but is not yet collected has no memory
                continue
            rss, own, shared = (int(field.split()[0]) for field in memory)
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        pss = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), None)
        if pss is None:
            continue
        samples.append(Sample(at_s, role, pid, rss, own, pss, shared, descriptors))
    return samples


@dataclass(frozen=True)
class Trend:
    """One role over the whole run, its processes' first moments left out."""

    role: str
    processes: int
    samples: int
    rss_kib: int
    pss_kib: int
    own_first_kib: float
    own_last_kib: float
    shared_kib: int
    descriptors_first: int
    """The most there were in the first half: log files and connections come and go."""
    descriptors_last: int
    """The fewest there were at the end."""

    @property
    def growth_kib(self) -> float:
        return self.own_last_kib - self.own_first_kib

    def problems(self) -> list[str]:
        """What must not be."""
        found = []
        if self.growth_kib > GROWTH_MAX_KIB:
            found.append(f"{self.role}: memory grew by {self.growth_kib:.0f} KiB, at most {GROWTH_MAX_KIB} are allowed")
        if self.descriptors_last > self.descriptors_first:
            found.append(f"{self.role}: descriptors grew from {self.descriptors_first} to {self.descriptors_last}")
        return found


def trends(samples: Iterable[Sample], settle_s: float) -> list[Trend]:
    """Each role that has samples of processes older than `settle_s`, in order of appearance."""
    born: dict[int, float] = {}
    roles: dict[str, list[Sample]] = {}
    processes: dict[str, set[int]] = {}
    for sample in samples:
        born.setdefault(sample.pid, sample.at_s)
        processes.setdefault(sample.role, set()).add(sample.pid)
        if sample.at_s - born[sample.pid] >= settle_s:
            roles.setdefault(sample.role, []).append(sample)
    return [_trend(role, len(processes[role]), settled) for role, settled in roles.items()]


def _trend(role: str, processes: int, samples: Sequence[Sample]) -> Trend:
    count = max(1, round(len(samples) * _END_SHARE))
    first, last = samples[:count], samples[-count:]
    return Trend(
        role,
        processes,
        len(samples),
        samples[-1].rss_kib,
        samples[-1].pss_kib,
        median(sample.own_kib for sample in first),
        median(sample.own_kib for sample in last),
        samples[-1].shared_kib,
        max(sample.descriptors for sample in samples[: max(1, len(samples) // 2)]),
        min(sample.descriptors for sample in last),
    )
