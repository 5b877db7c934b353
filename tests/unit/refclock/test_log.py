from ntpd_fast.clock.driver import Leap
from ntpd_fast.refclock.log import REFCLOCKS_LOG_TITLE, FilteredRecord, RawRecord

TIME_NS = 1_700_000_000_123_456_789


def test_raw_columns() -> None:
    line = RawRecord(TIME_NS, "PPS1", 3, Leap.NORMAL, True, -1.5e-3, 2.25e-4, 1e-6).format()
    assert line == "2023-11-14 22:13:20.123456 PPS1    3 N 1 -1.500000e-03  2.250000e-04  1.000e-06"
    assert len(line) == len(REFCLOCKS_LOG_TITLE)


def test_filtered_columns() -> None:
    line = FilteredRecord(TIME_NS, "GPS", Leap.INSERT, -2.25e-4, 1e-6).format()
    assert line == "2023-11-14 22:13:20.123456 GPS     - + -       -       -2.250000e-04  1.000e-06"
    assert len(line) == len(REFCLOCKS_LOG_TITLE)
