"""Run a piece of a test in a network namespace of its own, where it may add addresses and routes.

An ordinary user gets a user namespace as well. Only the loopback interface exists, and it is up. With a mount
namespace too, the piece may put files of its own in the place of the system's.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.forked import in_child

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

NEEDED_IN_ETC = ("group", "ld.so.cache", "passwd", "protocols", "services")
"""What programs look up in /etc when they start."""


def in_network_namespace(function: Callable[[], Any], *, mounts: bool = False) -> Any:
    """What `function` returns when called in a child process in a new namespace; its failure is ours."""

    def enter_and_run() -> Any:
        enter_network_namespace(mounts=mounts)
        return function()

    return in_child(enter_and_run)


def enter_network_namespace(*, mounts: bool = False) -> None:
    """Move this process into a new network namespace with the loopback interface up. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET | (CLONE_NEWNS if mounts else 0) | (CLONE_NEWUSER if uid else 0)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid != 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    if mounts:
        # what is mounted here stays here
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    ip("link", "set", "lo", "up")


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True)


def make_etc(directory: Path, files: Mapping[str, str]) -> Path:
    """A directory to be mounted as /etc: what programs need of the real one, and these files."""
    etc = directory / "etc"
    etc.mkdir()
    for name in NEEDED_IN_ETC:
        if os.path.exists(f"/etc/{name}"):
            shutil.copyfile(f"/etc/{name}", etc / name)
    for name, text in {"nsswitch.conf": "hosts: files dns\n", "hosts": "127.0.0.1 localhost\n", **files}.items():
        (etc / name).write_text(text)
    return etc


def mount_over(source: Path, target: str) -> None:
    """Show one directory in the place of another, in this mount namespace."""
    subprocess.run(["mount", "--bind", str(source), target], check=True)
