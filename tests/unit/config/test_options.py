"""Options of sources, refclocks, local, rate limits and hwtimestamp: values, limits, repetition."""

import math
from typing import Any

import pytest

from ntpd_fast.config import ConfigError
from ntpd_fast.config.model import (
    ExtField,
    HwTimestampOptions,
    LocalOptions,
    RatelimitOptions,
    RefclockConfig,
    RxFilter,
    SourceKind,
    SourceOptions,
)
from ntpd_fast.config.options import SOURCE_OPTIONS, BadValue, UnknownOption, parse_source_options
from tests.unit.config.conftest import parse


def source(options: str, kind: str = "server") -> SourceOptions:
    config = parse(f"{kind} ntp.example {options}")
    assert config.warnings == ()
    return config.sources[0].options


SOURCE_VALUES: list[tuple[str, str, Any]] = [
    ("", "minpoll", 6),
    ("", "maxpoll", 10),
    ("minpoll -7", "minpoll", -7),
    ("minpoll -8", "minpoll", 6),
    ("minpoll 25", "minpoll", 24),
    ("minpoll 25", "maxpoll", 24),
    ("minpoll 12", "maxpoll", 12),
    ("maxpoll -8", "maxpoll", 10),
    ("maxpoll 3", "maxpoll", 6),
    ("maxpoll 32", "maxpoll", 24),
    ("minpoll -7 maxpoll -7", "maxpoll", -7),
    ("maxdelay -1", "maxdelay_s", 0.0),
    ("maxdelay inf", "maxdelay_s", 1000.0),
    ("maxdelayratio 1e9", "maxdelayratio", 1e6),
    ("maxdelaydevratio 1e9", "maxdelaydevratio", 1e6),
    ("maxdelayquant 0.01", "maxdelayquant", 0.05),
    ("maxdelayquant 1", "maxdelayquant", 0.95),
    ("maxdelayquant -1", "maxdelayquant", 0.0),
    ("mindelay -1", "mindelay_s", 0.0),
    ("asymmetry 0.5", "asymmetry", 0.5),
    ("asymmetry 0.6", "asymmetry", None),
    ("asymmetry -inf", "asymmetry", None),
    ("offset -5e-5", "offset_s", -5e-5),
    ("minstratum 16", "minstratum", 15),
    ("maxsources 17", "maxsources", 16),
    ("extfield F323 extfield 0x10a", "extfields", {ExtField.EXP_MONO_ROOT, ExtField.NET_CORRECTION}),
    ("extfield f324", "extfields", {ExtField.NET_CORRECTION}),
    ("ipv4", "family", 4),
    ("ipv4 ipv6", "family", 6),
    ("version 3", "version", 3),
    ("key 4294967295", "key", 4294967295),
    ("presend 9 presend 10", "presend", 10),
    ("port 011123", "port", 11123),
    ("minpoll +4", "minpoll", 4),
    ("minpoll 5iburst", "iburst", True),
    ("maxdelay 1eprefer", "prefer", True),
    ("iburst iburst", "iburst", True),
    ("OFFLINE", "offline", True),
]


@pytest.mark.parametrize(("options", "field", "value"), SOURCE_VALUES)
def test_source_option(options: str, field: str, value: Any) -> None:
    assert getattr(source(options), field) == value


def test_every_source_option_sets_its_field() -> None:
    unusual = {"extfield": "F323", "asymmetry": "0.25", "maxpoll": "9", "minpoll": "5", "maxdelayquant": "0.5"}
    for kind in SourceKind:
        for name, option in SOURCE_OPTIONS.items():
            word = "" if not option.value.syntax else unusual.get(name, "2")
            changed = source(f"{name} {word}", kind.value)
            assert getattr(changed, option.field) != getattr(SourceOptions(), option.field), name


def test_options_of_the_add_command() -> None:
    assert parse_source_options(["minpoll", "4", "Iburst"]) == SourceOptions(minpoll=4, iburst=True)
    with pytest.raises(UnknownOption):
        parse_source_options(["nosuch"])
    with pytest.raises(BadValue):
        parse_source_options(["minpoll"])


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("server", "Invalid syntax for server"),
        ("pool", "Invalid syntax for pool"),
        ("peer", "Invalid syntax for peer"),
        ("server a b", "Invalid option in server"),
        ("pool a minpoll 5x", "Invalid option in pool"),
        ("server a extfield F323x", "Invalid option in server"),
        ("peer a minpoll", "Invalid value in peer"),
        ("server a extfield", "Invalid value in server"),
        ("server a extfield 999", "Invalid value in server"),
        ("server a key -1", "Invalid value in server"),
        ("server a maxdelay x", "Invalid value in server"),
        ("server a maxdelay infiburst", "Invalid value in server"),
        ("pool a local", "Invalid option in pool"),
        ("server a iburst local", "Invalid option in server"),
        ("refclock SHM 0 x", "Invalid option in refclock"),
        ("refclock SHM 0 refid", "Invalid value in refclock"),
        ("refclock SHM 0 lock ABCDE", "Invalid value in refclock"),
        ("local x", "Invalid option in local"),
        ("local stratum", "Invalid value in local"),
    ],
)
def test_error_of_options(line: str, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(line)
    assert str(error.value) == f"{text} directive at line 1"


def test_stray_local_of_the_documented_line() -> None:
    config = parse("server ntp.example.com local minpoll 0 maxpoll 0 xleave")
    assert config.sources[0].options == SourceOptions(minpoll=0, maxpoll=0, xleave=True)
    assert config.warnings == ("Ignored word local in server directive at line 1: it is no option there",)


@pytest.mark.parametrize(
    "option",
    [name for name, row in SOURCE_OPTIONS.items() if row.value.syntax in ("SECONDS", "RATIO", "P")],
)
def test_option_that_means_nothing_keeps_its_default_and_is_told(option: str) -> None:
    config = parse(f"server a {option} nan iburst")
    assert config.sources[0].options == SourceOptions(iburst=True)
    assert config.warnings == (f"Ignored value of {option} option in server directive at line 1",)


def test_infinite_correction_is_none() -> None:
    config = parse("server a offset inf", "refclock SHM 0 offset -inf", "hwtimestamp * txcomp inf rxcomp inf")
    assert config.sources[0].options.offset_s == 0.0
    assert config.refclocks[0].offset_s == 0.0
    assert config.hwtimestamps[0].txcomp_s == config.hwtimestamps[0].rxcomp_s == 0.0
    assert len(config.warnings) == 4


def refclock(line: str) -> RefclockConfig:
    (clock,) = parse(line).refclocks
    return clock


def test_refclock() -> None:
    assert refclock("refclock PPS /dev/pps0") == RefclockConfig("PPS", "/dev/pps0")
    assert refclock("refclock SHM 0:perm=0640 refid é lock GPS") == RefclockConfig(
        "SHM", "0", ("perm=0640",), refid="é".encode() + b"\0\0", lock_refid=b"GPS\0"
    )
    assert refclock("refclock PHC /dev/ptp0:extpps:pin=2:channel=1").driver_options == (
        "extpps",
        "pin=2",
        "channel=1",
    )
    assert refclock("refclock SHM 9:").driver_options == ()
    assert refclock("refclock SHM 9::").driver_options == ("",)
    clock = refclock("refclock SHM 0 poll 3pps filter 999 width -1 precision -1 maxdispersion inf tai local")
    assert (clock.poll, clock.pps, clock.filter_length, clock.tai, clock.local) == (3, True, 256, True, True)
    assert (clock.width_s, clock.precision_s, clock.maxdispersion_s) == (0.0, 0.0, math.inf)


@pytest.mark.parametrize(
    ("driver", "index", "refid"),
    [("SHM", 0, b"SHM0"), ("SHM", 9, b"SHM9"), ("SHM", 10, b"SH10"), ("SOCK", 2, b"SOC2"), ("PPS", 1, b"PPS1")],
)
def test_default_refid(driver: str, index: int, refid: bytes) -> None:
    assert RefclockConfig(driver, "x").default_refid(index) == refid


def test_local_starts_anew_on_each_line() -> None:
    assert parse("local").local == LocalOptions()
    assert parse("local stratum 5 orphan", "local distance 0.5").local == LocalOptions(distance_s=0.5)
    assert parse("local stratum 5orphan").local == LocalOptions(stratum=5, orphan=True, waitunsynced_s=300.0)
    assert parse("local orphan waitunsynced 0").local == LocalOptions(orphan=True)
    assert parse("local orphan waitunsynced -5").local == LocalOptions(orphan=True, waitunsynced_s=300.0)
    assert parse("local waitunsynced -5").local == LocalOptions()


def test_rate_limits_add_up_over_lines() -> None:
    config = parse("ratelimit interval 2 burst 12", "ratelimit", "ratelimit leak 3", "ntsratelimit", "cmdratelimit")
    assert config.ratelimit == RatelimitOptions(2, 12, 3, 0)
    assert config.ntsratelimit == RatelimitOptions(6)
    assert config.cmdratelimit == RatelimitOptions(-4)
    assert parse("port 1").ratelimit is None


def test_rate_limits_are_limited() -> None:
    assert parse("ratelimit interval -32 burst -5 leak 9 kod 9").ratelimit == RatelimitOptions(-19, 1, 4, 4)
    assert parse("ratelimit interval 32 burst 255 leak -3 kod -3").ratelimit == RatelimitOptions(12, 255, 1, 0)
    assert parse("ratelimit burst 0").ratelimit == RatelimitOptions(3, 1)


def hwtimestamp(line: str) -> HwTimestampOptions:
    (interface,) = parse(line).hwtimestamps
    return interface


def test_hwtimestamp() -> None:
    assert hwtimestamp("hwtimestamp eth0") == HwTimestampOptions("eth0")
    assert hwtimestamp("hwtimestamp * minpoll 3") == HwTimestampOptions("*", minpoll=3, maxpoll=4)
    assert hwtimestamp("hwtimestamp * minpoll 3 maxpoll 1") == HwTimestampOptions("*", minpoll=3, maxpoll=3)
    assert hwtimestamp("hwtimestamp * minpoll 32") == HwTimestampOptions("*", minpoll=20, maxpoll=20)
    assert hwtimestamp("hwtimestamp * minpoll -32") == HwTimestampOptions("*", minpoll=-6, maxpoll=-5)
    limited = hwtimestamp("hwtimestamp a minsamples 99 maxsamples 999 rxfilter NTP nocrossts")
    assert limited == HwTimestampOptions("a", minsamples=64, maxsamples=64, rxfilter=RxFilter.NTP, nocrossts=True)
    assert hwtimestamp("hwtimestamp a minsamples 0 maxsamples 0") == HwTimestampOptions("a", maxsamples=2)


def test_hwtimestamp_takes_patterns_of_names() -> None:
    assert [hwtimestamp(f"hwtimestamp {name}").is_pattern for name in ("eth0", "*", "eno*", "e[01]", "e?")] == [
        False,
        True,
        True,
        True,
        True,
    ]
