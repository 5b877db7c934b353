from ntpd_fast.clock.rtclog import RTC_LOG_TITLE, RtcRecord


def test_columns() -> None:
    record = RtcRecord(1_700_000_000_500_000_000, -0.25, True, -0.249999, 12.5, 9, 5, 120)
    line = record.format()
    assert line == "2023-11-14 22:13:20      -0.250000 1       -0.249999        12.500   9   5  120"
    assert len(line) == len(RTC_LOG_TITLE)
