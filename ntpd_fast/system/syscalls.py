"""Which system calls each kind of process may make: tables, and nothing else.

Names are Linux's; a kernel or an architecture that does not have one leaves it out. Three things can become of a call:
it is allowed, it is refused with an error that its caller lives with, or it is forbidden and ends the process.

Level 1 allows only what is listed here. Level 2 forbids only what no daemon of ours has any business with. Filters add
up: the supervisor's is inherited by every other process, so it allows what any of them needs.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from typing import Final

from ntpd_fast._record import dataclass


class Kind(enum.Enum):
    """The kinds of processes. With `workers 0` control is the whole daemon."""

    SUPERVISOR = "supervisor"
    CONTROL = "control"
    WORKER = "worker"
    NTS_KE = "nts-ke"


@dataclass(frozen=True, slots=True)
class Only:
    """Allowed where `argument & mask` is one of `values`; arguments count from 0."""

    argument: int
    mask: int
    values: tuple[int, ...]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALL_BITS: Final = 0xFFFFFFFF
CLONE_THREAD: Final = 0x00010000
PROT_EXEC: Final = 0x4
O_WRITES: Final = 0o3 | 0o100 | 0o1000  # O_ACCMODE, O_CREAT, O_TRUNC
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16

# What the interpreter, its memory management and the C library do in any process.
_RUNTIME: Final = _names(
    """
    brk madvise mmap mprotect mremap munmap futex membarrier rseq sched_yield set_robust_list get_robust_list
    restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigtimedwait sigaltstack
    clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time getegid geteuid getgid getpid getppid
    getrandom gettid getuid close fstat newfstatat lseek pread64 read readv write writev epoll_ctl epoll_pwait
    epoll_pwait2 epoll_wait poll ppoll pselect6 select exit exit_group
    """
)

# Sockets that are open already.
_SOCKETS: Final = _names(
    """
    connect getpeername getsockname getsockopt recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt
    """
)

# Reading a file whose path is known.
_READING: Final = _names(
    """
    access faccessat faccessat2 fadvise64 open openat readlink readlinkat stat lstat
    """
)

_CONTROL: Final = _names(
    """
    accept accept4 bind listen shutdown socket socketpair chdir chmod chown dup dup2 dup3 epoll_create1 eventfd2
    fallocate fchmod fchmodat fchown fchownat fcntl fdatasync flock fstatfs fsync ftruncate getcwd getdents64 ioctl
    lchown link linkat mkdir mkdirat pipe2 pwrite64 rename renameat renameat2 rmdir statfs statx symlink
    timerfd_create timerfd_gettime timerfd_settime truncate umask unlink unlinkat utimensat close_range memfd_create
    mincore mlock mlock2 mlockall munlock munlockall msync adjtimex clock_adjtime clock_settime settimeofday shmat
    shmctl shmdt shmget capget capset getgroups getpriority getresgid getresuid getrlimit getrusage prctl prlimit64
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler sched_setparam
    sched_setscheduler setpriority setrlimit clone set_tid_address sysinfo times uname
    """
)

# Starting, confining, watching and ending the others.
_SUPERVISING: Final = _names(
    """
    fork kill tgkill pidfd_open pidfd_send_signal setfsgid setfsuid tkill vfork wait4 waitid seccomp landlock_add_rule
    landlock_create_ruleset landlock_restrict_self sched_setaffinity
    """
)

ALLOWED: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.WORKER: _RUNTIME | _SOCKETS,
    Kind.NTS_KE: _RUNTIME | _SOCKETS | _READING | _names("accept accept4 fcntl ioctl shutdown"),
    Kind.CONTROL: _RUNTIME | _SOCKETS | _READING | _CONTROL,
    Kind.SUPERVISOR: _RUNTIME | _SOCKETS | _READING | _CONTROL | _SUPERVISING,
}

_ONLY_DATA: Final = {"mmap": Only(2, PROT_EXEC, (0,)), "mprotect": Only(2, PROT_EXEC, (0,))}
_ONLY_THREADS: Final = {"clone": Only(0, CLONE_THREAD, (CLONE_THREAD,))}
_ONLY_FAMILIES: Final = {"socket": Only(0, ALL_BITS, (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK))}

CONDITIONS: Final[Mapping[Kind, Mapping[str, Only]]] = {
    Kind.WORKER: _ONLY_DATA,
    Kind.NTS_KE: {
        **_ONLY_DATA,
        # TCGETS, FIONBIO, FIOCLEX: what opening a file and a socket that never blocks take
        "ioctl": Only(1, ALL_BITS, (0x5401, 0x5421, 0x5451)),
        "open": Only(1, O_WRITES, (0,)),
        "openat": Only(2, O_WRITES, (0,)),
    },
    Kind.CONTROL: {**_ONLY_THREADS, **_ONLY_FAMILIES},
    Kind.SUPERVISOR: _ONLY_FAMILIES,
}
"""Level 1: of these calls only some forms are allowed."""

# A worker opens no file. A traceback of ours would like to quote its source, and gets on without it.
_NO_FILES: Final = dict.fromkeys(("open", "openat", "openat2", "readlink", "readlinkat", "stat", "lstat"), errno.EACCES)

REFUSED: Final[Mapping[str, int]] = {
    # libuv goes back to epoll, the C library to clone, whose arguments a filter can see
    **dict.fromkeys(("io_uring_setup", "io_uring_enter", "io_uring_register"), errno.ENOSYS),
    "clone3": errno.ENOSYS,
}
"""Any level and kind: refused with this error."""

REFUSED_AT_LEVEL_1: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.WORKER: {**_NO_FILES, "socket": errno.EACCES},
    Kind.NTS_KE: {"openat2": errno.ENOSYS, "statx": errno.ENOSYS, "socket": errno.EACCES},
    Kind.CONTROL: {"openat2": errno.ENOSYS},
    Kind.SUPERVISOR: {"openat2": errno.ENOSYS},
}

_NEVER: Final = _names(
    """
    execve execveat ptrace process_madvise process_vm_readv process_vm_writev kcmp userfaultfd bpf perf_event_open
    mount move_mount fsopen fsconfig fsmount fspick open_tree mount_setattr umount2 pivot_root chroot unshare setns
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl nfsservctl
    add_key keyctl request_key name_to_handle_at open_by_handle_at iopl ioperm modify_ldt vhangup sethostname
    setdomainname syslog
    """
)

FORBIDDEN: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.SUPERVISOR: _NEVER,
    Kind.CONTROL: _NEVER | {"fork", "vfork"},
    Kind.WORKER: _NEVER | {"fork", "vfork"},
    Kind.NTS_KE: _NEVER | {"fork", "vfork"},
}
"""Level 2. `clone` without CLONE_THREAD is a fork: forbidden to all but the supervisor."""

FORKS_FORBIDDEN: Final = Only(0, CLONE_THREAD, (0,))
