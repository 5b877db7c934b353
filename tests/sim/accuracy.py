"""The accuracy table: one client, one perfect server, and how well the clock is kept; chrony's figures beside.

`ROWS` are the conditions with the medians that chrony reaches in the same simulation (over 12 seeds) and the
bounds that every seed has to keep. A row passes when our medians are at most `MEDIAN_RATIO` times chrony's and
no seed exceeds its bounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.sim.monitor import Monitor
from tests.sim.network import Network, Path
from tests.sim.node import Node
from tests.sim.refserver import ReferenceServer
from tests.sim.world import World

MEDIAN_RATIO = 1.3

US, MS = 1e-6, 1e-3
PRECISE = ("clockprecision 1e-9",)
FAST_XLEAVE = "minpoll 0 maxpoll 0 xleave"
FIXED_POLL = "minpoll 4 maxpoll 4"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    number: str
    title: str
    source: str
    """Options of the server line."""
    base_s: float
    jitter_s: float
    wander: float
    duration_s: int
    chrony_offset_rms_s: float
    chrony_frequency_rms: float
    bound_offset_rms_s: float
    bound_frequency_rms: float
    frequency: float = 1e-5
    offset_s: float = 0.0
    lines: tuple[str, ...] = PRECISE


def _row(
    number: str,
    source: str,
    delay: tuple[float, float],
    wander: float,
    duration_s: int,
    chrony: tuple[float, float],
    bounds: tuple[float, float],
    *,
    title: str = "",
    frequency: float = 1e-5,
    offset_s: float = 0.0,
    lines: tuple[str, ...] = (),
) -> Row:
    return Row(
        number,
        title or source or "defaults",
        source,
        *delay,
        wander,
        duration_s,
        *chrony,
        *bounds,
        frequency,
        offset_s,
        (*PRECISE, *lines),
    )


ROWS: tuple[Row, ...] = (
    _row("1", FAST_XLEAVE, (20 * US, 1e-9), 1e-9, 4000, (4.5e-9, 2.4e-9), (1e-8, 5e-9)),
    _row("2", FAST_XLEAVE, (20 * US, 1e-8), 1e-9, 4000, (9.1e-9, 4.5e-9), (2e-8, 1e-8)),
    _row("3", FAST_XLEAVE, (20 * US, 1e-7), 1e-9, 4000, (3.6e-8, 1.2e-8), (8e-8, 3e-8)),
    _row("4", FAST_XLEAVE, (20 * US, 1 * US), 1e-9, 4000, (1.3e-7, 3.2e-8), (4e-7, 2e-7)),
    _row("5", FAST_XLEAVE, (20 * US, 10 * US), 1e-9, 4000, (1.1e-6, 2.2e-7), (3e-6, 2e-6)),
    _row("6", FAST_XLEAVE, (20 * US, 100 * US), 1e-9, 4000, (7.8e-6, 2.0e-6), (2.5e-5, 2e-5)),
    _row("7", FIXED_POLL, (100 * US, 1 * US), 1e-9, 20000, (5.9e-7, 2.8e-8), (1.5e-6, 8e-8)),
    _row("8", FIXED_POLL, (100 * US, 10 * US), 1e-9, 20000, (2.6e-6, 5.8e-8), (6e-6, 2e-7)),
    _row("9", FIXED_POLL, (100 * US, 100 * US), 1e-9, 20000, (1.1e-5, 1.1e-7), (3e-5, 1e-6)),
    _row("10", FIXED_POLL, (100 * US, 1 * MS), 1e-9, 20000, (6.7e-5, 7.4e-7), (2e-4, 1.2e-5)),
    _row("11", "", (100 * US, 1 * US), 1e-9, 40000, (1.6e-6, 2.9e-8), (1e-5, 8e-8)),
    _row("12", "", (100 * US, 10 * US), 1e-9, 40000, (1.4e-5, 6.4e-8), (7e-5, 2.5e-7)),
    _row("13", "", (100 * US, 100 * US), 1e-9, 40000, (8.5e-5, 1.1e-7), (3e-4, 6e-7)),
    _row("14", "", (10 * MS, 1 * MS), 1e-9, 40000, (4.4e-4, 7.8e-8), (2e-3, 1e-6)),
    _row("15", "", (10 * MS, 10 * MS), 1e-9, 40000, (1.5e-3, 2.9e-7), (6e-3, 3e-6)),
    _row("16", "", (10 * MS, 100 * MS), 1e-9, 40000, (6.8e-3, 1.4e-6), (3e-2, 3e-5)),
    _row("17", "", (100 * US, 100 * US), 0.0, 40000, (1.1e-5, 2.6e-9), (5e-5, 4e-8)),
    _row("18", "", (100 * US, 100 * US), 1e-10, 40000, (4.4e-5, 8.0e-9), (2e-4, 1.5e-7)),
    _row("19", "", (100 * US, 100 * US), 1e-8, 40000, (1.0e-4, 6.6e-7), (4e-4, 3e-6)),
    _row("20", "", (100 * US, 100 * US), 1e-7, 40000, (1.4e-4, 2.8e-6), (3e-4, 7e-6)),
    _row(
        "21",
        "iburst",
        (100 * US, 10 * US),
        1e-9,
        3000,
        (1.3e-5, 3.9e-8),
        (6e-5, 2.5e-7),
        title="iburst, clock 0.1 s off",
        offset_s=0.1,
    ),
    _row(
        "22",
        "iburst",
        (100 * US, 100 * US),
        1e-9,
        3000,
        (2.9e-5, 4.2e-8),
        (2e-4, 4e-7),
        title="iburst, makestep 1 3, clock 1000 s off",
        offset_s=1000.0,
        lines=("makestep 1 3",),
    ),
    _row(
        "23a",
        "",
        (100 * US, 100 * US),
        1e-9,
        10000,
        (7.1e-5, 5e-8),
        (5e-4, 1e-6),
        title="defaults, clock 500 ppm fast",
        frequency=500e-6,
    ),
    _row(
        "23b",
        "",
        (100 * US, 100 * US),
        1e-9,
        10000,
        (7.1e-5, 5e-8),
        (5e-4, 1e-6),
        title="defaults, clock 5 % fast",
        frequency=5e-2,
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run of a row."""

    number: str
    seed: int
    offset_rms_s: float
    offset_max_s: float
    frequency_rms: float
    settle_s: float
    interval_s: float


def run_row(row: Row, seed: int) -> Result:
    """Simulate a row with a seed; rows are independent of each other."""
    world = World(seed, name=f"row {row.number}")
    network = Network(world, Path(row.base_s, row.jitter_s))
    server = ReferenceServer(world, network, IPv4Address("10.0.0.1"))
    node = Node(
        network,
        "10.0.1.1",
        f"server 10.0.0.1 {row.source}",
        *row.lines,
        offset_s=row.offset_s,
        frequency=row.frequency,
        wander=row.wander,
    )
    monitor = Monitor(node.machine)
    node.start()
    world.run(row.duration_s)
    accuracy = monitor.accuracy()
    return Result(
        row.number,
        seed,
        accuracy.offset_rms_s,
        accuracy.offset_max_s,
        accuracy.frequency_rms,
        accuracy.settle_s,
        row.duration_s / max(len(server.requests), 1),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row over all seeds."""

    row: Row
    results: tuple[Result, ...]

    @property
    def offset_rms_s(self) -> float:
        """Median."""
        return statistics.median(result.offset_rms_s for result in self.results)

    @property
    def offset_max_s(self) -> float:
        """Median of the greatest offsets."""
        return statistics.median(result.offset_max_s for result in self.results)

    @property
    def frequency_rms(self) -> float:
        """Median."""
        return statistics.median(result.frequency_rms for result in self.results)

    @property
    def settle_s(self) -> float:
        """Median."""
        return statistics.median(result.settle_s for result in self.results)

    @property
    def interval_s(self) -> float:
        """Mean time between requests."""
        return statistics.fmean(result.interval_s for result in self.results)

    def failures(self, ratio: float = MEDIAN_RATIO) -> list[str]:
        """What is not as it must be, with the seeds to repeat it."""
        row, failed = self.row, []
        for name, ours, theirs in (
            ("offset", self.offset_rms_s, row.chrony_offset_rms_s),
            ("frequency", self.frequency_rms, row.chrony_frequency_rms),
        ):
            if ours > ratio * theirs:
                failed.append(f"row {row.number}: median {name} RMS {ours:.2e} > {ratio} × {theirs:.2e}")
        for result in self.results:
            if result.offset_rms_s > row.bound_offset_rms_s:
                failed.append(f"row {row.number} seed {result.seed}: offset RMS {result.offset_rms_s:.2e}")
            if result.frequency_rms > row.bound_frequency_rms:
                failed.append(f"row {row.number} seed {result.seed}: frequency RMS {result.frequency_rms:.2e}")
        return failed


def judge(results: Iterable[Result], rows: Sequence[Row] = ROWS) -> list[Verdict]:
    """Put the results of all runs under their rows."""
    by_row: dict[str, list[Result]] = {}
    for result in results:
        by_row.setdefault(result.number, []).append(result)
    return [
        Verdict(row, tuple(sorted(by_row[row.number], key=lambda r: r.seed)))
        for row in rows
        if row.number in by_row
    ]
