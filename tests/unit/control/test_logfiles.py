from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.logs import StatisticsRecord
from ntpd_fast.client.response import PassedTests
from ntpd_fast.client.sources import SourcesHooks
from ntpd_fast.client.stamps import StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.trackinglog import TrackingRecord
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.model import LogKind
from ntpd_fast.control.logfiles import TITLES, LogFiles
from ntpd_fast.system.messages import Severity

TIME_NS = 1_700_000_000_000_000_000

MEASUREMENT = MeasurementRecord(
    time_ns=TIME_NS,
    address=ip_address("10.0.0.1"),
    leap=Leap.NORMAL,
    stratum=1,
    tests=PassedTests.SYNCED,
    local_poll=6,
    remote_poll=6,
    score=1.0,
    sample=None,
    root_delay_s=0.0,
    root_dispersion_s=0.0,
    refid=0x47505300,
    mode=4,
    interleaved=False,
    tx_source=StampSource.KERNEL,
    rx_source=StampSource.KERNEL,
)
STATISTICS = StatisticsRecord(TIME_NS, "10.0.0.1", 1e-6, 1e-6, 1e-6, 1e-9, 1e-9, 0.0, 6, 0, 3, 0.0)
TRACKING = TrackingRecord(
    TIME_NS, 0, None, False, 0, 0.0, 1e6, 0.0, Leap.UNSYNCHRONISED, 0, 0.0, 0.0, 1.0, 1.0, 1.5
)


class Fixture:
    def __init__(self, *lines: str) -> None:
        self.logged: list[tuple[Severity, str]] = []
        self.files = LogFiles(parse_lines(lines), lambda severity, text: self.logged.append((severity, text)))
        self.hooks = SourcesHooks()
        self.files.attach(self.hooks)


def entries(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("20")]


def test_every_log_but_the_raw_one_has_a_file() -> None:
    assert set(TITLES) == set(LogKind) - {LogKind.RAWMEASUREMENTS}


def test_nothing_is_asked_for() -> None:
    kept = Fixture()
    assert kept.hooks == SourcesHooks()
    assert kept.files.tracking is None
    assert all(kept.files.writer(kind) is None for kind in LogKind)
    assert kept.logged == []


def test_logs_without_a_directory_are_told_each(tmp_path: Path) -> None:
    kept = Fixture("log tracking statistics")
    assert kept.logged == [(Severity.WARNING, "logdir not specified")] * 2
    assert kept.files.tracking is None


def test_files_of_all_logs(tmp_path: Path) -> None:
    kept = Fixture(f"logdir {tmp_path}", "log measurements statistics selection tracking rtc refclocks tempcomp")
    assert not list(tmp_path.iterdir())
    for kind in TITLES:
        write = kept.files.writer(kind)
        assert write is not None
        write(f"2023 {kind}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{kind}.log" for kind in TITLES)
    for kind, title in TITLES.items():
        line = "=" * len(title)
        assert (tmp_path / f"{kind}.log").read_text() == f"{line}\n{title}\n{line}\n2023 {kind}\n"
    kept.files.close()


@pytest.mark.parametrize(("directive", "expected"), [("measurements", 1), ("rawmeasurements", 2)])
def test_raw_measurements_are_all(directive: str, expected: int, tmp_path: Path) -> None:
    kept = Fixture(f"logdir {tmp_path}", f"log {directive}")
    log = kept.hooks.measurements
    assert log is not None
    log(MEASUREMENT)
    log(replace(MEASUREMENT, tests=PassedTests.SYNCED & ~PassedTests.SANE))
    assert len(entries(tmp_path / "measurements.log")) == expected
    assert kept.hooks.statistics is None
    assert kept.hooks.selection is None


def test_sources_and_reference_log(tmp_path: Path) -> None:
    kept = Fixture(f"logdir {tmp_path}", "log statistics tracking", "logbanner 0")
    assert kept.hooks.statistics is not None
    kept.hooks.statistics(STATISTICS)
    assert kept.files.tracking is not None
    kept.files.tracking(TRACKING)
    assert (tmp_path / "statistics.log").read_text().startswith("2023-11-14 22:13:20 10.0.0.1  ")
    assert (tmp_path / "tracking.log").read_text().startswith("2023-11-14 22:13:20 0.0.0.0          0 ")


def test_cycle_opens_all_files_anew(tmp_path: Path) -> None:
    kept = Fixture(f"logdir {tmp_path}", "log tracking")
    assert kept.files.tracking is not None
    kept.files.tracking(TRACKING)
    (tmp_path / "tracking.log").rename(tmp_path / "old")
    kept.files.cycle()
    kept.files.tracking(TRACKING)
    assert len(entries(tmp_path / "old")) == len(entries(tmp_path / "tracking.log")) == 1
    kept.files.close()
