"""System call filters (`-F`), put together by libseccomp.

The library is loaded by its name, not looked for (`find_library` runs programs), and before anything is confined.
Levels are chrony's: 1 allows a list, 2 forbids a list, 0 is none. A forbidden call ends the process as SIGSYS would; a
negative level sends the signal, which first writes where in our code the call was made.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import faulthandler
import os
import signal
from typing import Final

from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.syscalls import (
    ALL_BITS,
    ALLOWED,
    CONDITIONS,
    FORBIDDEN,
    FORKS_FORBIDDEN,
    REFUSED,
    REFUSED_AT_LEVEL_1,
    Kind,
    Only,
)

LIBRARY: Final = "libseccomp.so.2"

# seccomp.h
_ACT_KILL_PROCESS: Final = 0x80000000
_ACT_TRAP: Final = 0x00030000
_ACT_ERRNO: Final = 0x00050000
_ACT_ALLOW: Final = 0x7FFF0000
_CMP_MASKED_EQ: Final = 7
_NR_ERROR: Final = -1
_STDERR: Final = 2


class _Attribute(enum.IntEnum):
    """enum scmp_filter_attr"""

    BAD_ARCHITECTURE = 2
    ALL_THREADS = 4
    SPECULATION_STAYS = 7
    OPTIMIZE = 8


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def open_library(name: str | None = None) -> ctypes.CDLL:
    """libseccomp. Raises FatalError when it is not installed."""
    try:
        library = ctypes.CDLL(name or LIBRARY)
    except OSError as error:
        raise FatalError(f"Could not load {name or LIBRARY}, which -F needs : {error}") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_load.argtypes = (ctypes.c_void_p,)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    )
    return library


class Filter:
    """The filter of one kind of process at one level (-2, -1, 1 or 2). Made at any time; `load` is final."""

    def __init__(self, library: ctypes.CDLL, kind: Kind, level: int) -> None:
        self._library = library
        self._kind = kind
        self._forbid = _ACT_KILL_PROCESS if level > 0 else _ACT_TRAP
        self._explains = level < 0
        self._allows = abs(level) == 1
        self._context = library.seccomp_init(self._forbid if self._allows else _ACT_ALLOW)
        if not self._context:
            raise FatalError("Could not make a system call filter")
        self._set(_Attribute.BAD_ARCHITECTURE, self._forbid)
        self._set(_Attribute.ALL_THREADS, 1)
        # Older libraries have neither. Without the first, kernels before 5.16 slow every branch of the process down.
        with contextlib.suppress(OSError):
            self._set(_Attribute.SPECULATION_STAYS, 1)
        with contextlib.suppress(OSError):
            self._set(_Attribute.OPTIMIZE, 2)
        refused = dict(REFUSED)
        if self._allows:
            refused |= REFUSED_AT_LEVEL_1[kind]
        for name, error in refused.items():
            self._rule(_ACT_ERRNO | error, name)
        if self._allows:
            for name in ALLOWED[kind]:
                self._rule(_ACT_ALLOW, name, CONDITIONS[kind].get(name))
        else:
            for name in FORBIDDEN[kind]:
                self._rule(self._forbid, name)
            if kind is not Kind.SUPERVISOR:
                self._rule(self._forbid, "clone", FORKS_FORBIDDEN)

    def _set(self, attribute: _Attribute, value: int) -> None:
        _check(self._library.seccomp_attr_set(self._context, attribute, value))

    def _rule(self, action: int, name: str, only: Only | None = None) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == _NR_ERROR:
            return  # newer than the library
        if only is None:
            _check(self._library.seccomp_rule_add_array(self._context, action, number, 0, None))
            return
        for value in only.values:
            comparison = _Comparison(only.argument, _CMP_MASKED_EQ, only.mask, value)
            _check(self._library.seccomp_rule_add_array(self._context, action, number, 1, ctypes.byref(comparison)))

    def load(self) -> None:
        """Confine this process, and all it will ever start. Raises OSError."""
        if self._allows and "tgkill" not in ALLOWED[self._kind]:
            # abort() and raise(), in this process
            self._rule(_ACT_ALLOW, "tgkill", Only(0, ALL_BITS, (os.getpid(),)))
        if self._explains:
            faulthandler.register(signal.SIGSYS, file=_STDERR, all_threads=False, chain=True)
        _check(self._library.seccomp_load(self._context))

    def close(self) -> None:
        """Give the memory back; what is loaded stays in force."""
        self._library.seccomp_release(self._context)
        self._context = None


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result), "seccomp")
