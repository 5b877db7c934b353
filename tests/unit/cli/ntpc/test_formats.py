"""Values at the edges of their formats, as chronyc prints them."""

import pytest

from ntpd_fast.cli.ntpc import formats as f
from ntpd_fast.cli.ntpc.template import Template


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "   0"), (1199, "1199"), (1200, " 20m"), (35999, "599m"), (36000, " 10h"), (345599, " 95h"),
        (345600, "  4d"), (86399999, "999d"), (86400000, "  2y"), (4294967294, "136y"), (4294967295, "   -"),
    ],
)  # fmt: skip
def test_ages(seconds, text):
    assert f.ago(seconds) == text


@pytest.mark.parametrize(
    ("value_s", "signed", "unsigned"),
    [
        (1e-9, "   +1ns", "   1ns"),
        (9.9994e-6, "+9999ns", "9999ns"),
        (9.9996e-6, "  +10us", "  10us"),
        (355e-6, " +355us", " 355us"),
        (0.0099994, "+9999us", "9999us"),
        (0.011, "  +11ms", "  11ms"),
        (9.9994, "+9999ms", "9999ms"),
        (9.9996, " +10.0s", " 10.0s"),
        (999.4, "+999.4s", "999.4s"),
        (999.6, " +1000s", " 1000s"),
        (99999.6, " +1667m", " 1667m"),
        (5999976, " +1667h", " 1667h"),
        (-12.345, " -12.3s", " 12.3s"),
        (-0.0, "   -0ns", "   0ns"),
        (1e10, " +317y", "  317y"),
    ],
)
def test_offsets(value_s, signed, unsigned):
    assert f.signed_offset(value_s).strip() == signed.strip()
    assert f.offset(value_s).strip() == unsigned.strip()
    assert len(f.signed_offset(value_s)) == 7
    assert len(f.offset(value_s)) == 6


@pytest.mark.parametrize(
    ("ppm", "plain", "signed"),
    [
        (0.0005, "     0.001", "    +0.001"),
        (99999.4994, " 99999.499", "+99999.499"),
        (99999.6, "    100000", "   +100000"),
        (-1.5, "    -1.500", "    -1.500"),
    ],
)
def test_frequencies(ppm, plain, signed):
    assert f.frequency(ppm) == plain
    assert f.signed_frequency(ppm) == signed


def test_dates_before_1970_and_after_2106():
    assert f.date(-3_786_825_600 * 10**9) == "Tue Jan 01 00:00:00 1850"
    assert f.date(8_835_955_200 * 10**9) == "Tue Jan 01 00:00:00 2250"
    assert f.timestamp(1485510557_000000005) == "1485510557.000000005"


def test_dates_beyond_any_calendar_are_not_printed():
    assert f.date(2**62 * 10**9) == ""
    assert f.date_time(2**62 * 10**9) == "INVALID    INVALID "
    assert f.rfc3339(-(2**62) * 10**9) is None
    assert f.rfc3339(1485510557_000000005) == "2017-01-27T09:49:17.000000005Z"


def test_words_for_signs():
    assert f.offset_words(0.0) == "0.000000000 seconds fast"
    assert f.offset_words(1e-6) == "0.000001000 seconds slow"
    assert f.frequency_words(0.0) == "0.000 ppm slow"
    assert f.frequency_words(3.2254) == "3.225 ppm fast"


def test_unknown_leap_states_are_said_to_be_invalid():
    assert (f.leap_words(4), f.leap_letter(4)) == ("Invalid", "?")


def test_refid_text_keeps_printable_characters():
    assert f.refid_text(0x47505300) == "GPS"
    assert f.refid_text(0x7F7F0101) == ""
    assert f.refid_text(0x47205320) == "G S "


def test_a_template_prints_text_and_the_same_values_as_csv():
    template = Template("a {%-5s}|{%+.2f}|{%3o} {AGO} {YN}!")
    values = ("xy", 1.005, 255, 4294967295, True)
    assert template.text(values) == "a xy   |+1.00|377    - Y!"
    assert template.csv(values) == "xy,1.00,377,4294967295,Y"


def test_a_template_wants_all_its_values():
    with pytest.raises(ValueError, match="zip"):
        Template("{%d} {%d}").text((1,))
