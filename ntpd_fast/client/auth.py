"""Authentication of what an association sends and receives: nothing, or symmetric keys (RFC 5905, RFC 8573).

An association knows an `Authenticator` only; the one for NTS is its own module. The keys come from a store that
may be read again at any time, so they are looked up for each packet; a key that is not there fails closed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

from ntpd_fast._auth import KeyTable, build_key_table, key_table_size, same
from ntpd_fast._record import dataclass
from ntpd_fast.client.packet import Packet, PacketAuth
from ntpd_fast.client.stamps import Now
from ntpd_fast.config.keyfile import KeyType, SymmetricKey

KEY_ID_LENGTH = 4
MAX_DIGEST_V4 = 20
"""Longer digests are cut to this in version 4, so that a MAC can't be taken for an extension field."""

_HASHES = (
    KeyType.MD5,
    KeyType.SHA1,
    KeyType.SHA256,
    KeyType.SHA384,
    KeyType.SHA512,
    KeyType.SHA3_224,
    KeyType.SHA3_256,
    KeyType.SHA3_384,
    KeyType.SHA3_512,
)

_KEY_TYPE_NUMBERS: Mapping[KeyType, int] = {
    **{key_type: number for number, key_type in enumerate(_HASHES, start=1)},
    KeyType.AES128: 13,
    KeyType.AES256: 14,
}


class AuthMode(enum.IntEnum):
    """How a source is authenticated; the values of the `authdata` report."""

    NONE = 0
    SYMMETRIC = 1
    NTS = 2


@dataclass(frozen=True, slots=True)
class AuthReport:
    """An `authdata` line."""

    mode: AuthMode
    key_type: int = 0
    key_id: int = 0
    key_length_bits: int = 0
    ke_attempts: int = 0
    last_ke_ago_s: int | None = None
    """None: never, or not NTS."""
    cookies: int = 0
    cookie_length: int = 0
    nak: bool = False


class Authenticator(Protocol):
    """What an association asks of its authentication."""

    @property
    def mode(self) -> AuthMode:
        """How packets are authenticated."""

    @property
    def default_version(self) -> int:
        """NTP version of requests where neither the configuration nor an option asks for one."""

    def prepare(self, now: Now) -> bool:
        """Called before each request; False while there is nothing to authenticate one with."""

    def seal(self, request: bytes) -> bytes | None:
        """The request (header and extension fields) with what authenticates it; None if that fails."""

    def check(self, packet: Packet) -> bool:
        """Whether a received packet is authentic."""

    def good_response(self) -> None:
        """Called when a response has passed all tests."""

    def reset(self) -> None:
        """Called when the association turns to another server. (A clock that jumped leaves keys as they are.)"""

    def report(self, now: Now) -> AuthReport:
        """The `authdata` line."""


class NoAuthentication:
    """For sources without: only packets that carry no MAC and no NTS fields are accepted."""

    mode = AuthMode.NONE
    default_version = 4

    def prepare(self, now: Now) -> bool:
        """See `Authenticator`."""
        return True

    def seal(self, request: bytes) -> bytes | None:
        """See `Authenticator`."""
        return request

    def check(self, packet: Packet) -> bool:
        """See `Authenticator`."""
        return packet.auth is PacketAuth.NONE

    def good_response(self) -> None:
        """See `Authenticator`."""

    def reset(self) -> None:
        """See `Authenticator`."""

    def report(self, now: Now) -> AuthReport:
        """See `Authenticator`."""
        return AuthReport(AuthMode.NONE)


def digest_length(key: SymmetricKey) -> int:
    """Length of an untruncated digest, bytes."""
    return _table(key).digest_length(key.key_id)


def _table(key: SymmetricKey) -> KeyTable:
    """The data plane's table, of one key: a client has few packets, and what it needs is not kept about."""
    row = [(key.key_id, str(key.type), key.value)]
    return KeyTable(build_key_table(row, key_table_size(row)))


class KeyStore(Protocol):
    """The keys of the key file; a mapping will do."""

    def get(self, key_id: int, /) -> SymmetricKey | None:
        """The key with that id, if there is one."""


class SymmetricAuthenticator:
    """Packets sealed with one key of the store."""

    mode = AuthMode.SYMMETRIC

    def __init__(self, keys: KeyStore, key_id: int) -> None:
        self._keys = keys
        self.key_id = key_id

    @property
    def default_version(self) -> int:
        """3 for digests that version 4 would truncate."""
        key = self._keys.get(self.key_id)
        return 3 if key is not None and digest_length(key) > MAX_DIGEST_V4 else 4

    def prepare(self, now: Now) -> bool:
        """See `Authenticator`."""
        return True

    def seal(self, request: bytes) -> bytes | None:
        """See `Authenticator`."""
        key = self._keys.get(self.key_id)
        if key is None:
            return None
        return _table(key).sign(request, key.key_id)

    def check(self, packet: Packet) -> bool:
        """See `Authenticator`; the comparison takes the same time wherever digests differ."""
        if packet.auth is not PacketAuth.SYMMETRIC or packet.key_id != self.key_id:
            return False
        key = self._keys.get(self.key_id)
        if key is None:
            return False
        right = _table(key).sign(packet.data[: packet.mac_start], key.key_id)
        return same(packet.data, right)

    def good_response(self) -> None:
        """See `Authenticator`."""

    def reset(self) -> None:
        """See `Authenticator`."""

    def report(self, now: Now) -> AuthReport:
        """See `Authenticator`."""
        key = self._keys.get(self.key_id)
        if key is None:
            return AuthReport(AuthMode.SYMMETRIC, key_id=self.key_id)
        return AuthReport(
            AuthMode.SYMMETRIC,
            key_type=_KEY_TYPE_NUMBERS[key.type],
            key_id=self.key_id,
            key_length_bits=8 * len(key.value),
        )
