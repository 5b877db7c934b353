"""The file of symmetric keys: `ID [TYPE] KEY` lines.

A line that is no good costs only its own key and is told in a warning; the rest of the file counts. Keys are
never shown: not in a message, not in a repr. Bounds: size of the file, number of keys, number of warnings.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Mapping
from enum import StrEnum

from ntpd_fast._record import dataclass, field
from ntpd_fast.config.lexer import LINE_SIZE_MAX, physical_lines
from ntpd_fast.config.words import NotANumber, u32_prefix

FILE_SIZE_MAX = 16 * 1024 * 1024
KEYS_MAX = 100_000
WARNINGS_MAX = 100

_COMMENT_MARKS = b"!;#%"
_HEX_DIGITS = re.compile(rb"(?:[0-9a-fA-F]{2})+\Z")


class KeyType(StrEnum):
    """Hash functions of the MAC, and ciphers of the CMAC."""

    MD5 = "MD5"
    SHA1 = "SHA1"
    SHA256 = "SHA256"
    SHA384 = "SHA384"
    SHA512 = "SHA512"
    SHA3_224 = "SHA3-224"
    SHA3_256 = "SHA3-256"
    SHA3_384 = "SHA3-384"
    SHA3_512 = "SHA3-512"
    TIGER = "TIGER"
    WHIRLPOOL = "WHIRLPOOL"
    AES128 = "AES128"
    AES256 = "AES256"


CIPHER_KEY_SIZES = {KeyType.AES128: 16, KeyType.AES256: 32}
SUPPORTED = frozenset(KeyType) - {KeyType.TIGER, KeyType.WHIRLPOOL}
"""What both the server's and the client's side can compute."""


@dataclass(frozen=True, slots=True)
class SymmetricKey:
    """A key with its number (1..2^32-1). Shorter than 80 bits it is good, but said to be too short."""

    key_id: int
    type: KeyType
    value: bytes = field(repr=False)

    @property
    def is_short(self) -> bool:
        return len(self.value) < 10


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys by their number, and what the reader wants to be told."""

    keys: Mapping[int, SymmetricKey]
    warnings: tuple[str, ...]
    refused: PermissionError | None = None
    """The system did not let us read the file."""


class _BadKey(Exception):
    """Why a line gives no key."""


def read_keyfile(path: str, supported: Collection[KeyType] = SUPPORTED) -> KeyFile:
    """Read a key file. Never raises for what the file holds, nor where it cannot be read."""
    warnings: list[str] = []
    keys: dict[int, SymmetricKey] = {}
    try:
        data, mode = _read(path)
    except PermissionError as error:
        return KeyFile({}, (f"Could not open keyfile {path}",), error)
    except (OSError, ValueError):
        return KeyFile({}, (f"Could not open keyfile {path}",))
    if mode & stat.S_IROTH:
        warnings.append(f"World-readable permissions on {path}")
    if mode & stat.S_IWOTH:
        warnings.append(f"World-writable permissions on {path}")
    if len(data) > FILE_SIZE_MAX:
        warnings.append(f"Ignored what {path} holds beyond {FILE_SIZE_MAX} bytes")
        data = data[: data.rfind(b"\n", 0, FILE_SIZE_MAX) + 1]
    for number, raw, terminated in physical_lines(data):
        words = raw.split()
        if not words or words[0][0] in _COMMENT_MARKS:
            continue
        try:
            if len(raw) + terminated > LINE_SIZE_MAX:
                raise _BadKey("Could not parse key")
            key = _parse(words, supported)
            if key.key_id in keys:
                raise _BadKey(f"Detected duplicate key {key.key_id}")
            if len(keys) >= KEYS_MAX:
                warnings.append(f"Ignored what {path} holds beyond {KEYS_MAX} keys")
                break
            keys[key.key_id] = key
        except _BadKey as problem:
            if len(warnings) < WARNINGS_MAX:
                warnings.append(f"{problem} at line {number} in file {path}")
            elif len(warnings) == WARNINGS_MAX:
                warnings.append(f"More problems of {path} are not shown")
    return KeyFile(keys, tuple(warnings))


def access_warnings(path: str) -> tuple[str, ...]:
    """What to tell of a key file that this process, its rights given up, cannot read again, or could change."""
    warnings = []
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        warnings.append(f"Missing read access to {path} : {error.strerror}")
    if os.access(path, os.W_OK):
        warnings.append(f"Having write access to {path}")
    return tuple(warnings)


def _read(path: str) -> tuple[bytes, int]:
    # Without O_NONBLOCK a FIFO would hold up the daemon until somebody writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return file.read(FILE_SIZE_MAX + 1) or b"", os.fstat(file.fileno()).st_mode


def _parse(words: list[bytes], supported: Collection[KeyType]) -> SymmetricKey:
    if not 2 <= len(words) <= 3:
        raise _BadKey("Could not parse key")
    try:
        key_id, _ = u32_prefix(words[0].decode("ascii", "replace"))
    except NotANumber:
        raise _BadKey("Could not parse key") from None
    if key_id == 0:
        raise _BadKey("Could not parse key")
    try:
        key_type = KeyType(words[1].decode("ascii", "replace")) if len(words) == 3 else KeyType.MD5
    except ValueError:
        raise _BadKey(f"Invalid type in key {key_id}") from None
    value = _decode(words[-1])
    if not value:
        raise _BadKey(f"Could not decode key {key_id}")
    if key_type not in supported:
        raise _BadKey(
            f"Unsupported {'cipher' if key_type in CIPHER_KEY_SIZES else 'hash function'} in key {key_id}"
        )
    size = CIPHER_KEY_SIZES.get(key_type, len(value))
    if len(value) != size:
        raise _BadKey(f"Invalid length of {key_type} key {key_id} (expected {8 * size} bits)")
    return SymmetricKey(key_id, key_type, value)


def _decode(word: bytes) -> bytes:
    """The key a word stands for; empty where it stands for none."""
    if word.startswith(b"HEX:"):
        digits = word[4:]
        return bytes.fromhex(digits.decode("ascii")) if _HEX_DIGITS.match(digits) else b""
    return word.removeprefix(b"ASCII:")
