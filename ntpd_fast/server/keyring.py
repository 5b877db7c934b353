"""Keys with which the NTS server seals its cookies: rotation, the `ntskeys` file, keys derived from a secret.

Four keys are alive at a time, oldest first: two old ones, the current one, and the next one, which is written ahead so
that cookies survive a switch that one process, or one of several servers, sees before another. An id's low two bits
are its slot, so consecutive keys never share one. `KeyManager` keeps the ring in shared memory up to date in one of
three ways: keys of our own that rotate and are saved (the default), keys that somebody else puts into the file
(`ntsrotate 0`), keys derived from a shared secret and the time (`ntssharedkey`; docs/nts.md has the reasoning).

The file has chrony's format (nts.md §4), so that a daemon can take over from chronyd, or chronyd from it. Keys are
never logged. A file that does not fit in every detail is refused as a whole.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable

from ntpd_fast._aead import key_size
from ntpd_fast._nts import KeyRing
from ntpd_fast._record import dataclass
from ntpd_fast._tls import TlsError, hkdf_sha256
from ntpd_fast.system.files import read_bounded, write_atomically
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import Scheduler, TimerHandle

KEYS = 4
CURRENT = 2
"""Position of the key that makes cookies: the one before the last."""
AES_SIV_CMAC_256 = 15
"""AEAD of the keys we make: every build of chrony reads it, and its schedule can be kept, unlike GCM-SIV's."""
FILE_NAME = "ntskeys"
# six lines; the longest key has 64 hexadecimal digits
FILE_SIZE_MAX = 1024
# With keys derived from the time: how often the time is looked at. A switch may be late by as much as the next key
# is known ahead, which is a whole period.
PERIOD_CHECK_S = 10.0
SECRET_SIZE_MIN = 32
SECRET_FILE_SIZE_MAX = 4096
SECRETS_MAX = 16
NS_PER_S = 1_000_000_000


class KeyFileError(ValueError):
    """A key or secret file that cannot be used; the text says why, without any of its contents."""


class DerivationRefusedError(KeyFileError):
    """The crypto library does not let keys be derived, whatever the file has: a matter of the system's policy."""


@dataclass(frozen=True)
class ServerKey:
    """One key: `identifier` is in every cookie made with it, `algorithm` is an IANA AEAD number."""

    identifier: int
    algorithm: int
    key: bytes

    def __repr__(self) -> str:
        return f"ServerKey({self.identifier:08X}, AEAD {self.algorithm})"


KeySet = tuple[ServerKey, ...]
"""The four keys, oldest first."""


def random_key(slot: int, algorithm: int = AES_SIV_CMAC_256) -> ServerKey:
    """A new key for a slot."""
    identifier = int.from_bytes(os.urandom(4)) & ~(KEYS - 1) | slot
    return ServerKey(identifier, algorithm, os.urandom(key_size(algorithm)))


def random_keys() -> KeySet:
    """Keys of a server that starts with none: slot 3 is current."""
    return tuple(random_key((slot + 1) % KEYS) for slot in range(KEYS))


def rotated(keys: KeySet) -> KeySet:
    """The next key becomes current, the oldest is forgotten, a new next one is made (of the same algorithm)."""
    newest = keys[-1]
    return (*keys[1:], random_key((newest.identifier + 1) % KEYS, newest.algorithm))


def format_file(keys: KeySet, age_s: float) -> bytes:
    """The `ntskeys` file. age_s: time since the current key became current."""
    lines = ["NKS1", f"{age_s:.1f}"]
    lines += [f"{key.identifier:08X} {key.key.hex().upper()} {key.algorithm}" for key in keys]
    return "".join(line + "\n" for line in lines).encode("ascii")


def parse_file(data: bytes) -> tuple[KeySet, float]:
    """Keys and age (s) of an `ntskeys` file, in the present form or the one of chrony 4.3 and older."""
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise KeyFileError("not a text") from error
    if len(lines) != 2 + KEYS + 1 or lines[-1]:
        raise KeyFileError(f"has to have {2 + KEYS} lines")
    common_algorithm: str | None = None
    age = lines[1]
    if lines[0] == "NKS0":
        common_algorithm, _, age = lines[1].partition(" ")
    elif lines[0] != "NKS1":
        raise KeyFileError("does not start with NKS1 or NKS0")
    try:
        age_s = float(age)
    except ValueError as error:
        raise KeyFileError("no age in line 2") from error
    if not (math.isfinite(age_s) and age_s >= 0):
        raise KeyFileError("no age in line 2")
    keys = tuple(
        _parse_key(line if common_algorithm is None else f"{line} {common_algorithm}", number)
        for number, line in enumerate(lines[2:-1], start=3)
    )
    if any((after.identifier - before.identifier) % KEYS != 1 for before, after in itertools.pairwise(keys)):
        raise KeyFileError("key numbers do not follow each other")
    return keys, age_s


def _parse_key(line: str, number: int) -> ServerKey:
    words = line.split(" ")
    if len(words) != 3 or len(words[0]) != 8 or len(words[2]) > 5 or not words[2].isdecimal():
        raise KeyFileError(f"no key in line {number}")
    algorithm = int(words[2])
    size = key_size(algorithm)
    if not size:
        raise KeyFileError(f"unknown algorithm in line {number}")
    if len(words[1]) != 2 * size or not all(c in "0123456789abcdefABCDEF" for c in words[0] + words[1]):
        raise KeyFileError(f"no key in line {number}")
    return ServerKey(int(words[0], 16), algorithm, bytes.fromhex(words[1]))


@dataclass(frozen=True)
class SharedSecret:
    """A secret that several servers have in common, from the first period that begins at or after `start_s` (Unix)."""

    secret: bytes
    start_s: int = 0

    def __repr__(self) -> str:
        return f"SharedSecret(start_s={self.start_s})"


def parse_secrets(data: bytes) -> tuple[SharedSecret, ...]:
    """Secrets of a shared file, in order of their starts: lines `HEX` or `HEX UNIXTIME`, `#` comments."""
    secrets = []
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise KeyFileError("not a text") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            secret = bytes.fromhex(words[0])
        except ValueError as error:
            raise KeyFileError(f"no hexadecimal secret in line {number}") from error
        if len(secret) < SECRET_SIZE_MIN:
            raise KeyFileError(f"secret in line {number} is shorter than {SECRET_SIZE_MIN} bytes")
        if len(words) > 2 or (len(words) == 2 and not (words[1].isdecimal() and len(words[1]) <= 11)):
            raise KeyFileError(f"no time in seconds after the secret in line {number}")
        secrets.append(SharedSecret(secret, int(words[1]) if len(words) == 2 else 0))
    if not 1 <= len(secrets) <= SECRETS_MAX:
        raise KeyFileError(f"has to have 1 to {SECRETS_MAX} secrets")
    if any(after.start_s <= before.start_s for before, after in itertools.pairwise(secrets)):
        raise KeyFileError("secrets have to be in the order of their times")
    return tuple(secrets)


def derived_key(secrets: tuple[SharedSecret, ...], period: int, rotate_s: int) -> ServerKey:
    """The key of one period, the same on every server with the same secrets and `ntsrotate`.

    HKDF-SHA256 (RFC 5869) over the secret of the period, bound to its number, length and use. DerivationRefusedError
    when the crypto library does not have it.
    """
    secret = secrets[0]
    for candidate in secrets[1:]:
        if candidate.start_s <= period * rotate_s:
            secret = candidate
    size = key_size(AES_SIV_CMAC_256)
    info = b"ntpd_fast NTS server key" + period.to_bytes(8) + rotate_s.to_bytes(4) + AES_SIV_CMAC_256.to_bytes(2)
    try:
        material = hkdf_sha256(secret.secret, info, 4 + size)
    except TlsError as error:
        raise DerivationRefusedError("the crypto library refuses HKDF with SHA-256") from error
    identifier = int.from_bytes(material[:4]) & ~(KEYS - 1) | period % KEYS
    return ServerKey(identifier, AES_SIV_CMAC_256, material[4:])


def derived_keys(secrets: tuple[SharedSecret, ...], now_s: float, rotate_s: int) -> KeySet:
    """The keys alive at a Unix time: of the two periods before, the present one and the next one."""
    period = max(int(now_s // rotate_s), CURRENT)
    return tuple(derived_key(secrets, period + i - CURRENT, rotate_s) for i in range(KEYS))


class KeyManager:
    """Keeps a KeyRing filled. `wall_s` gives the daemon's corrected Unix time, for shared keys and the age of the file.

    directory: `ntsdumpdir` or None; rotate_s: `ntsrotate`; shared_file: `ntssharedkey` or None (wins over the others).
    """

    def __init__(
        self,
        ring: KeyRing,
        scheduler: Scheduler,
        log: Log,
        wall_s: Callable[[], float],
        *,
        directory: str | None,
        rotate_s: int,
        shared_file: str | None = None,
    ) -> None:
        if shared_file is not None and rotate_s < 1:
            raise ValueError("shared NTS keys need a period to rotate")
        self._ring = ring
        self._scheduler = scheduler
        self._log = log
        self._wall_s = wall_s
        self._path = None if directory is None else os.path.join(directory, FILE_NAME)
        self._rotate_s = rotate_s
        self._shared_file = shared_file
        self._secrets: tuple[SharedSecret, ...] = ()
        self._keys: KeySet = ()
        self._current_since_ns = 0
        self._timer: TimerHandle | None = None
        self.rotations = 0

    @property
    def keys(self) -> KeySet:
        return self._keys

    def start(self) -> None:
        """Publish the first keys. A file that cannot be used is told; a server of one's own then starts with new keys.

        KeyFileError or OSError when the shared secret cannot be had: a member of a group must not invent keys. There
        are none after a DerivationRefusedError: clients then get no keys, and for their cookies a NAK.
        """
        if self._shared_file is not None:
            self._secrets = self._read_secrets(self._shared_file)
            self._follow_period()
            return
        age_s = self._load()
        if age_s is None:
            self._publish(random_keys(), 0.0)
            self._save()
            age_s = 0.0
        if self._path is None:
            self._log(Severity.WARNING, "No ntsdumpdir to save server keys")
        self._arm(self._rotate_s - age_s)

    def rekey(self) -> None:
        """Read again what somebody else keeps. Keys of our own stay: a rotation must not be delayed."""
        if self._shared_file is not None:
            try:
                self._secrets = self._read_secrets(self._shared_file)
            except (OSError, KeyFileError) as error:
                self._log(Severity.ERROR, f"Could not read {self._shared_file} : {_reason(error)}")
                return
            self._follow_period()
        elif self._rotate_s == 0:
            self._load()

    def follow(self, *, directory: str | None, rotate_s: int, shared_file: str | None) -> None:
        """Go on with another `ntsdumpdir`, `ntsrotate` or `ntssharedkey`; arguments as of the constructor.

        Keys stay as long as they can, so that clients keep their cookies: the current one only gets another end. A
        shared secret that cannot be read is told, and everything stays as it was.
        """
        if shared_file is not None and rotate_s < 1:
            raise ValueError("shared NTS keys need a period to rotate")
        path = None if directory is None else os.path.join(directory, FILE_NAME)
        if (path, rotate_s, shared_file) == (self._path, self._rotate_s, self._shared_file):
            return
        if shared_file is not None:
            try:
                self._secrets = self._read_secrets(shared_file)
            except (OSError, KeyFileError) as error:
                self._log(
                    Severity.ERROR, f"Could not read {shared_file}, NTS server keys stay as they are : {_reason(error)}"
                )
                return
        self._path, self._rotate_s, self._shared_file = path, rotate_s, shared_file
        self.stop()
        if shared_file is not None:
            self._follow_period()
        elif rotate_s == 0:
            self._load()
        else:
            self._save()
            self._arm(rotate_s - self._age_s())

    def save(self) -> None:
        """Write the file once more, at exit, so that the age of the current key is not lost."""
        self._save()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _age_s(self) -> float:
        return (self._scheduler.monotonic_ns() - self._current_since_ns) / NS_PER_S

    def _publish(self, keys: KeySet, age_s: float) -> None:
        self._keys = keys
        self._current_since_ns = self._scheduler.monotonic_ns() - round(age_s * NS_PER_S)
        self._ring.publish([(k.identifier, k.algorithm, k.key) for k in keys], keys[CURRENT].identifier)

    def _arm(self, delay_s: float) -> None:
        self.stop()
        if self._rotate_s:
            self._timer = self._scheduler.call_later(max(delay_s, 0.0), self._rotate)

    def _rotate(self) -> None:
        self._publish(rotated(self._keys), 0.0)
        self.rotations += 1
        self._save()
        self._arm(self._rotate_s)

    def _load(self) -> float | None:
        """Publish the keys of the file; the age of the current one in seconds, None when there are none."""
        if self._path is None:
            return None
        try:
            data, status = read_bounded(self._path, FILE_SIZE_MAX)
            keys, age_s = parse_file(data)
        except FileNotFoundError:
            if self._rotate_s == 0:
                self._log(Severity.WARNING, f"Could not load server NTS keys : {self._path} does not exist")
            return None
        except (OSError, ValueError) as error:
            self._log(Severity.WARNING, f"Could not load server NTS keys from {self._path} : {_reason(error)}")
            return None
        if status.st_mode & 0o077:
            self._log(Severity.WARNING, f"Server NTS keys in {self._path} can be read by others")
        # The file holds the age when it was written: the current key has gone on ageing since. A clock that is not
        # right yet must not make it younger, nor older than a rotation.
        age_s += min(max(self._wall_s() - status.st_mtime, 0.0), float(self._rotate_s))
        self._publish(keys, age_s)
        self._log(Severity.INFO, "Loaded server NTS keys")
        return age_s

    def _save(self) -> None:
        if self._path is None or self._rotate_s == 0 or self._shared_file is not None or not self._keys:
            return
        try:
            write_atomically(self._path, format_file(self._keys, self._age_s()), 0o600)
        except OSError as error:
            self._log(Severity.ERROR, f"Could not save server NTS keys to {self._path} : {_reason(error)}")

    def _read_secrets(self, path: str) -> tuple[SharedSecret, ...]:
        try:
            data, status = read_bounded(path, SECRET_FILE_SIZE_MAX)
        except ValueError as error:
            raise KeyFileError(str(error)) from error
        if status.st_mode & 0o007:
            raise KeyFileError("can be read or written by everybody")
        secrets = parse_secrets(data)
        # what the library refuses it refuses now, and not in the middle of a switch
        derived_keys(secrets, self._wall_s(), self._rotate_s or 1)
        return secrets

    def _follow_period(self) -> None:
        """The keys of the present time; asked for often, because the clock may be stepped."""
        now_s = self._wall_s()
        keys = derived_keys(self._secrets, now_s, self._rotate_s)
        if keys != self._keys:
            if self._keys:
                self.rotations += 1
            self._publish(keys, max(now_s, 0.0) % self._rotate_s)
        self.stop()
        self._timer = self._scheduler.call_later(min(PERIOD_CHECK_S, self._rotate_s), self._follow_period)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
