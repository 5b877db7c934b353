"""Addresses as the protocol carries them: IPv4, IPv6, the number of an unresolved source, or nothing.

Kept apart from `ipaddress` because the command line must start fast and because "ID#0000000001" is an address
here; `Address.ip()` gives the library's object where one is wanted.
"""

from enum import IntEnum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

WIRE_LENGTH = 20


class Family(IntEnum):
    """Address family numbers of the wire."""

    UNSPEC = 0
    INET4 = 1
    INET6 = 2
    ID = 3


_PACKED_LENGTH = {Family.UNSPEC: 0, Family.INET4: 4, Family.INET6: 16, Family.ID: 4}


class Address(NamedTuple):
    """One address; `packed` has 0, 4, 16 or 4 bytes according to the family."""

    family: Family
    packed: bytes

    @classmethod
    def parse(cls, text: str) -> "Address | None":
        """The address written as a literal (IPv4, IPv6 or ID#number); None when it is not one."""
        if text.startswith("ID#"):
            digits = text[3:]
            if digits.isascii() and digits.isdigit() and int(digits) < 1 << 32:
                return cls.source_id(int(digits))
            return None
        for family, system_family in ((Family.INET4, AF_INET), (Family.INET6, AF_INET6)):
            try:
                return cls(family, inet_pton(system_family, text))
            except (OSError, ValueError):  # ValueError: embedded NUL, surrogates
                continue
        return None

    @classmethod
    def source_id(cls, number: int) -> "Address":
        """The address of a source whose name has not been resolved; numbers start at 1."""
        return cls(Family.ID, number.to_bytes(4, "big"))

    @classmethod
    def from_ip(cls, ip: "IPv4Address | IPv6Address") -> "Address":
        return cls(Family.INET4 if ip.version == 4 else Family.INET6, ip.packed)

    @classmethod
    def from_refid(cls, ref_id: int) -> "Address":
        """A reference ID in the IPv4 slot: how SOURCE_DATA names a reference clock."""
        return cls(Family.INET4, ref_id.to_bytes(4, "big"))

    @property
    def is_ip(self) -> bool:
        return self.family in (Family.INET4, Family.INET6)

    @property
    def number(self) -> int:
        """The packed bytes as one integer: the source's number for an ID."""
        return int.from_bytes(self.packed, "big")

    def ip(self) -> "IPv4Address | IPv6Address":
        """The `ipaddress` object; ValueError when this is no IP address."""
        from ipaddress import IPv4Address, IPv6Address

        if self.family == Family.INET4:
            return IPv4Address(self.packed)
        if self.family == Family.INET6:
            return IPv6Address(self.packed)
        raise ValueError(f"{self} is not an IP address")

    def __str__(self) -> str:
        if self.family == Family.INET4:
            return inet_ntop(AF_INET, self.packed)
        if self.family == Family.INET6:
            return inet_ntop(AF_INET6, self.packed)
        if self.family == Family.ID:
            return f"ID#{self.number:010d}"
        return "[UNSPEC]"


UNSPECIFIED = Address(Family.UNSPEC, b"")


def decode_address(wire: bytes) -> Address:
    """From 20 bytes; an unknown family reads as unspecified."""
    number = wire[16] << 8 | wire[17]
    if number == Family.INET4:
        return Address(Family.INET4, wire[:4])
    if number == Family.INET6:
        return Address(Family.INET6, wire[:16])
    if number == Family.ID:
        return Address(Family.ID, wire[:4])
    return UNSPECIFIED


def encode_address(address: Address) -> bytes:
    """To 20 bytes."""
    family, packed = address
    if len(packed) != _PACKED_LENGTH[family]:
        raise ValueError(f"{len(packed)} bytes do not make an address of family {family.name}")
    return packed.ljust(16, b"\0") + bytes((0, family, 0, 0))
