"""Our statistics against chronyd's: both load the same registers from dump files and say what they make of them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntpd_fast.client.sourcestats import SourceStats, StatsOptions
from tests.interop.chronyd import running

PRECISION_S = 1e-6
INTERVAL_S = 16.0
NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Sample:
    """A line of a register; offsets as the statistics keep them (positive: the local clock is ahead)."""

    t: float
    offset: float
    delay: float

    @property
    def line(self) -> str:
        return f"{self.t:.9f} {self.offset:.6e} {self.offset:.6e} {self.delay:.6e} 1e-6 {self.delay:.6e} 1e-6"


def register(kind: str, rng: random.Random, now: float) -> list[Sample]:
    """A made-up history that ended a few seconds ago."""
    n = rng.choice((3, 4, 5, 6, 7)) if kind == "short" else rng.choice((8, 12, 20, 32, 64))
    t = now - n * INTERVAL_S * 1.02 - 5.0
    start = t
    samples = []
    for _ in range(n):
        t += INTERVAL_S * (1.0 + 0.02 * rng.random())
        there = rng.expovariate(1e3)
        back = 0.0 if kind == "one way" else rng.expovariate(1e3)
        offset = (there - back) / 2.0 + 1e-5 * (t - now)
        if kind == "bent":
            # the frequency has changed: only the end fits a line
            offset += 2e-5 * max(0.0, t - (start + n * INTERVAL_S / 2.0))
        samples.append(Sample(t, offset, 2e-3 + there + back))
    return samples


def dump(name: str, samples: list[Sample]) -> str:
    lines = ["SRC0", name, "0 377 8 1 0", f"{len(samples)} 0", *(sample.line for sample in samples)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("asymmetry 0", StatsOptions(asymmetry=0.0)),
        ("asymmetry 1", StatsOptions()),
        ("asymmetry -0.4 mindelay 0.0025", StatsOptions(asymmetry=-0.4, min_delay_s=0.0025)),
        ("minsamples 16", StatsOptions(min_samples=16)),
    ],
)
def test_same_register_same_line(tmp_path: Path, line: str, options: StatsOptions) -> None:
    rng = random.Random(line)
    now = time.time()
    registers = {
        f"127.0.2.{i}": register(kind, rng, now)
        for i, kind in enumerate(["noise"] * 6 + ["short"] * 5 + ["bent"] * 6 + ["one way"] * 4, start=1)
    }
    dumps = tmp_path / "dump"
    dumps.mkdir()
    for address, samples in registers.items():
        (dumps / f"{address}.dat").write_text(dump(address, samples))
    # offline: nothing is measured; noselect: nothing is corrected, so that the figures stay as they are
    servers = [f"server {address} offline noselect {line}" for address in registers]
    with running(tmp_path, f"dumpdir {dumps}", f"clockprecision {PRECISION_S}", *servers, options=["-r"]) as chronyd:
        asked_ns = time.time_ns()
        rows = chronyd.command("-n", "sourcestats").split()
    assert len(rows) == len(registers)
    for row in rows:
        fields = row.split(",")
        ours = SourceStats(options, PRECISION_S)
        lines = dump(fields[0], registers[fields[0]]).splitlines()[3:]
        assert ours.load_lines(lines, asked_ns), fields[0]
        report = ours.stats_report(asked_ns)
        assert [report.n_samples, report.n_runs, round(report.span_s)] == [int(f) for f in fields[1:4]], fields
        assert report.residual_frequency * 1e6 == pytest.approx(float(fields[4]), rel=1e-3, abs=2e-3)
        assert report.skew * 1e6 == pytest.approx(float(fields[5]), rel=1e-3, abs=2e-3)
        # at the moment of the question, which is known to a second or so
        assert report.offset_s == pytest.approx(float(fields[6]), abs=2e-5)
        assert report.std_dev_s == pytest.approx(float(fields[7]), rel=1e-3, abs=2e-9)
