"""Lines of measurements.log, statistics.log and selection.log, in the columns that the field's tools parse."""

from __future__ import annotations

import time

from ntpd_fast._record import dataclass
from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.response import PassedTests
from ntpd_fast.client.selection import SelectReport
from ntpd_fast.client.source import SelectOption
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import NS_PER_S

_LEAP_LETTERS = {Leap.NORMAL: "N", Leap.INSERT: "+", Leap.DELETE: "-", Leap.UNSYNCHRONISED: "?"}

# in the order of the columns 123 567 ABCD
_TEST_GROUPS = (
    (PassedTests.NOT_DUPLICATE, PassedTests.ORIGIN, PassedTests.TIMESTAMPS),
    (PassedTests.AUTHENTIC, PassedTests.SYNCHRONISED, PassedTests.SANE),
    (PassedTests.A, PassedTests.B, PassedTests.C, PassedTests.D),
)

_OPTION_LETTERS = (
    (SelectOption.NOSELECT, "N"),
    (SelectOption.PREFER, "P"),
    (SelectOption.TRUST, "T"),
    (SelectOption.REQUIRE, "R"),
)


@dataclass(frozen=True, slots=True)
class StatisticsRecord:
    """One line of statistics.log."""

    time_ns: int
    """Cooked time of the newest sample, ns."""
    source: str
    """Address or reference ID."""
    std_dev_s: float
    offset_s: float
    """Positive: the local clock is ahead."""
    offset_sd_s: float
    frequency: float
    skew: float
    stress: float
    n_samples: int
    """Before the fit."""
    best_start: int
    """How many of them the fit dropped."""
    n_runs: int
    asymmetry: float


@dataclass(frozen=True, slots=True)
class SelectionRecord:
    """One line of selection.log: how a selection judged a source."""

    time_ns: int
    source: str
    reach: int
    report: SelectReport


def _date(time_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_ns // NS_PER_S))


def format_tests(tests: PassedTests) -> str:
    """The tests as `111 111 1111`."""
    return " ".join("".join("1" if test in tests else "0" for test in group) for group in _TEST_GROUPS)


def format_measurement(record: MeasurementRecord) -> str:
    """A line of measurements.log, without a newline."""
    sample = record.sample
    values = (
        (
            sample.offset_s,
            sample.peer_delay_s,
            sample.peer_dispersion_s,
            record.root_delay_s,
            record.root_dispersion_s,
        )
        if sample is not None
        else (0.0, 0.0, 0.0, record.root_delay_s, record.root_dispersion_s)
    )
    return (
        f"{_date(record.time_ns)} {record.address or ''!s:<15} {_LEAP_LETTERS[record.leap]} {record.stratum:2d} "
        f"{format_tests(record.tests)}  {record.local_poll:2d} {record.remote_poll:2d} {record.score:4.2f} "
        + " ".join(f"{value:10.3e}" for value in values)
        + f" {record.refid:08X} {record.mode}{'I' if record.interleaved else 'B'}"
        f" {record.tx_source.value} {record.rx_source.value}"
    )


def format_statistics(record: StatisticsRecord) -> str:
    """A line of statistics.log, without a newline."""
    return (
        f"{_date(record.time_ns)} {record.source:<15} {record.std_dev_s:10.3e} {record.offset_s:10.3e} "
        f"{record.offset_sd_s:10.3e} {record.frequency:10.3e} {record.skew:10.3e} {record.stress:7.1e} "
        f"{record.n_samples:3d} {record.best_start:3d} {record.n_runs:3d} {record.asymmetry:5.2f}"
    )


def format_selection(record: SelectionRecord) -> str:
    """A line of selection.log, without a newline."""
    report = record.report
    options = "".join(letter if option in report.options else "-" for option, letter in _OPTION_LETTERS)
    return (
        f"{_date(record.time_ns)} {record.source:<15} {report.state.value} -{options} {record.reach:4o} "
        f"{report.score:5.2f} {report.last_sample_ago_s:10.3e} {report.offset_lo_s:10.3e} "
        f"{report.offset_hi_s:10.3e}"
    )
