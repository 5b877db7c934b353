"""Commands that send one request and print the status line."""

from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address
from ntpd_fast.monitor.codec.commands import Number, Status
from ntpd_fast.monitor.codec.requests import AddFlag, SelectOption

from . import arguments as arg
from .session import CommandError, Session

_NO_ADDRESS = "Could not get address for hostname"
_LOCAL_SYNTAX = "Invalid syntax for local command"
_STRATUM_DEFAULT = 10
_WAITUNSYNCED_ORPHAN_S = 300.0
# Option of `selectopts`: its bit in the mask and in the new options, which differ.
_SELECT_OPTIONS = {
    "noselect": (SelectOption.NOSELECT, AddFlag.NOSELECT),
    "prefer": (SelectOption.PREFER, AddFlag.PREFER),
    "trust": (SelectOption.TRUST, AddFlag.TRUST),
    "require": (SelectOption.REQUIRE, AddFlag.REQUIRE),
}


def simple(session: Session, rest: str, number: Number) -> None:
    session.plain(number)


def real(session: Session, rest: str, number: Number, error: str) -> None:
    value = arg.real(rest)
    if value is None:
        raise CommandError(error)
    session.plain(number, req.Real(value))


def sources_word(session: Session, rest: str, number: Number, command: str) -> None:
    if rest != "sources":
        raise CommandError(f"Invalid syntax for {command} command")
    session.plain(number)


def reload(session: Session, rest: str) -> None:
    if rest == "config" and session.extended:
        from .reload import reload_config

        reload_config(session)
    else:
        sources_word(session, rest, Number.RELOAD_SOURCES, "reload")


def smoothtime(session: Session, rest: str) -> None:
    options = {"reset": 0, "activate": 1}
    if rest not in options:
        raise CommandError("Invalid syntax for smoothtime command")
    session.plain(Number.SMOOTHTIME, req.Option(options[rest]))


def check_access(session: Session, rest: str, number: Number) -> None:
    address = session.host_address(rest)
    if address is None or not address.is_ip:
        raise CommandError("Could not read address")
    session.plain(number, req.OneAddress(address))


def access(session: Session, rest: str, number: Number, number_all: Number) -> None:
    words = rest.split()
    if words and words[0] == "all":
        number = number_all
        words = words[1:]
    if len(words) > 1:
        raise CommandError("Could not read address")
    subnet = _subnet(session, words[0]) if words else arg.EVERYTHING
    if subnet is None:
        raise CommandError("Could not read address")
    session.plain(number, req.AccessSubnet(subnet.address, subnet.bits))


def _subnet(session: Session, text: str) -> arg.Subnet | None:
    subnet = arg.literal_subnet(text)
    if subnet is not None or "/" in text or arg.is_dotted(text):
        return subnet
    address = session.host_address(text)
    if address is None or not address.is_ip:
        return None
    return arg.Subnet(address, len(address.packed) * 8)


def _mask_and_address(session: Session, text: str) -> tuple[Address, Address]:
    if not text:
        return UNSPECIFIED, req.EVERY_SOURCE
    first, slash, second = text.partition("/")
    if not slash:
        address = session.host_address(text)
        if address is None:
            raise CommandError(_NO_ADDRESS)
        return arg.full_mask(address.family), address
    left, right = Address.parse(first), Address.parse(second)
    if left is not None and right is not None and left.is_ip and left.family == right.family:
        return left, right
    bits = arg.integer(second)
    if left is not None and left.is_ip and right is None and bits is not None:
        return arg.mask_of_bits(left.family, bits), left
    raise CommandError("Invalid syntax for mask/address")


def match_sources(session: Session, rest: str, number: Number) -> None:
    session.plain(number, req.AddressMask(*_mask_and_address(session, rest)))


def burst(session: Session, rest: str) -> None:
    counts, _, sources = rest.partition(" ")
    good, slash, total = counts.partition("/")
    n_good, n_total = arg.integer(good), arg.integer(total)
    if not slash or not good.lstrip("+-").isdecimal() or n_good is None or n_total is None:
        raise CommandError("Invalid syntax for burst command")
    mask, address = _mask_and_address(session, sources.partition(" ")[0])
    session.plain(Number.BURST, req.Burst(mask, address, n_good, n_total))


def _source(session: Session, text: str) -> Address:
    address = session.host_address(text)
    if address is None:
        raise CommandError(_NO_ADDRESS)
    return address


def delete(session: Session, rest: str) -> None:
    if not rest:
        raise CommandError("Invalid syntax for address")
    session.plain(Number.DEL_SOURCE, req.OneAddress(_source(session, rest.partition(" ")[0])))


def source_integer(session: Session, rest: str, number: Number) -> None:
    name, _, text = rest.partition(" ")
    value = arg.integer(text)
    if value is None:
        raise CommandError("Invalid syntax for address value")
    session.plain(number, req.SourceInteger(_source(session, name), value))


def source_real(session: Session, rest: str, number: Number) -> None:
    name, _, text = rest.partition(" ")
    value = arg.real(text)
    if value is None:
        raise CommandError("Invalid syntax for address value")
    session.plain(number, req.SourceReal(_source(session, name), value))


def _source_or_refid(text: str) -> tuple[Address, int] | None:
    """ID#, literal or reference ID: host names would be ambiguous."""
    address = Address.parse(text)
    if address is not None:
        return address, 0
    ref_id = arg.refid(text)
    return None if ref_id is None else (UNSPECIFIED, ref_id)


def offset(session: Session, rest: str) -> None:
    name, _, text = rest.partition(" ")
    source, value = _source_or_refid(name), arg.real(text)
    if source is None or value is None:
        raise CommandError("Invalid syntax for offset command")
    session.plain(Number.MODIFY_OFFSET, req.ModifyOffset(*source, value))


def selectopts(session: Session, rest: str) -> None:
    syntax = CommandError("Invalid syntax for selectopts command")
    name, *changes = rest.split() or [""]
    source = _source_or_refid(name)
    if source is None:
        raise syntax
    mask = options = 0
    for change in changes:
        bits = _SELECT_OPTIONS.get(change[1:].lower())
        if bits is None or change[0] not in "+-":
            raise syntax
        mask |= bits[0]
        if change[0] == "+":
            options |= bits[1]
    session.plain(Number.MODIFY_SELECTOPTS, req.ModifySelectOpts(*source, mask, options))


def makestep(session: Session, rest: str) -> None:
    if not rest:
        session.plain(Number.MAKESTEP)
        return
    threshold_text, _, limit_text = rest.partition(" ")
    threshold, limit = arg.real(threshold_text), arg.integer(limit_text)
    if threshold is None or limit is None:
        raise CommandError("Bad syntax for makestep command")
    session.plain(Number.MODIFY_MAKESTEP, req.ModifyMakeStep(limit, threshold))


def local(session: Session, rest: str) -> None:
    request, is_new = (req.Local3(0, 0, 0.0, 0), False) if rest == "off" else _local_options(rest.split())
    answer = session.request(Number.LOCAL3, request)
    if answer.header.status == Status.INVALID and not is_new:
        # chronyd up to 4.5 knows the older request, and what that cannot say was not asked for.
        session.plain(Number.LOCAL2, req.Local2(*request[:4]))
    else:
        session.acknowledge(answer)


def _local_options(words: list[str]) -> tuple[req.Local3, bool]:
    """The request, and whether it uses options that LOCAL2 does not have."""
    stratum, distance, orphan, activate, synced, unsynced = _STRATUM_DEFAULT, 1.0, 0, 0.0, 0.0, -1.0
    rest = iter(words)
    for word in rest:
        word = word.lower()
        if word == "orphan":
            orphan = 1
            continue
        text = next(rest, "")
        value = arg.whole_real(text)
        if value is None:
            raise CommandError(_LOCAL_SYNTAX)
        if word == "stratum":
            stratum = arg.whole_integer(text) or 0
            if not 1 <= stratum <= 15:
                raise CommandError(_LOCAL_SYNTAX)
        elif word == "distance":
            distance = value
        elif word == "activate":
            activate = value
        elif word == "waitsynced":
            synced = value
        elif word == "waitunsynced":
            unsynced = value
        else:
            raise CommandError(_LOCAL_SYNTAX)
    is_new = bool(activate or synced or unsynced >= 0.0)
    if unsynced < 0.0:
        unsynced = _WAITUNSYNCED_ORPHAN_S if orphan else 0.0
    return req.Local3(1, stratum, distance, orphan, activate, synced, unsynced), is_new
