"""Changes of sources, and the translation of ADD_SOURCE into the configuration's own terms."""

from __future__ import annotations

from ipaddress import ip_address

from ntpd_fast.config.model import (
    MAXUNREACH_DEFAULT,
    POLL_MAX,
    POLL_MIN,
    ExtField,
    SourceConfig,
    SourceKind,
    SourceOptions,
)

from ..backend import CommandFailed, SourceControl, SourceMatch
from ..codec import requests as req
from ..codec.commands import Number, Status
from ..codec.layout import NAME_LENGTH
from ..codec.requests import AddFlag, SelectOption
from .row import Row

_KINDS = {1: SourceKind.SERVER, 2: SourceKind.PEER, 3: SourceKind.POOL}
_MAXDELAY_MAX_S = 1e3
_DELAY_RATIO_MAX = 1e6
_EXTFIELDS = {
    AddFlag.EXTFIELD_F323: ExtField.EXP_MONO_ROOT,
    AddFlag.EXTFIELD_F324: ExtField.NET_CORRECTION,
}
_SELECT_OPTION_OF_FLAG = {
    AddFlag.NOSELECT: SelectOption.NOSELECT,
    AddFlag.PREFER: SelectOption.PREFER,
    AddFlag.TRUST: SelectOption.TRUST,
    AddFlag.REQUIRE: SelectOption.REQUIRE,
}


def _matched(matched: bool) -> None:
    if not matched:
        raise CommandFailed(Status.NO_SUCH_SOURCE)


def _online(control: SourceControl, request: req.AddressMask) -> None:
    _matched(control.set_online(SourceMatch(request.address, request.mask)))


def _offline(control: SourceControl, request: req.AddressMask) -> None:
    _matched(control.set_offline(SourceMatch(request.address, request.mask)))


def _burst(control: SourceControl, request: req.Burst) -> None:
    match = SourceMatch(request.address, request.mask)
    _matched(control.burst(match, request.n_good_samples, request.n_total_samples))


def _onoffline(control: SourceControl, _: req.Nothing) -> None:
    control.online_by_route()


def _poll(value: int) -> int | None:
    return value if POLL_MIN <= value <= POLL_MAX else None


def _minpoll(control: SourceControl, request: req.SourceInteger) -> None:
    control.set_minpoll(request.address, _poll(request.value))


def _maxpoll(control: SourceControl, request: req.SourceInteger) -> None:
    control.set_maxpoll(request.address, _poll(request.value))


def _maxdelay(control: SourceControl, request: req.SourceReal) -> None:
    control.set_maxdelay_s(request.address, _limited(request.value, _MAXDELAY_MAX_S))


def _maxdelayratio(control: SourceControl, request: req.SourceReal) -> None:
    control.set_maxdelayratio(request.address, _limited(request.value, _DELAY_RATIO_MAX))


def _maxdelaydevratio(control: SourceControl, request: req.SourceReal) -> None:
    control.set_maxdelaydevratio(request.address, _limited(request.value, _DELAY_RATIO_MAX))


def _limited(value: float, largest: float) -> float:
    return min(max(value, 0.0), largest)


def _minstratum(control: SourceControl, request: req.SourceInteger) -> None:
    control.set_minstratum(request.address, request.value)


def _polltarget(control: SourceControl, request: req.SourceInteger) -> None:
    control.set_polltarget(request.address, max(request.value, 1))


def _offset(control: SourceControl, request: req.ModifyOffset) -> None:
    if request.address.packed:
        control.set_offset_s(request.address, request.new_offset)
    else:
        control.set_refclock_offset_s(request.ref_id, request.new_offset)


def _selectopts(control: SourceControl, request: req.ModifySelectOpts) -> None:
    options = sum(option for flag, option in _SELECT_OPTION_OF_FLAG.items() if request.options & flag)
    if request.address.packed:
        control.modify_select_options(request.address, request.mask, options)
    else:
        control.modify_refclock_select_options(request.ref_id, request.mask, options)


def _add(control: SourceControl, request: req.AddSource) -> None:
    control.add_source(source_config(request))


def source_config(request: req.AddSource) -> SourceConfig:
    """The source an ADD_SOURCE asks for. CommandFailed: INVALID (type), INVALID_NAME, INVALID_ADDRESS_FAMILY."""
    kind = _KINDS.get(request.type)
    if kind is None:
        raise CommandFailed(Status.INVALID)
    name = _source_name(request.name)
    flags = request.flags
    family = 4 if flags & AddFlag.IPV4 else 6 if flags & AddFlag.IPV6 else None
    literal = _family_of_literal(name)
    if family is not None and literal is not None and family != literal:
        raise CommandFailed(Status.INVALID_ADDRESS_FAMILY)
    options = SourceOptions(
        minpoll=request.minpoll,
        maxpoll=request.maxpoll,
        iburst=bool(flags & AddFlag.IBURST),
        burst=bool(flags & AddFlag.BURST),
        key=request.authkey or None,
        nts=bool(flags & AddFlag.NTS),
        ntsport=request.nts_port & 0xFFFF,
        certset=request.cert_set,
        maxdelay_s=request.max_delay,
        maxdelayratio=request.max_delay_ratio,
        maxdelaydevratio=request.max_delay_dev_ratio,
        maxdelayquant=request.max_delay_quant,
        mindelay_s=request.min_delay,
        asymmetry=request.asymmetry,
        offset_s=request.offset,
        minsamples=request.min_samples if request.min_samples >= 0 else None,
        maxsamples=request.max_samples if request.max_samples >= 0 else None,
        # Clients up to 4.7 send this word as 0.
        maxunreach=request.max_unreach if request.max_unreach > 0 else MAXUNREACH_DEFAULT,
        filter_length=max(request.filter_length, 0),
        offline=not flags & AddFlag.ONLINE,
        auto_offline=bool(flags & AddFlag.AUTO_OFFLINE),
        prefer=bool(flags & AddFlag.PREFER),
        noselect=bool(flags & AddFlag.NOSELECT),
        trust=bool(flags & AddFlag.TRUST),
        require=bool(flags & AddFlag.REQUIRE),
        xleave=bool(flags & AddFlag.XLEAVE),
        polltarget=max(request.poll_target, 1),
        port=request.port & 0xFFFF,
        presend=request.presend_minpoll,
        minstratum=request.min_stratum,
        version=request.version if 1 <= request.version <= 4 else None,
        copy=bool(flags & AddFlag.COPY),
        extfields=frozenset(field for flag, field in _EXTFIELDS.items() if flags & flag),
        family=family,
        maxsources=max(request.max_sources, 1),
    )
    return SourceConfig(kind, name, options.clamped())


def _family_of_literal(name: str) -> int | None:
    try:
        return ip_address(name).version
    except ValueError:
        return None


def _source_name(name: bytes) -> str:
    if len(name) >= NAME_LENGTH or not name or any(not 0x21 <= byte <= 0x7E for byte in name):
        raise CommandFailed(Status.INVALID_NAME)
    return name.decode("ascii")


def _delete(control: SourceControl, request: req.OneAddress) -> None:
    control.delete_source(request.address)


def _refresh(control: SourceControl, _: req.Nothing) -> None:
    control.refresh()


def _reload(control: SourceControl, _: req.Nothing) -> None:
    control.reload_sources()


def _reset(control: SourceControl, _: req.Nothing) -> None:
    control.reset_sources()


def _reselect(control: SourceControl, _: req.Nothing) -> None:
    control.reselect()


def _reselect_distance(control: SourceControl, request: req.Real) -> None:
    control.set_reselect_distance_s(request.value)


_PART = "source_control"
_NO_SUCH = Status.NO_SUCH_SOURCE
ROWS = (
    Row(Number.ONLINE, _PART, _online, _NO_SUCH),
    Row(Number.OFFLINE, _PART, _offline, _NO_SUCH),
    Row(Number.BURST, _PART, _burst, _NO_SUCH),
    Row(Number.ONOFFLINE, _PART, _onoffline),
    Row(Number.MODIFY_MINPOLL, _PART, _minpoll, _NO_SUCH),
    Row(Number.MODIFY_MAXPOLL, _PART, _maxpoll, _NO_SUCH),
    Row(Number.MODIFY_MAXDELAY, _PART, _maxdelay, _NO_SUCH),
    Row(Number.MODIFY_MAXDELAYRATIO, _PART, _maxdelayratio, _NO_SUCH),
    Row(Number.MODIFY_MAXDELAYDEVRATIO, _PART, _maxdelaydevratio, _NO_SUCH),
    Row(Number.MODIFY_MINSTRATUM, _PART, _minstratum, _NO_SUCH),
    Row(Number.MODIFY_POLLTARGET, _PART, _polltarget, _NO_SUCH),
    Row(Number.MODIFY_OFFSET, _PART, _offset, _NO_SUCH),
    Row(Number.MODIFY_SELECTOPTS, _PART, _selectopts, _NO_SUCH),
    Row(Number.ADD_SOURCE, _PART, _add),
    Row(Number.DEL_SOURCE, _PART, _delete, _NO_SUCH),
    Row(Number.REFRESH, _PART, _refresh),
    Row(Number.RELOAD_SOURCES, _PART, _reload),
    Row(Number.RESET_SOURCES, _PART, _reset),
    Row(Number.RESELECT, _PART, _reselect),
    Row(Number.RESELECTDISTANCE, _PART, _reselect_distance),
)
