"""NTS of one association: cookies and keys, requests sealed and responses checked, key exchange when they run out.

The `Authenticator` of sources with the `nts` option (RFC 8915 §5, nts.md §6). It does no I/O: a `KeyExchanger` runs
key exchanges and reports back, and an `NtsHost`, the source it belongs to, is told where its NTP server is. A cookie
is used once. A NAK counts only when no authenticated response to the same request came: a forged one costs nothing.
Keys never appear in a message.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ntpd_fast._aead import Aead, key_size, nonce_size
from ntpd_fast._auth import same
from ntpd_fast._record import dataclass
from ntpd_fast.client.auth import AuthMode, AuthReport
from ntpd_fast.client.ntske_client import (
    RETRY_LOG2_ANSWERED,
    KeFailure,
    KeHandle,
    KeKeys,
    KeRequest,
    KeyExchanger,
)
from ntpd_fast.client.packet import IPAddress, Packet, PacketAuth
from ntpd_fast.client.stamps import Now
from ntpd_fast.clock.events import NS_PER_S
from ntpd_fast.nts.records import COOKIE_MAX, COOKIES
from ntpd_fast.system.messages import Log, Severity

UID_LENGTH = 32
COOKIE_FIELDS_MAX = 864
"""Bytes that the cookies a response brings may take, so that the request as long as it stays small."""
KE_RETRY_LOG2_MAX = 19
KE_LOCAL_RETRY_S = 2.0
REFID_NTSN = int.from_bytes(b"NTSN")

_UID, _COOKIE, _PLACEHOLDER, _AUTH = 0x0104, 0x0204, 0x0304, 0x0404
_FIELD = struct.Struct(">HH")
_FIELD_MIN = 16

RandomBytes = Callable[[int], bytes]


class NtsHost(Protocol):
    """The source, as its NTS sees it."""

    @property
    def ke_address(self) -> IPAddress | None:
        """Address of the KE server: what the configured name was resolved to; None: not resolved yet."""

    def move(self, address: IPAddress, port: int | None) -> bool:
        """Ask this NTP server from now on (port None: the configured one). False when another source has it."""

    def moved_away(self) -> None:
        """The source has got another address, and with it another KE server."""

    def take_saved(self) -> NtsState | None:
        """Keys kept from before a restart; they are handed out once."""


@dataclass(frozen=True)
class NtsOptions:
    """What the configuration says of a source's NTS."""

    name: str
    """The configured name: what certificates have to be for."""
    port: int
    """`ntsport`."""
    certset: int
    algorithms: Sequence[int]
    """`ntsaeads`, the preferred one first."""
    refresh_s: float
    """`ntsrefresh`: greatest age of keys."""


@dataclass(frozen=True)
class NtsState:
    """Keys and cookies as they are kept over a restart (`ntsdump`). established_s: Unix time of the exchange."""

    name: str
    established_s: float
    ntp_address: IPAddress
    ntp_port: int
    context_id: int
    algorithm: int
    s2c: bytes
    c2s: bytes
    cookies: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"NtsState({self.name}, AEAD {self.algorithm}, {len(self.cookies)} cookies)"


@dataclass
class _Keys:
    """The keys in use; `sealer` for what we send, `opener` for what comes."""

    algorithm: int
    c2s: bytes
    s2c: bytes
    established_ns: int
    """Monotonic; negative when they came from before the start."""

    def __post_init__(self) -> None:
        self.sealer = Aead(self.algorithm, self.c2s)
        self.opener = Aead(self.algorithm, self.s2c)


class NtsAuthenticator:
    """See `Authenticator` (client/auth.py) for the protocol."""

    mode = AuthMode.NTS
    default_version = 4

    def __init__(
        self,
        options: NtsOptions,
        exchanger: KeyExchanger,
        log: Log,
        *,
        random_bytes: RandomBytes,
        monotonic_ns: Callable[[], int],
    ) -> None:
        """random_bytes: a number of bytes that nobody can guess. monotonic_ns: the clock of `Now.monotonic_ns`."""
        self.options = options
        self._monotonic_ns = monotonic_ns
        self._exchanger = exchanger
        self._random = random_bytes
        self._log = log
        self._host: NtsHost | None = None
        self._keys: _Keys | None = None
        self._alternate: tuple[bytes, bytes] | None = None
        self._cookies: deque[bytes] = deque(maxlen=COOKIES)
        self._context_id = 0
        self._uid: bytes | None = None
        self._nak = False
        self._exchange: KeHandle | None = None
        self._ke_attempts = 0
        self._ke_next_ns: int | None = None
        self._moving = False
        self._asked_for_saved = False

    def attach(self, host: NtsHost) -> None:
        """Name the source; before anything else."""
        self._host = host

    def prepare(self, now: Now) -> bool:
        """See `Authenticator`: whether there is a cookie to use. Begins a key exchange when there is none."""
        self._uid = None
        if self._exchange is not None:
            return False
        if self._keys is not None and (self._nak or self._age_s(now) > self.options.refresh_s):
            self._renounce()
        if self._keys is None and self._restore_saved(now):
            # the source may have changed its server just now: the next request is the first
            return False
        if self._keys is None or not self._cookies:
            self._cookies.clear()
            self._begin_exchange(now)
            return False
        self._nak = False
        return True

    def seal(self, request: bytes) -> bytes | None:
        """See `Authenticator`: UID, one cookie, placeholders for those that are missing, authenticator."""
        if self._keys is None or not self._cookies:
            return None
        cookie = self._cookies.popleft()
        self._uid = self._random(UID_LENGTH)
        wanted = min(COOKIES - len(self._cookies), COOKIE_FIELDS_MAX // (len(cookie) + _FIELD.size))
        data = request + _field(_UID, self._uid) + _field(_COOKIE, cookie)
        data += _field(_PLACEHOLDER, bytes(len(cookie))) * max(wanted - 1, 0)
        nonce = self._random(nonce_size(self._keys.algorithm))
        sealed = self._keys.sealer.seal(nonce, data, b"")
        # both are whole words, and the field is too long to be taken for a MAC (RFC 7822 §7.5)
        return data + _field(_AUTH, _FIELD.pack(len(nonce), len(sealed)) + nonce + sealed)

    def check(self, packet: Packet) -> bool:
        """See `Authenticator`. A NAK to the request under way is noted, and is not authentic."""
        if packet.auth is not PacketAuth.NTS or self._uid is None or self._keys is None:
            return False
        uids = [packet.data[start : start + length] for kind, start, length in packet.fields if kind == _UID]
        if len(uids) != 1 or not same(uids[0], self._uid):
            return False
        kind, start, length = packet.fields[-1]
        if kind != _AUTH:
            header = packet.header
            self._nak = self._nak or (header.stratum == 0 and header.refid == REFID_NTSN)
            return False
        cookies = self._open(packet.data, start, length)
        if not cookies:
            return False
        self._cookies.extend(cookies)
        self._uid = None
        self._nak = False
        self._alternate = None
        return True

    def good_response(self) -> None:
        """See `Authenticator`."""
        self._ke_attempts = 0

    def reset(self) -> None:
        """See `Authenticator`: another server, so other keys. Moving to the server that the KE server named is none."""
        if self._moving:
            return
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        self._forget()
        self._ke_attempts = 0
        self._ke_next_ns = None
        self._asked_for_saved = False
        if self._host is not None:
            self._host.moved_away()

    def report(self, now: Now) -> AuthReport:
        """See `Authenticator`."""
        keys = self._keys
        return AuthReport(
            AuthMode.NTS,
            key_type=keys.algorithm if keys else 0,
            key_id=self._context_id,
            key_length_bits=8 * key_size(keys.algorithm) if keys else 0,
            ke_attempts=self._ke_attempts,
            last_ke_ago_s=int(self._age_s(now)) if keys else None,
            cookies=len(self._cookies),
            cookie_length=len(self._cookies[0]) if self._cookies else 0,
            nak=self._nak,
        )

    def save(self, now: Now, ntp_address: IPAddress, ntp_port: int) -> NtsState | None:
        """What is worth keeping over a restart; None: nothing."""
        if self._keys is None or not self._cookies:
            return None
        return NtsState(
            self.options.name,
            now.cooked_ns / NS_PER_S - self._age_s(now),
            ntp_address,
            ntp_port,
            self._context_id,
            self._keys.algorithm,
            self._keys.s2c,
            self._keys.c2s,
            tuple(self._cookies),
        )

    def restore(self, state: NtsState, now: Now) -> bool:
        """Go on with keys from before a restart; False when they are not for this source, or its server is taken."""
        if state.name != self.options.name or state.algorithm not in self.options.algorithms:
            return False
        age_s = max(now.cooked_ns / NS_PER_S - state.established_s, 0.0)
        if not self._move(state.ntp_address, state.ntp_port):
            return False
        established_ns = now.monotonic_ns - round(age_s * NS_PER_S)
        self._keys = _Keys(state.algorithm, state.c2s, state.s2c, established_ns)
        self._cookies = deque(state.cookies, maxlen=COOKIES)
        self._context_id = state.context_id
        return True

    def _restore_saved(self, now: Now) -> bool:
        if self._asked_for_saved or self._host is None or self._host.ke_address is None:
            return False
        self._asked_for_saved = True
        state = self._host.take_saved()
        return state is not None and self.restore(state, now)

    def _age_s(self, now: Now) -> float:
        return (now.monotonic_ns - self._keys.established_ns) / NS_PER_S if self._keys else 0.0

    def _forget(self) -> None:
        self._keys = None
        self._alternate = None
        self._cookies.clear()
        self._uid = None
        self._nak = False

    def _renounce(self) -> None:
        """Give up keys that were refused or have become old; try the alternate pair first where there is one."""
        keys = self._keys
        if keys is not None and self._nak and self._alternate is not None:
            c2s, s2c = self._alternate
            self._keys = _Keys(keys.algorithm, c2s, s2c, keys.established_ns)
            self._alternate = None
            self._nak = False
        else:
            self._forget()

    def _begin_exchange(self, now: Now) -> None:
        if self._ke_next_ns is not None and now.monotonic_ns < self._ke_next_ns:
            return
        address = self._host.ke_address if self._host is not None else None
        if address is None:
            return
        options = self.options
        request = KeRequest(options.name, address, options.port, options.algorithms, options.certset)
        self._exchange = self._exchanger.start(request, self._finish_exchange)
        if self._exchange is None:
            self._ke_next_ns = now.monotonic_ns + round(KE_LOCAL_RETRY_S * NS_PER_S)
        else:
            self._ke_attempts += 1

    def _finish_exchange(self, result: KeKeys | KeFailure, address: IPAddress | None) -> None:
        self._exchange = None
        now_ns = self._monotonic_ns()
        retry_log2 = result.retry_log2 if isinstance(result, KeFailure) else RETRY_LOG2_ANSWERED
        wait_s = 2 ** min(retry_log2 + self._ke_attempts - 1, KE_RETRY_LOG2_MAX)
        self._ke_next_ns = now_ns + wait_s * NS_PER_S
        if isinstance(result, KeFailure):
            self._log(Severity.ERROR, result.text)
            return
        if address is None:
            raise ValueError("keys without the address of their NTP server")
        if not self._move(address, result.port):
            self._log(Severity.ERROR, f"NTP server {address} of {self.options.name} is already in use")
            return
        self._forget()
        self._keys = _Keys(result.algorithm, result.c2s, result.s2c, now_ns)
        self._alternate = result.alternate
        self._cookies.extend(result.cookies)
        self._context_id += 1

    def _move(self, address: IPAddress, port: int | None) -> bool:
        if self._host is None:
            raise ValueError("no source to move")
        self._moving = True
        try:
            return self._host.move(address, port)
        finally:
            self._moving = False

    def _open(self, data: bytes, start: int, length: int) -> list[bytes]:
        """The cookies in an authenticator that verifies; none otherwise."""
        if self._keys is None or length < _FIELD.size:
            return []
        nonce_length, sealed_length = _FIELD.unpack_from(data, start)
        nonce_start = start + _FIELD.size
        sealed_start = nonce_start + _padded(nonce_length)
        if sealed_start + _padded(sealed_length) > start + length:
            return []
        plain = self._keys.opener.open(
            data[nonce_start : nonce_start + nonce_length],
            data[: start - _FIELD.size],
            data[sealed_start : sealed_start + sealed_length],
        )
        return [] if plain is None else _cookies_of(plain)


def _cookies_of(plain: bytes) -> list[bytes]:
    """Usable cookies among encrypted fields; none when the fields are malformed."""
    cookies = []
    offset = 0
    while offset < len(plain):
        if len(plain) - offset < _FIELD.size:
            return []
        kind, length = _FIELD.unpack_from(plain, offset)
        if length < _FIELD.size or length % 4 or length > len(plain) - offset:
            return []
        if kind == _COOKIE and _FIELD_MIN <= length <= _FIELD.size + COOKIE_MAX:
            cookies.append(plain[offset + _FIELD.size : offset + length])
        offset += length
    return cookies


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _field(kind: int, body: bytes) -> bytes:
    return _FIELD.pack(kind, _FIELD.size + len(body)) + body
