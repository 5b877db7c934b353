"""Access rules of NTP and of commands, and the questions about them."""

from __future__ import annotations

from collections.abc import Callable

from ntpd_fast.config.model import AccessRule

from ..backend import AccessControl, CommandFailed
from ..codec import requests as req
from ..codec.address import Address, Family
from ..codec.commands import Number, Status
from .row import Row

_BITS_MAX = {Family.INET4: 32, Family.INET6: 128}


def _rule(address: Address, bits: int, allow: bool, all_below: bool) -> AccessRule:
    """CommandFailed(BAD_SUBNET) for bits out of range, an ID, or "everything" with bits."""
    if address.family == Family.UNSPEC and bits == 0:
        return AccessRule(allow=allow, all=all_below, address=None, prefix_len=0)
    if not address.is_ip or not 0 <= bits <= _BITS_MAX[address.family]:
        raise CommandFailed(Status.BAD_SUBNET)
    return AccessRule(allow=allow, all=all_below, address=address.ip(), prefix_len=bits)


def _setter(allow: bool, all_below: bool) -> Callable[[AccessControl, req.AccessSubnet], None]:
    def run(access: AccessControl, request: req.AccessSubnet) -> None:
        access.set_rule(_rule(request.ip, request.subnet_bits, allow, all_below))

    return run


def _check(access: AccessControl, request: req.OneAddress) -> Status:
    if request.address.is_ip and access.is_allowed(request.address.ip()):
        return Status.ACCESS_ALLOWED
    return Status.ACCESS_DENIED


ROWS = (
    Row(Number.ALLOW, "access", _setter(True, False)),
    Row(Number.ALLOWALL, "access", _setter(True, True)),
    Row(Number.DENY, "access", _setter(False, False)),
    Row(Number.DENYALL, "access", _setter(False, True)),
    Row(Number.ACCHECK, "access", _check, Status.ACCESS_DENIED),
    Row(Number.CMDALLOW, "command_access", _setter(True, False)),
    Row(Number.CMDALLOWALL, "command_access", _setter(True, True)),
    Row(Number.CMDDENY, "command_access", _setter(False, False)),
    Row(Number.CMDDENYALL, "command_access", _setter(False, True)),
    Row(Number.CMDACCHECK, "command_access", _check),
)
