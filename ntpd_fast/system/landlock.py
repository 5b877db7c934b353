"""Path rules (Landlock): a process keeps only what it was told to keep of the file system.

Kernels learn new rights over time; what this one does not know is not asked for. All functions act on the calling
process and on what it will start, and need no privilege but `no_new_privs`.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# asm-generic/unistd.h: the same on every architecture
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
# linux/landlock.h
_GET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_MAKE_SOCK: Final = 1 << 9
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_FS_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_FILE_RIGHTS: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NET_BIND_TCP: Final = 1
_NET_CONNECT_TCP: Final = 2
_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1
_SCOPE_SIGNAL: Final = 2
_ABI_NET: Final = 4
_ABI_SCOPE: Final = 6

READ: Final = _READ_FILE | _READ_DIR
STATE: Final = (
    READ | _WRITE_FILE | _REMOVE_FILE | _REMOVE_DIR | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _REFER | _TRUNCATE
)
"""What keeping files in a directory takes."""
DEVICE: Final = READ | _WRITE_FILE | _IOCTL_DEV


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "landlock")
    return result


def abi() -> int:
    """What this kernel offers: 0 nothing (too old, or switched off), else the version of the interface."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_GET_VERSION))
    except OSError:
        return 0


def restrict(paths: Iterable[tuple[str, int]], *, secluded: bool = False) -> None:
    """Keep only the rights given for these paths and what is beneath them; no program can be executed any more.

    A path that does not exist gives nothing. `secluded`: no TCP connection is made nor port opened, and no process
    outside is sent a signal. Raises OSError.
    """
    version = abi()
    rights = _FS_RIGHTS[min(version, max(_FS_RIGHTS))]
    ruleset = _Ruleset(rights, 0, 0)
    size = 8
    if version >= _ABI_NET:
        size = 16
        ruleset.net = _NET_BIND_TCP | _NET_CONNECT_TCP if secluded else 0
    if version >= _ABI_SCOPE:
        size = 24
        ruleset.scoped = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if secluded else 0
    made = _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path, allowed in paths:
            _allow(made, path, allowed & rights)
        _call(_RESTRICT_SELF, ctypes.c_int(made), ctypes.c_uint32(0))
    finally:
        os.close(made)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            allowed &= _FILE_RIGHTS
        rule = _PathBeneath(allowed, opened)
        kind, flags = ctypes.c_int(_RULE_PATH_BENEATH), ctypes.c_uint32(0)
        _call(_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(rule), flags)
    finally:
        os.close(opened)
