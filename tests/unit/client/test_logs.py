"""Log lines, column by column as chronyd writes them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.logs import (
    SelectionRecord,
    StatisticsRecord,
    format_measurement,
    format_selection,
    format_statistics,
    format_tests,
)
from ntpd_fast.client.logtitles import MEASUREMENTS_TITLE, SELECTION_TITLE, STATISTICS_TITLE
from ntpd_fast.client.response import PassedTests
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.selection import SelectReport
from ntpd_fast.client.source import SelectOption, SourceState
from ntpd_fast.client.stamps import StampSource
from ntpd_fast.clock.driver import Leap

TIME_NS = 1_795_300_486_430_481_909

MEASUREMENT = MeasurementRecord(
    time_ns=TIME_NS,
    address=IPv4Address("127.0.0.1"),
    leap=Leap.NORMAL,
    stratum=10,
    tests=PassedTests.ALL,
    local_poll=0,
    remote_poll=0,
    score=0.0,
    sample=Sample(TIME_NS, -1.166e-5, 2.714e-5, 5.610e-5, 2.714e-5, 5.610e-5),
    root_delay_s=0.0,
    root_dispersion_s=0.0,
    refid=0x7F7F0101,
    mode=4,
    interleaved=False,
    tx_source=StampSource.KERNEL,
    rx_source=StampSource.KERNEL,
)


def test_measurement_as_chronyd_writes_it() -> None:
    assert format_measurement(MEASUREMENT) == (
        "2026-11-21 22:34:46 127.0.0.1       N 10 111 111 1111   0  0 0.00 -1.166e-05  2.714e-05  5.610e-05"
        "  0.000e+00  0.000e+00 7F7F0101 4B K K"
    )
    assert len(format_measurement(MEASUREMENT)) == len(MEASUREMENTS_TITLE)


def test_measurement_that_measured_nothing() -> None:
    record = replace(
        MEASUREMENT,
        sample=None,
        leap=Leap.UNSYNCHRONISED,
        tests=PassedTests.VALID,
        interleaved=True,
        mode=1,
        tx_source=StampSource.DAEMON,
        rx_source=StampSource.HARDWARE,
        local_poll=-3,
        remote_poll=10,
    )
    assert not record.synced
    assert format_measurement(record) == (
        "2026-11-21 22:34:46 127.0.0.1       ? 10 111 100 0000  -3 10 0.00  0.000e+00  0.000e+00  0.000e+00"
        "  0.000e+00  0.000e+00 7F7F0101 1I D H"
    )


def test_groups_of_tests() -> None:
    assert format_tests(PassedTests.NONE) == "000 000 0000"
    assert format_tests(PassedTests.ALL) == "111 111 1111"
    for i, test in enumerate(sorted(set(PassedTests), reverse=True)):
        expected = list("0000000000")
        expected[i] = "1"
        assert format_tests(test).replace(" ", "") == "".join(expected)


def test_statistics_as_chronyd_writes_it() -> None:
    record = StatisticsRecord(
        TIME_NS, "127.0.0.1", 4.483e-7, 5.498e-6, 1.362e-6, 7.190e-6, 1.606e-3, 3.6e-3, 3, 0, 3, 0.0
    )
    line = format_statistics(record)
    assert line == (
        "2026-11-21 22:34:46 127.0.0.1        4.483e-07  5.498e-06  1.362e-06  7.190e-06  1.606e-03 3.6e-03"
        "   3   0   3  0.00"
    )
    assert len(line) == len(STATISTICS_TITLE)


def test_selection_as_chronyd_writes_it() -> None:
    report = SelectReport(
        SourceState.SELECTED,
        False,
        Leap.NORMAL,
        SelectOption.NONE,
        SelectOption.NONE,
        1.634e-3,
        1.0,
        -9.006e-6,
        1.979e-5,
    )
    line = format_selection(SelectionRecord(TIME_NS, "127.0.0.1", 7, report))
    assert line == ("2026-11-21 22:34:46 127.0.0.1       * -----    7  1.00  1.634e-03 -9.006e-06  1.979e-05")
    assert abs(len(line) - len(SELECTION_TITLE)) <= 1
    options = SelectOption.NOSELECT | SelectOption.TRUST
    line = format_selection(SelectionRecord(TIME_NS, "PPS0", 0o377, replace(report, options=options)))
    assert line[20:].startswith("PPS0            * -N-T-  377 ")
