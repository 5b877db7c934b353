"""The pid file: at most one daemon runs with it, and nothing it could be swapped for is followed or overwritten.

The file appears under its name complete and locked (written aside, then linked: `link` never overwrites), and an
existing one is only ever read, checked and unlinked, never written. So a symbolic link, a hard link to someone else's
file or a fifo planted in its place does no harm. The lock tells our own instances; the pid in the file tells chronyd's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

from ntpd_fast.system.errors import FatalError

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_TRIES = 5
# linux/threads.h: PID_MAX_LIMIT on 64-bit machines
_PID_MAX = 4 * 1024 * 1024


class PidFile:
    """A pid file held by this process until `remove`."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: str, program: str) -> PidFile:
        """Write our pid to `path`.

        Raises FatalError when another daemon may be running (`Another PROGRAM may already be running (pid=N), check
        PATH`) or the file cannot be made.
        """
        for _ in range(_TRIES):
            _clear_stale(path, program)
            try:
                return cls(path, _publish(path))
            except FileExistsError:
                continue  # someone was faster: look who
            except OSError as error:
                raise FatalError(f"Could not open {path} : {error.strerror}") from error
        raise FatalError(f"Could not open {path} : {os.strerror(errno.EEXIST)}")

    def remove(self) -> None:
        """Take the file away if it still is ours. Where the directory forbids it, empty it: that reads as stale.

        Raises OSError when even that fails.
        """
        ours = os.fstat(self._descriptor)
        try:
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(self.path)
                if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                    try:
                        os.unlink(self.path)
                    except PermissionError:
                        os.ftruncate(self._descriptor, 0)
        finally:
            os.close(self._descriptor)


def _publish(path: str) -> int:
    """Link a complete, locked file to `path`; the descriptor that holds the lock. Raises FileExistsError, OSError."""
    aside = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside)
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.link(aside, path, follow_symlinks=False)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        os.unlink(aside)
    return descriptor


def _clear_stale(path: str, program: str) -> None:
    """Unlink a file left by a daemon that is gone. Raises FatalError when one may be running."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FatalError(f"Could not open {path} : {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FatalError(f"Could not open {path} : not a regular file")
        pid = _pid_in(os.read(descriptor, 64))
        try:
            # Held while we look and unlink: of two that start at once only one clears the file.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _already_running(program, pid, path) from None
        if pid is not None and pid != os.getpid() and _is_alive(pid):
            raise _already_running(program, pid, path)
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
                os.unlink(path)
    except OSError as error:
        raise FatalError(f"Could not remove {path} : {error.strerror}") from error
    finally:
        os.close(descriptor)


def _already_running(program: str, pid: int | None, path: str) -> FatalError:
    return FatalError(f"Another {program} may already be running (pid={pid or 0}), check {path}")


def _pid_in(content: bytes) -> int | None:
    text = content.strip()
    return int(text) if text.isdigit() and len(text) <= 7 and 0 < int(text) <= _PID_MAX else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
