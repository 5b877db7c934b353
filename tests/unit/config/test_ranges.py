"""Ranges of integers, written down a second time from the specification: both bounds, and one beyond."""

from collections.abc import Iterable
from typing import Any

import pytest

from ntpd_fast.config import ConfigError
from ntpd_fast.config.directives import DIRECTIVES
from ntpd_fast.config.kinds import Int
from ntpd_fast.config.options import (
    HWTIMESTAMP_OPTIONS,
    LOCAL_OPTIONS,
    RATELIMIT_OPTIONS,
    REFCLOCK_OPTIONS,
    SOURCE_OPTIONS,
)
from ntpd_fast.config.options import Int as OptionInt
from tests.unit.config.conftest import parse

LAST = 2**31 - 1

DIRECTIVE_RANGES = {
    "acquisitionport": (0, 65535),
    "cmdport": (0, 65535),
    "dscp": (0, 63),
    "logbanner": (0, LAST),
    "maxntsconnections": (1, LAST),
    "maxsamples": (0, LAST),
    "maxstratum": (0, LAST),
    "maxtxbuffers": (0, 1048576),
    "minsamples": (0, LAST),
    "minsources": (1, LAST),
    "minstratum": (0, LAST),
    "nocerttimecheck": (0, LAST),
    "ntsport": (0, 65535),
    "ntsprocesses": (0, 1000),
    "ntsrefresh": (0, LAST),
    "ntsrotate": (0, LAST),
    "port": (0, 65535),
    "ptpdomain": (0, 255),
    "ptpport": (0, 65535),
    "refresh": (0, LAST),
    "sched_priority": (0, 100),
    "workers": (0, 256),
    "clientlogprefix6": (1, 128),
}

SOURCE_RANGES = {
    "certset": (0, 2**32 - 1),
    "filter": (0, LAST),
    "key": (1, 2**32 - 1),
    "maxpoll": (-32, 32),
    "maxsamples": (0, LAST),
    "maxsources": (1, LAST),
    "maxunreach": (0, LAST),
    "minsamples": (0, LAST),
    "minstratum": (0, 16),
    "ntsport": (0, 65535),
    "polltarget": (1, LAST),
    "port": (0, 65535),
    "presend": (-32, 32),
    "version": (1, 4),
}

OPTION_RANGES = {
    **{f"{kind} a": SOURCE_RANGES for kind in ("server", "pool", "peer")},
    "refclock SHM 0": {
        "dpoll": (-32, 32),
        "filter": (0, LAST),
        "maxlockage": (0, LAST),
        "maxsamples": (0, LAST),
        "maxunreach": (0, LAST),
        "minsamples": (0, LAST),
        "poll": (-32, 32),
        "rate": (1, LAST),
        "stratum": (0, 15),
    },
    "local": {"stratum": (1, 15)},
    "ratelimit": {"burst": (-32, 255), "interval": (-32, 32), "kod": (-32, 32), "leak": (-32, 32)},
    "ntsratelimit": {"burst": (-32, 255), "interval": (-32, 32), "leak": (-32, 32)},
    "cmdratelimit": {"burst": (-32, 255), "interval": (-32, 32), "leak": (-32, 32)},
    "hwtimestamp eth0": {
        "maxpoll": (-32, 32),
        "maxsamples": (0, LAST),
        "minpoll": (-32, 32),
        "minsamples": (0, LAST),
    },
}
OPTION_CASES = [
    (prefix, option, low, high) for prefix, options in OPTION_RANGES.items() for option, (low, high) in options.items()
]


@pytest.mark.parametrize(("name", "bounds"), DIRECTIVE_RANGES.items(), ids=str)
def test_directive_range(name: str, bounds: tuple[int, int]) -> None:
    low, high = bounds
    (field,) = DIRECTIVES[name].fields
    assert getattr(parse(f"{name} {low}"), field) == low
    assert getattr(parse(f"{name} {high}"), field) == high
    for value in (low - 1, high + 1, 10**30):
        with pytest.raises(ConfigError) as error:
            parse(f"{name} {value}")
        assert str(error.value) == f"Invalid value {value} in {name} directive (min {low}, max {high}) at line 1"
    for word in ("0x10", "1.0", "1k", "one", "-"):
        with pytest.raises(ConfigError) as error:
            parse(f"{name} {word}")
        assert str(error.value) == f"Could not parse {name} directive at line 1"


@pytest.mark.parametrize(("prefix", "option", "low", "high"), OPTION_CASES)
def test_option_range(prefix: str, option: str, low: int, high: int) -> None:
    name = prefix.split()[0]
    text = "Invalid value in" if name in ("server", "pool", "peer", "refclock", "local") else "Could not parse"
    parse(f"{prefix} {option} {low}")
    parse(f"{prefix} {option} {high}")
    wrong = [low - 1, high + 1] if high != LAST else [low - 1]
    for value in (*wrong, "", "x"):
        with pytest.raises(ConfigError) as error:
            parse(f"{prefix} {option} {value}")
        assert str(error.value) == f"{text} {name} directive at line 1"


def test_every_integer_of_the_tables_is_tested() -> None:
    assert {name for name, row in DIRECTIVES.items() if isinstance(row.kind, Int)} == DIRECTIVE_RANGES.keys()
    tables: Iterable[tuple[str, Any]] = (
        ("server a", SOURCE_OPTIONS),
        ("refclock SHM 0", REFCLOCK_OPTIONS),
        ("local", LOCAL_OPTIONS),
        ("ratelimit", RATELIMIT_OPTIONS),
        ("hwtimestamp eth0", HWTIMESTAMP_OPTIONS),
    )
    for prefix, table in tables:
        in_table = {name for name, row in table.items() if isinstance(row.value, OptionInt)}
        assert in_table - {"minpoll"} <= OPTION_RANGES[prefix].keys()


def test_minpoll_of_a_source_has_no_range() -> None:
    for value in (-(2**31), -8, -7, 24, 25, 2**31 - 1, 10**30):
        parse(f"server a minpoll {value}")


def test_chrony_has_a_smaller_range_of_burst() -> None:
    for name in ("ratelimit", "ntsratelimit", "cmdratelimit"):
        parse(f"{name} burst 32", strict=True)
        with pytest.raises(ConfigError, match=f"^Could not parse {name} directive"):
            parse(f"{name} burst 33", strict=True)
