"""Users, capabilities and the other things a process may do: taken away step by step, never given back.

Everything goes through symbols of the C library (`CDLL(None)`: `find_library` would fork a compiler), so that a
library loaded in front of it sees every call. All functions act on the calling process, which has one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import pwd
import resource
import signal
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from ntpd_fast._record import dataclass
from ntpd_fast.system.errors import FatalError

_libc: Final = ctypes.CDLL(None, use_errno=True)

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
# linux/capability.h, version 3: two 32-bit words of each set
_CAPABILITY_VERSION_3: Final = 0x20080522
# bits/mman-linux.h
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2


class Capability(enum.IntEnum):
    """The capabilities this daemon may ask for; numbers of linux/capability.h."""

    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13
    IPC_LOCK = 14
    SYS_NICE = 23
    SYS_TIME = 25
    SYS_RESOURCE = 24


@dataclass(frozen=True, slots=True)
class User:
    """Whom to run as."""

    name: str
    uid: int
    gid: int


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def find_user(name: str) -> User:
    """The user called `name`. Raises FatalError when there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise FatalError(f"Could not get user/group ID of {name}") from None
    return User(name, entry.pw_uid, entry.pw_gid)


def _get_sets() -> ctypes.Array[_Sets]:
    sets = (_Sets * 2)()
    header = _Header(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capget(ctypes.byref(header), sets), "capget")
    return sets


def _mask(low: int, high: int) -> int:
    return low | high << 32


def permitted() -> int:
    """The permitted capabilities of this process, one bit each."""
    sets = _get_sets()
    return _mask(sets[0].permitted, sets[1].permitted)


def has_capability(capability: Capability) -> bool:
    """Whether the capability is in effect."""
    sets = _get_sets()
    return bool(_mask(sets[0].effective, sets[1].effective) >> capability & 1)


def keep_capabilities(keep: Collection[Capability]) -> None:
    """Reduce permitted and effective to those of `keep` that we have; clear inheritable (and so ambient)."""
    kept = permitted() & sum(1 << capability for capability in set(keep))
    sets = (_Sets * 2)()
    for word, part in enumerate((kept & 0xFFFFFFFF, kept >> 32)):
        sets[word] = _Sets(part, part, 0)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(ctypes.byref(header), sets), "capset")


def drop_to(user: User, keep: Collection[Capability]) -> None:
    """Become `user` for good, with its groups, keeping only `keep`.

    Nothing happens for a process that already is that user except that capabilities are reduced when it is not root.
    """
    if os.geteuid() != user.uid:
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
        os.initgroups(user.name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0), "PR_SET_KEEPCAPS")
    if user.uid != 0:
        keep_capabilities(keep)


@contextlib.contextmanager
def files_as(user: User | None) -> Iterator[None]:
    """Within: files and sockets are made as `user` (None: as ourselves).

    A reuseport group takes only sockets of one owner, so the sockets opened by root at the start have to belong to
    the user that adds to the group later.
    """
    if user is None or os.geteuid() != 0:
        yield
        return
    # setfsuid reports nothing: asking again with an id that cannot exist returns the one in force
    old_gid = _libc.setfsgid(user.gid)
    old_uid = _libc.setfsuid(user.uid)
    try:
        if _libc.setfsuid(-1) != user.uid or _libc.setfsgid(-1) != user.gid:
            raise FatalError(f"Could not act as user {user.name}")
        yield
    finally:
        _libc.setfsuid(old_uid)
        _libc.setfsgid(old_gid)


def may_read(user: User, paths: Iterable[str]) -> bool:
    """Whether `user` can read files and list directories, all of them."""
    try:
        with files_as(user):
            for path in paths:
                os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def name_process(name: str) -> None:
    """What `ps`, `top` and `pgrep` show for this process; up to 15 bytes of it."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0), "prctl")


def forbid_new_privileges() -> None:
    """No program this process or its children execute can gain privileges."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def die_with_parent(number: signal.Signals, parent: int) -> bool:
    """Have the kernel send us `number` when our parent dies; False when process `parent` is gone already.

    To be called after every change of user or capability: those clear it.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0), "PR_SET_PDEATHSIG")
    return os.getppid() == parent


def lock_memory() -> None:
    """Keep all present and future memory of this process out of swap (`lock_all`, `-m`)."""
    _check(_libc.mlockall(_MCL_CURRENT | _MCL_FUTURE), "mlockall")


def raise_memory_lock_limit() -> None:
    """Let this process and its children lock as much as they like, where we may allow it."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def leave_realtime() -> None:
    """The ordinary scheduling policy again."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def set_realtime_priority(priority: int) -> None:
    """SCHED_FIFO with `priority` 1–99 (`sched_priority`, `-P`). Raises FatalError out of range or if it is refused."""
    if not 1 <= priority <= 99:
        raise FatalError(f"Bad scheduler priority: {priority}")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        raise FatalError(f"Could not set real-time priority {priority} : {error.strerror}") from error
