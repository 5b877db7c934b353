"""`keygen`: a line for the key file."""

import os

from . import arguments as arg
from .session import CommandError, Session

_ID_DEFAULT, _TYPE_DEFAULT, _BITS_DEFAULT = 1, "SHA1", 160
# What the daemon can authenticate with, and chronyd builds with a cryptographic library can.
_HASHES = ("MD5", "SHA1", "SHA256", "SHA384", "SHA512", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512")
_CIPHER_LENGTHS = {"AES128": 16, "AES256": 32}
# Bytes of a hash's key.
_LENGTH_MIN, _LENGTH_MAX = 10, 512


def keygen(session: Session, rest: str) -> None:
    words = rest.split()
    syntax = CommandError("Invalid syntax for keygen command")
    if len(words) > 3:
        raise syntax
    number = arg.unsigned(words[0]) if words else _ID_DEFAULT
    kind = words[1] if len(words) > 1 else _TYPE_DEFAULT
    bits = arg.integer(words[2]) if len(words) > 2 else _BITS_DEFAULT
    if number is None or bits is None:
        raise syntax
    if kind in _HASHES:
        length = min(max((bits + 7) // 8, _LENGTH_MIN), _LENGTH_MAX)
    elif kind in _CIPHER_LENGTHS:
        length = _CIPHER_LENGTHS[kind]
    else:
        raise CommandError(f"Unknown hash function or cipher {kind}")
    session.output.value("key", f"{number} {kind} HEX:{os.urandom(length).hex().upper()}")
