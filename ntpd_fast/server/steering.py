"""Which worker answers a client: a classic-BPF program in the kernel, and the same function in Python.

Every worker has a socket of its own in one SO_REUSEPORT group. Left alone the kernel spreads a client's packets over
the group by port; the program attached here spreads by source address only (IPv4: the address, IPv6: its /64), so that
all packets of a client meet the same worker's client log, limits and interleaved timestamps, and no lock is needed.

The address is mixed with a random salt: nobody outside can choose addresses that all fall on one worker. The answer is
`base + hash mod workers`, an index into the group in the order of joining.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Final

from ntpd_fast._record import dataclass

# asm-generic/socket.h
SO_ATTACH_REUSEPORT_CBPF: Final = 51

# linux/bpf_common.h and linux/filter.h, composed as in the comments of <linux/filter.h>
_LD_W_ABS: Final = 0x20
_LD_B_ABS: Final = 0x30
_JEQ_K: Final = 0x15
_ADD_K: Final = 0x04
_MUL_K: Final = 0x24
_RSH_K: Final = 0x74
_MOD_K: Final = 0x94
_XOR_K: Final = 0xA4
_XOR_X: Final = 0xAC
_TAX: Final = 0x07
_RET_A: Final = 0x16
# loads relative to the network header: a reuseport program's packet otherwise starts at the UDP payload
_NET_OFF: Final = 0xFFF00000
_IPV4_SOURCE: Final = _NET_OFF + 12
_IPV6_SOURCE: Final = _NET_OFF + 8

# The finaliser of MurmurHash3 (public domain): every input bit reaches every output bit.
_MULTIPLIERS: Final = (0x85EBCA6B, 0xC2B2AE35)
_SHIFTS: Final = (16, 13, 16)

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Steering:
    """A client's way to its worker: `base` (index of the first worker's socket) and two random 32-bit salts."""

    salts: tuple[int, int]
    base: int = 1

    def index(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, workers: int) -> int:
        """The index in the group that serves `address` when there are `workers` (≥ 1)."""
        if address.version == 4:
            value = _mix(int(address) ^ self.salts[0])
        else:
            high, low = struct.unpack("!II", address.packed[:8])
            value = _mix(_mix(high ^ self.salts[0]) ^ low ^ self.salts[1])
        return self.base + value % workers

    def program(self, workers: int) -> list[Instruction]:
        """The same as classic BPF: rows of code, jump if true, jump if false, constant."""
        mix = _mix_program()
        ipv4: list[Instruction] = [
            (_LD_W_ABS, 0, 0, _IPV4_SOURCE),
            (_XOR_K, 0, 0, self.salts[0]),
            *mix,
            (_MOD_K, 0, 0, workers),
            (_ADD_K, 0, 0, self.base),
            (_RET_A, 0, 0, 0),
        ]
        ipv6: list[Instruction] = [
            (_LD_W_ABS, 0, 0, _IPV6_SOURCE),
            (_XOR_K, 0, 0, self.salts[0]),
            *mix,
            (_TAX, 0, 0, 0),
            (_LD_W_ABS, 0, 0, _IPV6_SOURCE + 4),
            (_XOR_X, 0, 0, 0),
            (_XOR_K, 0, 0, self.salts[1]),
            *mix,
            (_MOD_K, 0, 0, workers),
            (_ADD_K, 0, 0, self.base),
            (_RET_A, 0, 0, 0),
        ]
        # The IP version decides, not the socket's family: a mapped IPv4 packet arrives with an IPv4 header.
        head: list[Instruction] = [
            (_LD_B_ABS, 0, 0, _NET_OFF),
            (_RSH_K, 0, 0, 4),
            (_JEQ_K, len(ipv4), 0, 6),
        ]
        return head + ipv4 + ipv6

    def attach(self, member: socket.socket, workers: int) -> None:
        """Make it the program of `member`'s group, in place of an earlier one. Raises OSError."""
        attach_program(member, self.program(workers))


def attach_program(member: socket.socket, program: Sequence[Instruction]) -> None:
    """Attach a classic-BPF program to the reuseport group of a bound socket. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in program))
    # struct sock_fprog; "@" puts the pointer where the C compiler would
    descriptor = struct.pack("@HP", len(program), ctypes.addressof(code))
    member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, descriptor)


def _mix(value: int) -> int:
    value ^= value >> _SHIFTS[0]
    for multiplier, shift in zip(_MULTIPLIERS, _SHIFTS[1:], strict=True):
        value = value * multiplier & 0xFFFFFFFF
        value ^= value >> shift
    return value


def _mix_program() -> list[Instruction]:
    def fold(shift: int) -> list[Instruction]:
        return [(_TAX, 0, 0, 0), (_RSH_K, 0, 0, shift), (_XOR_X, 0, 0, 0)]

    rows = fold(_SHIFTS[0])
    for multiplier, shift in zip(_MULTIPLIERS, _SHIFTS[1:], strict=True):
        rows += [(_MUL_K, 0, 0, multiplier), *fold(shift)]
    return rows
