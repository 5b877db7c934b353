"""What the generator sends when it does not make it up itself: banks of prebuilt requests, and the checks of
answers that cost too much for its loop (done afterwards on the samples it keeps).

A bank is a power of two of equal requests one after the other; request i carries nonce(i) as transmit
timestamp, so that an answer's origin names it. They are sent round and round: a server keeps no state that
would notice. Sources: RFC 5905 (header), RFC 7822 and RFC 8573 (MAC).
"""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from loadtest._numbers import nonce

HEADER_SIZE = 48
MODE_CLIENT = 3
MAC_V4_MAX = 20  # bytes of digest an NTPv4 MAC may carry (RFC 7822)
DIGESTS = ("MD5", "SHA1", "SHA256", "SHA384", "SHA512")
CIPHERS = {"AES128": 16, "AES256": 32}


@dataclass(frozen=True)
class Key:
    """One line of a key file."""

    id: int
    type: str
    secret: bytes

    def __post_init__(self) -> None:
        if not 0 < self.id < 2**32:
            raise ValueError("key id out of range")
        if self.type in CIPHERS:
            if len(self.secret) != CIPHERS[self.type]:
                raise ValueError(f"{self.type} needs a key of {CIPHERS[self.type]} bytes")
        elif self.type not in DIGESTS:
            raise ValueError(f"unknown key type {self.type}")

    def line(self) -> str:
        return f"{self.id} {self.type} HEX:{self.secret.hex().upper()}"


def header(transmit: int, version: int = 4, mode: int = MODE_CLIENT) -> bytes:
    """A request that tells nothing about its sender; `transmit` as nonce() gives it (native byte order)."""
    first = version << 3 | mode
    return struct.pack("!BBbB", first, 0, 0, 0x20) + bytes(36) + struct.pack("=Q", transmit)


def digest(key: Key, data: bytes) -> bytes:
    """The whole digest: H(secret ‖ data), or AES-CMAC."""
    if key.type in CIPHERS:
        cmac = CMAC(AES(key.secret))
        cmac.update(data)
        return cmac.finalize()
    return hashlib.new(key.type.lower(), key.secret + data, usedforsecurity=False).digest()


def mac(key: Key, data: bytes) -> bytes:
    """Key id and digest as they follow `data`, cut to what its NTP version allows."""
    whole = digest(key, data)
    version = data[0] >> 3 & 7
    return struct.pack("!I", key.id) + (whole[:MAC_V4_MAX] if version == 4 else whole)


def mac_holds(key: Key, datagram: bytes) -> bool:
    """Does the datagram end in the MAC this key makes?"""
    size = len(mac(key, datagram[:HEADER_SIZE]))
    body, found = datagram[:-size], datagram[-size:]
    return len(body) >= HEADER_SIZE and hmac.compare_digest(mac(key, body), found)


def bank(count: int, seed: int, build: Callable[[int, bytes], bytes], version: int = 4) -> tuple[bytes, int]:
    """`count` requests made by `build(index, header)`, and the size of one. ValueError when they differ in
    size.
    """
    built = [build(index, header(nonce(index, 0, seed), version)) for index in range(count)]
    sizes = {len(request) for request in built}
    if len(sizes) != 1:
        raise ValueError("requests of one bank must be of one size")
    return b"".join(built), sizes.pop()


def signed_bank(count: int, seed: int, key: Key, version: int = 4) -> tuple[bytes, int]:
    """Requests authenticated with `key`."""
    return bank(count, seed, lambda _, plain: plain + mac(key, plain), version)
