"""Files with the keys and cookies of NTS sources (`<ntsdumpdir>/<KE address>.nts`), in chrony's format (nts.md §6).

A file is used once: it is removed when it is read, so that a cookie is never sent twice because of an old copy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from ipaddress import ip_address

from ntpd_fast._aead import key_size
from ntpd_fast.client.nts_auth import NtsState
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.nts.records import COOKIE_MAX, COOKIES
from ntpd_fast.system.files import read_bounded, write_atomically

SIGNATURE = "NNC0"
# five lines with a name of at most 255 characters, then cookies in hexadecimal
FILE_SIZE_MAX = 1024 + COOKIES * (2 * COOKIE_MAX + 1)
_HEX = frozenset("0123456789abcdefABCDEF")


class DumpError(ValueError):
    """A file that cannot be used; the text says why, without its contents."""


def path_of(directory: str, ke_address: IPAddress) -> str:
    return os.path.join(directory, f"{ke_address}.nts")


def format_dump(state: NtsState) -> bytes:
    """The contents of a file."""
    lines = [
        SIGNATURE,
        state.name,
        f"{state.established_s:.1f}",
        f"{state.ntp_address} {state.ntp_port}",
        f"{state.context_id} {state.algorithm} {state.s2c.hex().upper()} {state.c2s.hex().upper()}",
        *(cookie.hex().upper() for cookie in state.cookies),
    ]
    return "".join(line + "\n" for line in lines).encode("ascii")


def parse_dump(data: bytes) -> NtsState:
    """What a file says. Raises DumpError for anything that is not exactly as it has to be."""
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise DumpError("not a text") from error
    if lines[0] != SIGNATURE:
        raise DumpError(f"does not start with {SIGNATURE}")
    if not 7 <= len(lines) <= 6 + COOKIES or lines[-1]:
        raise DumpError(f"has to have 6 to {5 + COOKIES} lines")
    _, name, established, server, keys, *cookies = lines[:-1]
    if not name or len(name) > 255 or not all("!" <= c <= "~" for c in name):
        raise DumpError("no name in line 2")
    address, port = _parse_server(server.split(" "))
    context_id, algorithm, s2c, c2s = _parse_keys(keys.split(" "))
    return NtsState(
        name,
        _parse_time(established),
        address,
        port,
        context_id,
        algorithm,
        s2c,
        c2s,
        tuple(_parse_cookie(cookie, number) for number, cookie in enumerate(cookies, start=6)),
    )


def _parse_time(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DumpError("no time in line 3") from error
    if not math.isfinite(value):
        raise DumpError("no time in line 3")
    return value


def _parse_server(words: Sequence[str]) -> tuple[IPAddress, int]:
    try:
        [address, port] = words
        if not (port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
            raise ValueError
        return ip_address(address), int(port)
    except ValueError as error:
        raise DumpError("no address and port in line 4") from error


def _parse_keys(words: Sequence[str]) -> tuple[int, int, bytes, bytes]:
    numbers = words[:2]
    if len(words) != 4 or not all(word.isdecimal() and len(word) <= 10 for word in numbers):
        raise DumpError("no keys in line 5")
    context_id, algorithm = (int(word) for word in numbers)
    size = key_size(algorithm)
    if not size or context_id > 0xFFFFFFFF:
        raise DumpError("no keys in line 5")
    if not all(len(word) == 2 * size and _HEX.issuperset(word) for word in words[2:]):
        raise DumpError("no keys in line 5")
    return context_id, algorithm, bytes.fromhex(words[2]), bytes.fromhex(words[3])


def _parse_cookie(text: str, number: int) -> bytes:
    if not 8 <= len(text) <= 2 * COOKIE_MAX or len(text) % 8 or not _HEX.issuperset(text):
        raise DumpError(f"no cookie in line {number}")
    return bytes.fromhex(text)


def save(directory: str, ke_address: IPAddress, state: NtsState) -> None:
    """Write the file of a source. OSError as it comes."""
    write_atomically(path_of(directory, ke_address), format_dump(state), 0o600)


def load(directory: str, ke_address: IPAddress) -> NtsState | None:
    """Read and remove the file of a source; None when there is none. OSError as it comes, DumpError."""
    path = path_of(directory, ke_address)
    try:
        data, _ = read_bounded(path, FILE_SIZE_MAX)
    except FileNotFoundError:
        return None
    except OSError:
        raise
    except ValueError as error:
        raise DumpError(str(error)) from error
    os.unlink(path)
    return parse_dump(data)
