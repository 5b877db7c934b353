"""Checks of a start: texts of the corpus, the order of mistakes, and what options of the daemon change."""

from pathlib import Path
from typing import Any

import pytest

from ntpd_fast.config import Config, ConfigError, load
from ntpd_fast.config.start import REFCLOCK_DRIVER_OPTIONS, check_start
from tests.unit.config.conftest import CORPUS, EXPECTED, hosts, parse

# Only those who open the device or the interface can tell.
DEVICES = {
    "bad/031-refclock-missing-device.conf",
    "bad/077-hwtimestamp-no-interface.conf",
    "bad/078-rhel10-doc-hwtimestamp-glob.conf",
}


def check(*lines: str, **options: Any) -> str:
    try:
        check_start(parse(*lines), user_known=lambda name: name == "root", **options)
    except ConfigError as error:
        return str(error)
    return ""


def _load(name: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    path = CORPUS / name
    monkeypatch.chdir(path.parent)
    return load(path.name, resolver=hosts)


@pytest.mark.parametrize("entry", EXPECTED["good"], ids=lambda entry: entry["file"])
def test_starts_with_valid_file(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check_start(_load(entry["file"], monkeypatch))


@pytest.mark.parametrize(
    "entry", [entry for entry in EXPECTED["bad"] if entry["stage"] == "start"], ids=lambda entry: entry["file"]
)
def test_refuses_to_start_with_the_text(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    level = 1 if entry["extra_options"] == ["-F", "1"] else 0
    config = _load(entry["file"], monkeypatch)
    if entry["file"] in DEVICES:
        check_start(config, filter_level=level)
        return
    with pytest.raises(ConfigError) as error:
        check_start(config, filter_level=level)
    assert str(error.value) == entry["fatal"]["dev"]


def test_error_knows_the_line_it_does_not_name() -> None:
    for lines in (
        ("port 1", "allow 1.2.3.4/33"),
        ("port 1", "refclock GPS 0"),
        ("noclientlog", "ratelimit"),
        ("port 1", "ntsservercert /x"),
        ("port 1", "sched_priority 100"),
        ("rtcsync", "rtcfile /x"),
    ):
        with pytest.raises(ConfigError) as error:
            check_start(parse(*lines))
        assert error.value.where is not None
        assert error.value.where.line == 2
        assert "at line" not in str(error.value)


MISTAKES = [
    ("user nosuch", "Could not get user/group ID of nosuch"),
    ("ntsserverkey /x", "Uneven number of NTS certs and keys"),
    ("rtcfile /x", "rtcfile directive cannot be used with rtcsync"),
    ("refclock GPS 0", "unknown refclock driver GPS"),
    ("allow 1.2.3.4/33", "Bad subnet in 1.2.3.4/33"),
    ("cmdallow 10/40", "Bad subnet in 10.0.0.0/40"),
    ("sched_priority 100", "Bad scheduler priority: 100"),
    ("ratelimit", "Rate limiting cannot be enabled with noclientlog"),
    ("tempcomp /t 30 /no/points", "Could not open /no/points : No such file or directory"),
    ("mailonchange a 1", "mailonchange directive cannot be used with -F enabled"),
]


def test_first_mistake_is_told_in_the_order_of_chrony() -> None:
    lines = ["rtcsync", "noclientlog", *(line for line, _ in MISTAKES)]
    for line, text in MISTAKES:
        assert check(*lines, filter_level=1) == text
        lines.remove(line)
    assert check(*lines, filter_level=1) == ""


def test_options_of_the_daemon_win() -> None:
    assert check("user nosuch", user="root") == ""
    assert check("user root", user="nosuch") == "Could not get user/group ID of nosuch"
    assert check("sched_priority 100", sched_priority=1) == ""
    assert check("sched_priority 1", sched_priority=100) == "Bad scheduler priority: 100"
    assert check("sched_priority 1", sched_priority=-1) == "Bad scheduler priority: -1"
    for level in (-2, -1, 0, 1, 2):
        assert check(filter_level=level) == ""
    assert check(filter_level=3) == "Unsupported filter level"


@pytest.mark.parametrize("limit", ["ratelimit", "ntsratelimit", "cmdratelimit"])
def test_rate_limits_need_the_client_log(limit: str) -> None:
    assert check(limit) == ""
    assert check("noclientlog", limit) == "Rate limiting cannot be enabled with noclientlog"


def test_refclock_drivers() -> None:
    assert check("refclock PPS /dev/pps0:clear", "refclock SOCK /x", "refclock RTC /dev/rtc0:utc") == ""
    assert check("refclock PHC /dev/ptp0:nocrossts:extpps:pin=-1:channel=1:clear") == ""
    assert check("refclock SHM 0:perm") == ""
    assert check("refclock SHM 0:permx") == "Invalid refclock driver option permx"
    assert check("refclock SHM 9::") == "Invalid refclock driver option "
    assert check("refclock SOCK /x:clear") == "Invalid refclock driver option clear"
    assert check("refclock SHM 0 tai") == "refclock tai option requires leapseclist or leapsectz"
    for source in ("leapsectz right/UTC", "leapseclist /x"):
        assert check("refclock SHM 0 tai", source) == ""
    for user in ("rtcsync", "rtcfile /x"):
        assert check("refclock RTC /dev/rtc0", user) == "RTC refclock cannot be used together with rtcsync or rtcfile"
    assert set(REFCLOCK_DRIVER_OPTIONS) == {"PPS", "SHM", "SOCK", "PHC", "RTC"}


def test_system_users() -> None:
    check_start(parse("user root"))
    for name in ("no-such-user-xyz", "\udcff"):
        with pytest.raises(ConfigError, match="Could not get user/group ID of"):
            check_start(parse(f"user {name}"))


def test_tempcomp_points_are_read_at_start(tmp_path: Path) -> None:
    points = tmp_path / "points"
    line = f"tempcomp /sys/temp 30 {points}"
    points.write_text("1 2\n3 4\n")
    assert check(line) == ""
    points.write_text("1 2\n")
    assert check(line) == f"Not enough points in {points}"
