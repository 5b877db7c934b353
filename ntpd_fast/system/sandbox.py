"""What a process of ours is closed into once it has opened everything: path rules and a system call filter.

One option of the daemon decides (`-F`, default 0: nothing is closed). Whatever a process cannot be denied by the
kernel it runs on is told once, at the start; what is asked for and cannot be had at all is fatal.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Final

from ntpd_fast._record import dataclass, field
from ntpd_fast.system import landlock, privileges, seccomp
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.syscalls import Kind

log = logging.getLogger(__name__)

# These know no name, make no connection and tell nobody anything: only their clients.
_SECLUDED: Final = (Kind.WORKER, Kind.NTS_KE)


@dataclass(frozen=True, slots=True)
class Paths:
    """`readable`: files and directories to read; `writable`: directories to keep files in; `devices`: to be used."""

    readable: Sequence[str] = ()
    writable: Sequence[str] = ()
    devices: Sequence[str] = ()

    def rules(self) -> list[tuple[str, int]]:
        return [
            *((path, landlock.READ) for path in self.readable),
            *((path, landlock.STATE) for path in self.writable),
            *((path, landlock.DEVICE) for path in self.devices),
        ]


@dataclass(slots=True)
class Sandbox:
    """`level`: of `-F`. `paths`: what each kind of process keeps of the file system, nothing where it is missing."""

    level: int = 0
    paths: Mapping[Kind, Paths] = field(default_factory=dict)
    _has_landlock: bool = False
    _filters: dict[Kind, seccomp.Filter] = field(default_factory=dict)

    def prepare(self) -> None:
        """Load what is needed, before any process is closed in. Raises FatalError when there can be no filter."""
        if self.level == 0:
            return
        library = seccomp.open_library()
        try:
            self._filters = {kind: seccomp.Filter(library, kind, self.level) for kind in Kind}
        except OSError as error:
            raise FatalError(f"Could not make a system call filter : {error.strerror}") from error
        self._has_landlock = landlock.abi() > 0
        if not self._has_landlock:
            log.info("This kernel has no path rules (Landlock): files are protected by their permissions alone")

    def close_in(self, kind: Kind) -> None:
        """Confine this process as one of `kind`, for good. Raises FatalError."""
        if self.level == 0:
            return
        try:
            privileges.forbid_new_privileges()
            if self._has_landlock:
                paths = self.paths.get(kind, Paths())
                landlock.restrict(paths.rules(), secluded=kind in _SECLUDED)
            self._filters[kind].load()
        except OSError as error:
            raise FatalError(f"Could not close in a {kind.value} process : {error.strerror}") from error

    def may_write_in(self, kind: Kind, directory: str) -> bool:
        """Whether a process of this kind may keep files in a directory, as far as it depends on path rules."""
        if not (self.level and self._has_landlock):
            return True
        path = os.path.realpath(directory)
        allowed = (os.path.realpath(name) for name in self.paths.get(kind, Paths()).writable)
        return any(os.path.commonpath((path, name)) == name for name in allowed)

    def announce(self) -> None:
        """The line that admins know."""
        if self.level:
            log.info("Loaded seccomp filter (level %d)", self.level)


def directories_of(*paths: str | None) -> tuple[str, ...]:
    """The directories that files (None: there is none) are kept in, each once; through links, too."""
    found: dict[str, None] = {}
    for path in paths:
        if path:
            for name in (path, os.path.realpath(path)):
                found[os.path.dirname(name) or "."] = None
    return tuple(found)
