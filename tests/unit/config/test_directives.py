"""The table: whole, documented, and each row doing to the model what the language says."""

import re
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import Any

import pytest

from ntpd_fast.config import Config, ConfigError
from ntpd_fast.config.directives import DIRECTIVES, options_of
from ntpd_fast.config.kinds import Real
from ntpd_fast.config.model import (
    OPENCOMMANDS_DEFAULT,
    AuthSelectMode,
    BroadcastConfig,
    DriftFile,
    FallbackDrift,
    InitStepServer,
    InitStepSlew,
    LeapSecMode,
    LogKind,
    MailOnChange,
    MakeStep,
    MaxChange,
    OpenCommand,
    SmoothTime,
    TempComp,
    TrustedCerts,
)
from tests.unit.config.conftest import parse

CHRONY_NAMES = [
    "acquisitionport",
    "allow",
    "authselectmode",
    "bindacqaddress",
    "bindacqdevice",
    "bindaddress",
    "bindcmdaddress",
    "bindcmddevice",
    "binddevice",
    "broadcast",
    "clientloglimit",
    "clockprecision",
    "cmdallow",
    "cmddeny",
    "cmdport",
    "cmdratelimit",
    "combinelimit",
    "commandkey",
    "confdir",
    "corrtimeratio",
    "deny",
    "driftfile",
    "dscp",
    "dumpdir",
    "dumponexit",
    "fallbackdrift",
    "generatecommandkey",
    "hwclockfile",
    "hwtimestamp",
    "hwtstimeout",
    "include",
    "initstepslew",
    "keyfile",
    "leapseclist",
    "leapsecmode",
    "leapsectz",
    "linux_freq_scale",
    "linux_hz",
    "local",
    "lock_all",
    "log",
    "logbanner",
    "logchange",
    "logdir",
    "mailonchange",
    "makestep",
    "manual",
    "maxchange",
    "maxclockerror",
    "maxdistance",
    "maxdrift",
    "maxjitter",
    "maxntsconnections",
    "maxsamples",
    "maxslewrate",
    "maxstratum",
    "maxtxbuffers",
    "maxupdateskew",
    "minsamples",
    "minsources",
    "minstratum",
    "nocerttimecheck",
    "noclientlog",
    "nosystemcert",
    "ntpsigndsocket",
    "ntsaeads",
    "ntscachedir",
    "ntsdumpdir",
    "ntsntpserver",
    "ntsport",
    "ntsprocesses",
    "ntsratelimit",
    "ntsrefresh",
    "ntsrotate",
    "ntsservercert",
    "ntsserverkey",
    "ntstrustedcerts",
    "opencommands",
    "peer",
    "pidfile",
    "pool",
    "port",
    "ptpdomain",
    "ptpport",
    "ratelimit",
    "refclock",
    "refresh",
    "reselectdist",
    "rtcautotrim",
    "rtcdevice",
    "rtcfile",
    "rtconutc",
    "rtcsync",
    "sched_priority",
    "server",
    "smoothtime",
    "sourcedir",
    "stratumweight",
    "tempcomp",
    "user",
]
V4, V6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")


def test_table_knows_every_name_of_chrony() -> None:
    assert len(CHRONY_NAMES) == 100
    assert {name for name, row in DIRECTIVES.items() if not row.ours} == set(CHRONY_NAMES)


def test_every_field_has_a_directive() -> None:
    set_by_rows = {name for row in DIRECTIVES.values() for name in row.fields}
    assert set_by_rows | {"lines", "warnings", "first_uses"} == {field.name for field in fields(Config)}


def test_every_row_is_documented_in_one_sentence() -> None:
    options = [option for row in DIRECTIVES.values() for option in options_of(row).values()]
    for row in (*DIRECTIVES.values(), *options):
        assert re.fullmatch(r"[A-Z][^\n]{12,}\.", row.description), row.name
    assert all(isinstance(row.kind.syntax, str) for row in DIRECTIVES.values())
    assert all(isinstance(option.value.syntax, str) for option in options)


def test_options_are_told_of_every_line_that_takes_them() -> None:
    assert {name for name, row in DIRECTIVES.items() if "[OPTION]" in row.kind.syntax} == {
        name for name, row in DIRECTIVES.items() if options_of(row)
    }
    assert options_of(DIRECTIVES["driftfile"]).keys() == {"interval"}
    assert "kod" not in options_of(DIRECTIVES["cmdratelimit"])


VALUES: list[tuple[list[str], str, Any]] = [
    (["acquisitionport 0"], "acquisitionport", 0),
    (["bindaddress 192.0.2.1", "bindaddress 2001:db8::1"], "bindaddress_ipv4", (V4,)),
    (["bindaddress 192.0.2.1", "bindaddress 2001:db8::1"], "bindaddress_ipv6", (V6,)),
    (["bindaddress 192.0.2.1", "bindaddress ::", "bindaddress 192.0.2.1"], "bindaddress_ipv4", (V4,)),
    (["bindaddress 192.0.2.9", "bindaddress 192.0.2.1"], "bindaddress_ipv4", (IPv4Address("192.0.2.9"), V4)),
    (["bindacqaddress 2001:db8::1"], "bindacqaddress_ipv6", V6),
    (["bindcmdaddress /run/x", "bindcmdaddress 192.0.2.1"], "bindcmdaddress_path", "/run/x"),
    (["bindcmdaddress /run/x", "bindcmdaddress /"], "bindcmdaddress_path", ""),
    (["bindcmdaddress 192.0.2.1"], "bindcmdaddress_path", None),
    (["bindacqdevice a", "bindacqdevice b"], "bindacqdevice", "b"),
    (["pidfile /run/p"], "pidfile", "/run/p"),
    (["pidfile /run/p", "pidfile /"], "pidfile", ""),
    (["authselectmode IGNORE"], "authselectmode", AuthSelectMode.IGNORE),
    (["leapsecmode Slew"], "leapsecmode", LeapSecMode.SLEW),
    (["combinelimit 0x1p1"], "combinelimit", 2.0),
    (["maxdistance 1.5e0junk"], "maxdistance_s", 1.5),
    (["maxdistance inf"], "maxdistance_s", inf),
    (["clockprecision 0"], "clockprecision_s", None),
    (["clockprecision -1"], "clockprecision_s", None),
    (["clockprecision 1e-12"], "clockprecision_s", 1e-9),
    (["clockprecision inf"], "clockprecision_s", 1.0),
    (["maxdrift 1e6"], "maxdrift_ppm", 100_000.0),
    (["maxdrift -1"], "maxdrift_ppm", 0.0),
    (["maxupdateskew -7"], "maxupdateskew_ppm", 7.0),
    (["maxslewrate inf"], "maxslewrate_ppm", inf),
    (["hwtstimeout 5"], "hwtstimeout_s", 1.0),
    (["hwtstimeout -5"], "hwtstimeout_s", 0.0),
    (["driftfile /d"], "driftfile", DriftFile("/d", 3600.0)),
    (["driftfile /d INTERVAL 60"], "driftfile", DriftFile("/d", 60.0)),
    (["driftfile /d interval 60", "driftfile /e"], "driftfile", DriftFile("/e", 3600.0)),
    (["driftfile /d interval -1"], "driftfile", DriftFile("/d", 0.0)),
    (["fallbackdrift 16 19x"], "fallbackdrift", FallbackDrift(16, 19)),
    (["fallbackdrift 16 19", "fallbackdrift 0 0"], "fallbackdrift", None),
    (["fallbackdrift 19 16"], "fallbackdrift", None),
    (["fallbackdrift 1 2000000000"], "fallbackdrift", FallbackDrift(1, 32)),
    (["makestep 1 3.9"], "makestep", MakeStep(1.0, 3)),
    (["makestep 0.07 -1"], "makestep", MakeStep(0.07, -1)),
    (["maxchange 1e3 +1 -1"], "maxchange", MaxChange(1000.0, 1, -1)),
    (["maxchange 1000 1 2", "maxchange 1000 -1 2"], "maxchange", None),
    (["smoothtime 400 0.001"], "smoothtime", SmoothTime(400.0, 0.001)),
    (["smoothtime 400 0.001 LeapOnly"], "smoothtime", SmoothTime(400.0, 0.001, True)),
    (["smoothtime 400 0.001", "smoothtime 0 0.001"], "smoothtime", None),
    (["tempcomp /t 30 26000 0.0 1e-4 2e-5"], "tempcomp", TempComp("/t", 30.0, None, 26000.0, 0.0, 1e-4, 2e-5)),
    (["tempcomp /t 30 /points"], "tempcomp", TempComp("/t", 30.0, "/points")),
    (["tempcomp /t 0 /points"], "tempcomp", TempComp("/t", 1.0, "/points")),
    (["tempcomp /t nan /points"], "tempcomp", TempComp("/t", 1.0, "/points")),
    (["tempcomp /t inf /points"], "tempcomp", TempComp("/t", 2.0**24, "/points")),
    (["mailonchange a@b 0.5"], "mailonchange", MailOnChange("a@b", 0.5)),
    (["broadcast 60 192.0.2.1"], "broadcasts", (BroadcastConfig(60, V4),)),
    (
        ["broadcast 60 192.0.2.1", "broadcast 0 2001:db8::1 11125"],
        "broadcasts",
        (BroadcastConfig(60, V4), BroadcastConfig(1, V6, 11125)),
    ),
    (["broadcast 99999999999 192.0.2.1"], "broadcasts", (BroadcastConfig(2**24, V4),)),
    (["clientloglimit 1048576bytes"], "clientloglimit_bytes", 1048576),
    (["clientloglimit -1"], "clientloglimit_bytes", 2**64 - 1),
    (["clientloglimit 99999999999"], "clientloglimit_bytes", 99999999999),
    (["ntsaeads 30 15"], "ntsaeads", (30, 15)),
    (["ntsaeads 30 15", "ntsaeads"], "ntsaeads", ()),
    (["ntstrustedcerts /a", "ntstrustedcerts 7 /b"], "ntstrustedcerts", (TrustedCerts("/a"), TrustedCerts("/b", 7))),
    (["ntsservercert /a", "ntsservercert /b"], "ntsservercerts", ("/a", "/b")),
    (["ntsserverkey /a", "ntsserverkey /b"], "ntsserverkeys", ("/a", "/b")),
    (["sourcedir /a /b", "sourcedir", "sourcedir /c"], "sourcedirs", (("/a", "/b"), (), ("/c",))),
    (["opencommands"], "opencommands", frozenset()),
    (
        ["opencommands Tracking SOURCES tracking"],
        "opencommands",
        frozenset({OpenCommand.TRACKING, OpenCommand.SOURCES}),
    ),
    ([], "opencommands", OPENCOMMANDS_DEFAULT),
    (["log"], "logs", frozenset()),
    (["log rtc", "log tracking rtc"], "logs", frozenset({LogKind.RTC, LogKind.TRACKING})),
    (["log rawmeasurements"], "logs", frozenset({LogKind.RAWMEASUREMENTS, LogKind.MEASUREMENTS})),
    (["manual", "manual"], "manual", True),
    (["initstepslew 30"], "initstepslew", InitStepSlew(30.0, ())),
    (
        ["initstepslew 30 192.0.2.1 localhost"],
        "initstepslew",
        InitStepSlew(30.0, (InitStepServer("192.0.2.1", V4), InitStepServer("localhost", IPv4Address("127.0.0.1")))),
    ),
    (["workers 0"], "workers", 0),
    (["ntssharedkey /a", "ntssharedkey /etc/nts.secret"], "ntssharedkey", "/etc/nts.secret"),
]


@pytest.mark.parametrize(("lines", "field", "value"), VALUES, ids=lambda value: str(value)[:60])
def test_value(lines: list[str], field: str, value: Any) -> None:
    config = parse(*lines)
    assert getattr(config, field) == value
    assert config.warnings == ()


def test_unresolved_server_of_initstepslew_is_told() -> None:
    config = parse("initstepslew 30 nohost.invalid")
    assert config.warnings == ("Could not resolve address of initstepslew server nohost.invalid",)
    assert config.initstepslew == InitStepSlew(30.0, ())


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name} nan" for name, row in DIRECTIVES.items() if isinstance(row.kind, Real)),
        "makestep nan 3",
        "maxchange nan 1 1",
        "smoothtime nan 1",
        "smoothtime 1 inf",
        "tempcomp /t 30 1 2 nan 4",
        "mailonchange a nan",
        "initstepslew nan 192.0.2.1",
    ],
)
def test_value_that_means_nothing_is_told_and_changes_nothing(line: str) -> None:
    config = parse(line)
    assert config == Config()
    assert config.warnings == (f"Ignored value in {line.split()[0]} directive at line 1",)


COUNT_ERRORS = [
    ("Missing arguments for", ["port", "user", "maxdistance", "makestep 1", "maxchange 1 2", "fallbackdrift 1"]),
    ("Missing arguments for", ["smoothtime 1", "mailonchange a", "tempcomp", "tempcomp a 1 2 3", "bindaddress"]),
    ("Missing arguments for", ["tempcomp a 1 2 3 4", "clientloglimit", "ntstrustedcerts", "include", "keyfile"]),
    ("Missing arguments for", ["ntsservercert", "bindcmdaddress", "logchange", "sched_priority"]),
    ("Too many arguments for", ["port 1 2", "user a b", "maxdistance = 3", "makestep 1 2 3", "rtcsync yes"]),
    ("Too many arguments for", ["smoothtime 1 2 leaponly x", "mailonchange a 1 2", "tempcomp a 1 2 3 4 5 6"]),
    ("Too many arguments for", ["clientloglimit 1 2", "ntstrustedcerts 1 a b", "include a b", "manual 1"]),
    ("Too many arguments for", ["bindcmdaddress 127.0.0.1 ::1", "ntsservercert a b", "fallbackdrift 1 2 3"]),
    ("Could not parse", ["leapsecmode", "leapsecmode step slew", "authselectmode", "authselectmode x", "confdir"]),
    ("Could not parse", ["driftfile", "driftfile /d interval", "driftfile /d interval 5x", "initstepslew"]),
    ("Could not parse", ["broadcast", "broadcast 60", "broadcast x 1.2.3.4", "broadcast 60 1.2.3.4 5 6"]),
    ("Could not parse", ["broadcast 60 1.2.3.4 65536", "broadcast 60 1.2.3.4 -1", "broadcast 60 1.2.3.4 x"]),
    ("Could not parse", ["makestep 1x 3", "makestep x 3", "makestep 1 x", "maxchange 1 2.5 3", "smoothtime a b"]),
    ("Could not parse", ["smoothtime 1 2 3", "fallbackdrift 1.5 3", "mailonchange a b", "tempcomp a x b"]),
    ("Could not parse", ["tempcomp a 1 2 3 4x 5", "clientloglimit x", "ntstrustedcerts x a", "ntsaeads 15x"]),
    ("Could not parse", ["bindaddress eth0", "bindaddress /x", "bindcmdaddress x", "bindaddress 1.2.3.04"]),
    ("Could not parse", ["bindaddress fe80::1%lo", "opencommands x", "initstepslew x", "logchange infi"]),
    ("Could not parse", ["refclock", "refclock SHM", "hwtimestamp", "hwtimestamp a b", "ratelimit rate 5"]),
    ("Could not parse", ["confdir a b c d e f g h i j k", "maxdistance 0x", "cmdratelimit kod 1"]),
]


@pytest.mark.parametrize(("text", "line"), [(text, line) for text, lines in COUNT_ERRORS for line in lines])
def test_error_of_arguments(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(line)
    assert str(error.value) == f"{text} {line.split()[0]} directive at line 1"


def test_number_of_bound_addresses_is_bounded() -> None:
    lines = [f"bindaddress {network}{last}" for network in ("192.0.2.", "2001:db8::") for last in range(1, 17)]
    config = parse(*lines, *lines)
    assert len(config.bindaddress_ipv4) == len(config.bindaddress_ipv6) == 16
    with pytest.raises(ConfigError, match=r"^More than 16 addresses in bindaddress directives at line 33$"):
        parse(*lines, "bindaddress 2001:db8::17")


def test_bad_name_of_a_log() -> None:
    for line in ("log everything", "log Tracking", "log tracking rtc,refclocks"):
        with pytest.raises(ConfigError, match=r"^Invalid log parameter at line 1$"):
            parse(line)


def test_names_of_the_past_are_told_once_a_line() -> None:
    config = parse("commandkey", "generatecommandkey 1 2", "linux_hz x", "Linux_Freq_Scale 1", "dumponexit x y")
    assert config == Config()
    assert config.warnings == tuple(
        f"{name} directive is no longer supported"
        for name in ("commandkey", "generatecommandkey", "linux_hz", "Linux_Freq_Scale")
    )


def test_number_of_warnings_is_bounded() -> None:
    config = parse(*["commandkey"] * 1000)
    assert len(config.warnings) == 101
    assert config.warnings[-1] == "More warnings about the configuration are not shown"
