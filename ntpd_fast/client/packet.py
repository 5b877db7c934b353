"""NTP packets as a client or symmetric peer writes and reads them (RFC 5905, RFC 7822).

Timestamps stay 64-bit integers in NTP format here: they are compared as nonces more often than as times.
Parsing takes any bytes and answers with a packet or None, never with an exception; whether a MAC is right is
the authenticator's business.
"""

from __future__ import annotations

import enum
import math
import struct
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._auth import md5
from ntpd_fast._record import dataclass
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import NS_PER_S

IPAddress = IPv4Address | IPv6Address

HEADER_LENGTH = 48
MAX_PACKET_LENGTH = 1140
"""Header, 1024 bytes of extension fields and the longest MAC."""

UNIX_TO_NTP_S = 2_208_988_800
MAX_STRATUM = 16
NO_PRECISION = 32
"""Precision of client requests: says nothing, and makes the transmit timestamp all random."""

KOD_RATE = 0x52415445

VERSIONS = range(1, 5)
MAC_LENGTHS_V4 = range(20, 25)
MIN_FIELD_LENGTH = 16
NTS_FIELDS = frozenset({0x0104, 0x0204, 0x0304, 0x0404})

FIELD_MONO_ROOT = 0xF323
FIELD_NET_CORRECTION = 0x010A
MONO_ROOT_MAGIC = 0xF5BEDD9A
EXPERIMENTAL_BODY_LENGTH = 24

_HEADER = struct.Struct("!BBbbIIIQQQQ")
_FIELD = struct.Struct("!HH")
_MONO_ROOT = struct.Struct("!IIIQI")
_NET_CORRECTION = struct.Struct("!q16x")


class Mode(enum.IntEnum):
    """Association modes of RFC 5905, figure 10."""

    RESERVED = 0
    SYMMETRIC_ACTIVE = 1
    SYMMETRIC_PASSIVE = 2
    CLIENT = 3
    SERVER = 4
    BROADCAST = 5
    CONTROL = 6
    PRIVATE = 7


class PacketAuth(enum.Enum):
    """What a packet carries to authenticate it."""

    NONE = enum.auto()
    SYMMETRIC = enum.auto()
    MSSNTP = enum.auto()
    NTS = enum.auto()


@dataclass(frozen=True, slots=True)
class MonoRoot:
    """Body of the experimental field F323: finer root distance and a time scale without offset corrections."""

    root_delay_s: float
    root_dispersion_s: float
    mono_rx: int
    """Receive time on the monotonic scale, NTP64; 0: not given."""
    mono_epoch: int


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed part of a packet; timestamps in NTP64."""

    leap: Leap
    version: int
    mode: Mode
    stratum: int
    poll: int
    precision: int
    root_delay_s: float
    root_dispersion_s: float
    refid: int
    reference_ts: int
    origin_ts: int
    receive_ts: int
    transmit_ts: int

    def pack(self) -> bytes:
        """The 48 bytes."""
        return _HEADER.pack(
            (self.leap << 6) | (self.version << 3) | self.mode,
            self.stratum if self.stratum < MAX_STRATUM else 0,
            self.poll,
            self.precision,
            to_short(self.root_delay_s),
            to_short(self.root_dispersion_s),
            self.refid,
            self.reference_ts,
            self.origin_ts,
            self.receive_ts,
            self.transmit_ts,
        )


@dataclass(frozen=True, slots=True)
class Packet:
    """A received packet."""

    header: Header
    data: bytes
    auth: PacketAuth = PacketAuth.NONE
    mac_start: int = 0
    """Offset of the MAC (its key id), where there is one."""
    fields: tuple[tuple[int, int, int], ...] = ()
    """Extension fields: type, offset of the body, length of the body."""
    mono_root: MonoRoot | None = None
    net_correction_s: float | None = None

    @property
    def key_id(self) -> int:
        """Key of the MAC; 0 without one."""
        if self.auth is not PacketAuth.SYMMETRIC:
            return 0
        return int.from_bytes(self.data[self.mac_start : self.mac_start + 4], "big")


def parse(data: bytes) -> Packet | None:
    """Read a datagram; None if it isn't a well-formed NTP packet."""
    length = len(data)
    if length < HEADER_LENGTH or length > MAX_PACKET_LENGTH or length % 4:
        return None
    version = (data[0] >> 3) & 7
    if version not in VERSIONS:
        return None
    header = _parse_header(data)
    remaining = length - HEADER_LENGTH
    if not remaining:
        return Packet(header, data)
    if version < 4:
        return Packet(header, data, _legacy_auth(data, version), HEADER_LENGTH)
    if remaining == 4:
        if any(data[HEADER_LENGTH:]):
            return None
        return Packet(header, data, PacketAuth.SYMMETRIC, HEADER_LENGTH)
    return _parse_fields(header, data)


def _parse_header(data: bytes) -> Header:
    lvm, stratum, poll, precision, delay, dispersion, refid, *stamps = _HEADER.unpack_from(data)
    return Header(
        Leap(lvm >> 6),
        (lvm >> 3) & 7,
        Mode(lvm & 7),
        stratum,
        poll,
        precision,
        from_short(delay),
        from_short(dispersion),
        refid,
        *stamps,
    )


def _legacy_auth(data: bytes, version: int) -> PacketAuth:
    """Versions up to 3 carry nothing but a MAC; Microsoft's clients leave its digest empty."""
    mac = data[HEADER_LENGTH:]
    if (
        version == 3
        and any(mac[:4])
        and ((len(mac) == 20 and not any(mac[4:])) or (len(mac) == 72 and not any(mac[8:])))
    ):
        return PacketAuth.MSSNTP
    return PacketAuth.SYMMETRIC


def _parse_fields(header: Header, data: bytes) -> Packet | None:
    offset = HEADER_LENGTH
    auth = PacketAuth.NONE
    fields = []
    mono_root = None
    net_correction = None
    while offset < len(data):
        remaining = len(data) - offset
        if remaining in MAC_LENGTHS_V4:
            auth = PacketAuth.SYMMETRIC
            break
        if remaining < MAC_LENGTHS_V4.stop:
            return None
        kind, length = _FIELD.unpack_from(data, offset)
        if length < MIN_FIELD_LENGTH or length > remaining or length % 4:
            return None
        body = offset + _FIELD.size
        fields.append((kind, body, length - _FIELD.size))
        if kind in NTS_FIELDS:
            auth = PacketAuth.NTS
        elif length == _FIELD.size + EXPERIMENTAL_BODY_LENGTH:
            if kind == FIELD_MONO_ROOT:
                mono_root = _parse_mono_root(data, body) or mono_root
            elif kind == FIELD_NET_CORRECTION:
                net_correction = _NET_CORRECTION.unpack_from(data, body)[0] / 2.0**32
        offset += length
    return Packet(header, data, auth, offset, tuple(fields), mono_root, net_correction)


def _parse_mono_root(data: bytes, offset: int) -> MonoRoot | None:
    magic, delay, dispersion, mono_rx, epoch = _MONO_ROOT.unpack_from(data, offset)
    if magic != MONO_ROOT_MAGIC:
        return None
    return MonoRoot(from_28(delay), from_28(dispersion), mono_rx, epoch)


def pack_mono_root(value: MonoRoot | None) -> bytes:
    """The field F323, with zeros (a request) where there is no value."""
    if value is None:
        body = _MONO_ROOT.pack(MONO_ROOT_MAGIC, 0, 0, 0, 0)
    else:
        body = _MONO_ROOT.pack(
            MONO_ROOT_MAGIC,
            to_28(value.root_delay_s),
            to_28(value.root_dispersion_s),
            value.mono_rx,
            value.mono_epoch,
        )
    return _FIELD.pack(FIELD_MONO_ROOT, _FIELD.size + len(body)) + body


def pack_net_correction(correction_s: float) -> bytes:
    """The field 010A; 0 in requests and where no correction is known."""
    limit = 1 << 63
    fixed = min(max(math.floor(correction_s * 2.0**32), -limit), limit - 1)
    body = _NET_CORRECTION.pack(fixed)
    return _FIELD.pack(FIELD_NET_CORRECTION, _FIELD.size + len(body)) + body


def to_short(value_s: float) -> int:
    """NTP short format, rounded up so that error bounds stay bounds; saturates."""
    if value_s <= 0.0:
        return 0
    if not value_s < 65535.99998:
        return 0xFFFFFFFF
    return math.ceil(value_s * 65536.0)


def from_short(value: int) -> float:
    """Seconds of an NTP short value."""
    return value / 65536.0


def to_28(value_s: float) -> int:
    """4.28 fixed point, rounded up; saturates at the value that stands for infinity."""
    if value_s <= 0.0:
        return 0
    if not value_s * 2.0**28 < 0xFFFFFFFF:
        return 0xFFFFFFFF
    return math.ceil(value_s * 2.0**28)


def from_28(value: int) -> float:
    """Seconds of a 4.28 value; the largest is beyond any sane distance."""
    return 65536.0 if value == 0xFFFFFFFF else value / 2.0**28


def ns_to_ntp64(unix_ns: int) -> int:
    """NTP timestamp of a Unix time; the epoch itself becomes 0, "unknown"."""
    if unix_ns == 0:
        return 0
    seconds, ns = divmod(unix_ns, NS_PER_S)
    return (((seconds + UNIX_TO_NTP_S) & 0xFFFFFFFF) << 32) | ((ns << 32) // NS_PER_S)


def ntp64_to_ns(ntp64: int, era_start_s: int) -> int:
    """Unix time (ns) of an NTP timestamp inside the 2³² s from `era_start_s`; 0 for "unknown"."""
    if ntp64 == 0:
        return 0
    seconds = (((ntp64 >> 32) - (era_start_s + UNIX_TO_NTP_S)) & 0xFFFFFFFF) + era_start_s
    # rounded to the nearest: flooring twice would lose a nanosecond on every way to the wire and back
    return seconds * NS_PER_S + (((ntp64 & 0xFFFFFFFF) * NS_PER_S + (1 << 31)) >> 32)


def ntp64_diff_s(a: int, b: int) -> float:
    """a − b in seconds, within half an era."""
    difference = (a - b) & 0xFFFFFFFFFFFFFFFF
    if difference >= 1 << 63:
        difference -= 1 << 64
    return difference / 2.0**32


def fuzz_mask(precision: int, random_bits: int) -> int:
    """The part of 64 random bits that lies below a precision (log2 s, −32…32)."""
    bits = min(max(precision + 32, 0), 64)
    return random_bits & ((1 << bits) - 1)


def refid_of(address: IPAddress) -> int:
    """Reference ID of a server: its IPv4 address, or the start of the MD5 sum of its IPv6 address."""
    if isinstance(address, IPv4Address):
        return int(address)
    digest = md5(address.packed)
    return int.from_bytes(digest[:4], "big")
