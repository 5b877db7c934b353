"""The `add` command: a source and its options."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.layout import NAME_LENGTH
from ntpd_fast.monitor.codec.requests import AddFlag

from . import arguments as arg
from .session import CommandError, Session

_TYPES = {"server": 1, "peer": 2, "pool": 3}
_SYNTAX = "Invalid syntax for add command"

_FLAGS = {
    "auto_offline": AddFlag.AUTO_OFFLINE,
    "burst": AddFlag.BURST,
    "copy": AddFlag.COPY,
    "iburst": AddFlag.IBURST,
    "ipv4": AddFlag.IPV4,
    "ipv6": AddFlag.IPV6,
    "noselect": AddFlag.NOSELECT,
    "nts": AddFlag.NTS,
    "prefer": AddFlag.PREFER,
    "require": AddFlag.REQUIRE,
    "trust": AddFlag.TRUST,
    "xleave": AddFlag.XLEAVE,
}
_EXTFIELDS = {0xF323: AddFlag.EXTFIELD_F323, 0xF324: AddFlag.EXTFIELD_F324}
_INT32_MAX = (1 << 31) - 1
_UINT32_MAX = (1 << 32) - 1


class _Value(NamedTuple):
    """An option with a value: the field of the request, how it is read, its range."""

    field: str
    read: Callable[[str], Any]
    low: float = float("-inf")
    high: float = float("inf")


_VALUES = {
    "asymmetry": _Value("asymmetry", arg.whole_real),
    "certset": _Value("cert_set", arg.whole_unsigned, 0, _UINT32_MAX),
    "filter": _Value("filter_length", arg.whole_integer, 0, _INT32_MAX),
    "key": _Value("authkey", arg.whole_unsigned, 1, _UINT32_MAX),
    "maxdelay": _Value("max_delay", arg.whole_real),
    "maxdelaydevratio": _Value("max_delay_dev_ratio", arg.whole_real),
    "maxdelayquant": _Value("max_delay_quant", arg.whole_real),
    "maxdelayratio": _Value("max_delay_ratio", arg.whole_real),
    "maxpoll": _Value("maxpoll", arg.whole_integer, -32, 32),
    "maxsamples": _Value("max_samples", arg.whole_integer, 0, _INT32_MAX),
    "maxsources": _Value("max_sources", arg.whole_integer, 1, _INT32_MAX),
    "maxunreach": _Value("max_unreach", arg.whole_integer, 0, _INT32_MAX),
    "mindelay": _Value("min_delay", arg.whole_real),
    "minpoll": _Value("minpoll", arg.whole_integer, -32, 32),
    "minsamples": _Value("min_samples", arg.whole_integer, 0, _INT32_MAX),
    "minstratum": _Value("min_stratum", arg.whole_integer, 0, 16),
    "ntsport": _Value("nts_port", arg.whole_integer, 0, 0xFFFF),
    "offset": _Value("offset", arg.whole_real),
    "polltarget": _Value("poll_target", arg.whole_integer, 1, _INT32_MAX),
    "port": _Value("port", arg.whole_integer, 0, 0xFFFF),
    "presend": _Value("presend_minpoll", arg.whole_integer, -32, 32),
    "version": _Value("version", arg.whole_integer, 1, 4),
}


def add(session: Session, rest: str) -> None:
    words = rest.split()
    if len(words) < 2 or words[0].lower() not in _TYPES:
        raise CommandError(_SYNTAX)
    kind, name, options = _TYPES[words[0].lower()], words[1], words[2:]
    wire_name = name.encode(errors="surrogateescape")
    address = session.host_address(name)
    if len(wire_name) >= NAME_LENGTH or address is None or not address.is_ip:
        raise CommandError("Invalid host/IP address")
    session.plain(Number.ADD_SOURCE, _with_options(req.AddSource(kind, wire_name), options))


def _with_options(source: req.AddSource, words: list[str]) -> req.AddSource:
    fields: dict[str, Any] = {}
    flags = source.flags
    remaining = iter(words)
    for word in remaining:
        word = word.lower()
        if word == "offline":
            flags &= ~AddFlag.ONLINE
        elif word in _FLAGS:
            flags |= _FLAGS[word]
        elif word == "extfield":
            flags |= _extfield(next(remaining, ""))
        elif word in _VALUES:
            option = _VALUES[word]
            value = option.read(next(remaining, ""))
            if value is None or not option.low <= value <= option.high:
                raise CommandError("Invalid value in add command")
            fields[option.field] = value
        else:
            raise CommandError("Invalid option in add command")
    return source._replace(flags=flags, **fields)


def _extfield(text: str) -> int:
    try:
        return _EXTFIELDS[int(text, 16)]
    except (ValueError, KeyError):
        raise CommandError("Invalid value in add command") from None
