"""Run a piece of a test in a network namespace of its own, where it may add addresses and routes.

An ordinary user gets a user namespace as well. Only the loopback interface exists, and it is up.
"""

import ctypes
import os
import subprocess
from collections.abc import Callable
from typing import Any

from tests.forked import in_child

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def in_network_namespace(function: Callable[[], Any]) -> Any:
    """What `function` returns when called in a child process in a new namespace; its failure is ours."""

    def enter_and_run() -> Any:
        enter_network_namespace()
        return function()

    return in_child(enter_and_run)


def enter_network_namespace() -> None:
    """Move this process into a new network namespace with the loopback interface up. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid != 0:
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    ip("link", "set", "lo", "up")


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True)
