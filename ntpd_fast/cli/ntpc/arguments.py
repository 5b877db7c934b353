"""Reading the arguments of commands, by chronyc's rules: C's prefix parse of numbers, addresses, masks, subnets."""

import re
from typing import NamedTuple

from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address, Family

_INTEGER = re.compile(r"\s*[+-]?\d+", re.ASCII)
_REAL = re.compile(
    r"\s*[+-]?(?:0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?\d+)?"
    r"|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)",
    re.ASCII | re.IGNORECASE,
)
# What strtol clamps to before scanf cuts the result to an int.
_LONG_MAX = (1 << 63) - 1
_REFID_LENGTH = 4
_BITS = {Family.INET4: 32, Family.INET6: 128}


def integer(text: str) -> int | None:
    """The leading integer, as `%d` of scanf reads it (too large a one wraps); None when there is none."""
    word = unsigned(text)
    return word - (1 << 32) if word is not None and word >> 31 else word


def unsigned(text: str) -> int | None:
    """The leading integer, as `%u` of scanf reads it: a negative one wraps."""
    match = _INTEGER.match(text)
    if match is None:
        return None
    return max(-_LONG_MAX - 1, min(int(match.group()[:40]), _LONG_MAX)) & 0xFFFFFFFF


def whole_integer(text: str) -> int | None:
    """An integer and nothing after it."""
    return integer(text) if _INTEGER.fullmatch(text) else None


def whole_unsigned(text: str) -> int | None:
    """The same, unsigned."""
    return unsigned(text) if _INTEGER.fullmatch(text) else None


def whole_real(text: str) -> float | None:
    """A number and nothing after it."""
    return real(text) if _REAL.fullmatch(text) else None


def real(text: str) -> float | None:
    """The leading number, as `%lf` of scanf reads it; None when there is none."""
    match = _REAL.match(text)
    if match is None:
        return None
    word = match.group()
    return float.fromhex(word) if "x" in word.lower() else float(word)


def refid(text: str) -> int | None:
    """A reference ID of 1 to 4 characters."""
    name = text.encode(errors="surrogateescape")
    if not 0 < len(name) <= _REFID_LENGTH:
        return None
    return int.from_bytes(name.ljust(_REFID_LENGTH, b"\0"), "big")


def full_mask(family: Family) -> Address:
    """All ones for an IP family; unspecified otherwise."""
    return Address(family, b"\xff" * (_BITS[family] // 8)) if family in _BITS else UNSPECIFIED


def mask_of_bits(family: Family, bits: int) -> Address:
    """Leading ones; the full mask for numbers out of range."""
    width = _BITS[family]
    if not 0 <= bits <= width:
        return full_mask(family)
    return Address(family, ((1 << width) - (1 << width - bits)).to_bytes(width // 8, "big"))


class Subnet(NamedTuple):
    address: Address
    bits: int


EVERYTHING = Subnet(UNSPECIFIED, 0)


def is_dotted(text: str) -> bool:
    """Numbers and dots: no host name, even where the system's resolver would make an address of it."""
    return all(number.isascii() and number.isdigit() for number in text.split("."))


def literal_subnet(text: str) -> Subnet | None:
    """A literal with or without bits, or an IPv4 address cut short (`10`, `192.168`, `127/8`).

    Bits are only checked for not being negative: too many are the daemon's to refuse.
    """
    base, slash, bits_text = text.partition("/")
    bits = whole_integer(bits_text) if slash else None
    if slash and (bits is None or bits < 0):
        return None
    address = Address.parse(base)
    if address is not None and address.is_ip:
        return Subnet(address, _BITS[address.family] if bits is None else bits)
    numbers = base.split(".")
    if len(numbers) > 3 or not is_dotted(base):
        return None
    values = [int(number) if len(number) <= 10 else 256 for number in numbers]
    if any(value > 255 for value in values):
        return None
    packed = bytes(values).ljust(4, b"\0")
    return Subnet(Address(Family.INET4, packed), 8 * len(values) if bits is None else bits)
