"""State files: written whole or not at all, read with a bound and only when they are plain files.

A state file comes back after a crash, from an older daemon or from somebody's editor: what reads it must survive
anything in it, a pipe or a device in its place included.
"""

from __future__ import annotations

import contextlib
import os
import stat


def write_atomically(path: str, data: bytes, mode: int, *, durable: bool = True) -> None:
    """Replace `path` by a file of exactly `mode`: written as `path.tmp`, synced, renamed. OSError as it comes.

    Not `durable`: not synced, for many files that are checked when read and missed by nobody after a power cut.
    """
    temporary = path + ".tmp"
    # never through a link somebody left there, and never with the mode of a file that was there before
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def read_bounded(path: str, size_max: int) -> tuple[bytes, os.stat_result]:
    """A plain file of at most `size_max` bytes and its status. OSError as it comes; ValueError for anything else."""
    # a pipe would block an open without O_NONBLOCK
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a plain file")
        data = stream.read(size_max + 1)
    if len(data) > size_max:
        raise ValueError(f"longer than {size_max} bytes")
    return data, status
