"""Everything that is opened or made before the daemon drops its rights and divides itself into processes.

All of it is inherited by forks and outlives any of them: a process that is started again finds the same sockets and
the same memory. What cannot be had is a FatalError, and then nothing is left open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ntpd_fast._record import dataclass, field, replace
from ntpd_fast.config import Config, read_keyfile
from ntpd_fast.config.diff import compare
from ntpd_fast.config.keyfile import SymmetricKey
from ntpd_fast.control.journalmemory import Reloads, make_memory
from ntpd_fast.control.plan import (
    MemoryPlan,
    Plan,
    bind_addresses,
    command_socket_plan,
    make_plan,
    plan_memory,
    workers_possible,
)
from ntpd_fast.control.reload import Change, Reader, Reading, Running, cpus
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.monitor.sockets import CommandSocket
from ntpd_fast.monitor.sockets import open_sockets as open_command_sockets
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.shared import Shared
from ntpd_fast.server.sockets import BindAddress, NtpSockets, open_sockets
from ntpd_fast.system.errors import FatalError, why
from ntpd_fast.system.eventloop import load_without_tls
from ntpd_fast.system.listen_fds import HandedOver
from ntpd_fast.system.privileges import User
from ntpd_fast.system.sandbox import Sandbox
from ntpd_fast.system.syscalls import Kind

if TYPE_CHECKING:
    from ntpd_fast.control.nts import NtsSetup

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Setup:
    """`user`: whom everything but the start runs as. `workers`: how many there are (0: control answers)."""

    config: Config
    run: RunOptions
    plan: Plan
    memory: MemoryPlan
    user: User
    shared: Shared
    ntp_sockets: NtpSockets
    command_sockets: list[CommandSocket]
    keys: Mapping[int, SymmetricKey] = field(repr=False)
    workers: int
    associations: list[tuple[socket.socket, socket.socket]]
    """One for each worker there may be, by which it hands control the packets of its associations: control's end, the
    worker's end."""
    reader: Reader
    """Reads the configuration again."""
    nts: NtsSetup | None = None
    sandbox: Sandbox = field(default_factory=Sandbox)
    """What each process is closed into once it has opened everything."""
    journal: int | None = None
    """The descriptor of what commands have changed (`journal.Journal`), where there is a supervisor to keep it."""
    reloads: Reloads = field(default_factory=Reloads)
    log_blocks: int = 0
    """Blocks in which each worker keeps its clients; 0 with `noclientlog`."""
    families: frozenset[int] | None = None
    """Address families (4, 6) to be served as commands have left the access rules; None: as the configuration says."""

    @property
    def running(self) -> Running:
        """What cannot change any more."""
        workers_max = self.shared.parts if self.associations else 0
        groups = self.ntp_sockets.groups
        fixed = bool(groups) and all(group.handed_over for group in groups)
        return Running(
            self.workers,
            workers_max,
            fixed,
            self.nts.binds if self.nts is not None else None,
            lambda directory: self.sandbox.may_write_in(Kind.CONTROL, directory),
        )

    def wanted_binds(self, config: Config) -> list[BindAddress]:
        """Where to listen with another configuration, or this one. What commands have said goes with its rules.

        Sockets handed over stay while the configuration wants them: what a command closes, another one is to open.
        """
        configured = bind_addresses(config, self.run, AccessTable.from_rules(config.access).any_allowed)
        if self.families is None or config.access != self.config.access:
            return list(configured)
        binds = list(bind_addresses(config, self.run, self.families.__contains__))
        kept = [group.bind for group in self.ntp_sockets.groups if group.inherited and group.bind in configured]
        return binds + [bind for bind in kept if bind not in binds]

    def adopt(self, change: Change, reading: Reading) -> None:
        """Let a changed configuration be the one that runs."""
        if change.config.access != self.config.access:
            self.families = None
        self.reloads.add(compare(self.config, change.config).fields)
        self.config = change.config
        self.plan = replace(self.plan, access=reading.plan.access)
        if reading.keys is not None:
            self.keys = reading.keys

    @property
    def ke_processes(self) -> int:
        """NTS-KE processes beside the others; with none, control exchanges keys itself if there is `nts`."""
        return self.nts.processes if self.nts is not None else 0

    def close(self) -> None:
        """Close everything and remove the command sockets; for the last process only."""
        for command_socket in self.command_sockets:
            # The directory may no longer be ours to write in: then the name stays, with nobody behind it.
            with contextlib.suppress(OSError):
                command_socket.close()
        self.ntp_sockets.close()
        if self.nts is not None:
            self.nts.close()
        for pair in self.associations:
            for end in pair:
                end.close()
        if self.journal is not None:
            os.close(self.journal)


def open_setup(config: Config, reader: Reader, user: User, handed_over: HandedOver) -> Setup:
    """Decide and open. Raises FatalError."""
    run = reader.run
    plan = make_plan(config, run, cpus=cpus())
    ntp_sockets = open_sockets(plan.binds, plan.workers, plan.socket_options, user, handed_over)
    nts = _open_nts(config, plan, handed_over)
    make_state_directories(config, user)
    handed_over.close_rest()
    # Sockets handed over decide how many workers there are.
    workers = ntp_sockets.workers
    workers_max = workers_possible(workers, cpus(), locked=run.lock_memory)
    memory = plan_memory(
        config, workers, _memory_bytes(), plan.nts if nts is not None else None, workers_max=workers_max
    )
    for warning in memory.warnings:
        log.warning("%s", warning)
    try:
        shared = Shared.create(memory.shared)
        associations = [_association_pair() for _ in range(workers_max)]
        journal = make_memory() if workers or (nts is not None and nts.processes) else None
    except OSError as error:
        ntp_sockets.close()
        if nts is not None:
            nts.close()
        raise FatalError(f"Could not make shared memory : {error.strerror}") from error
    keys = _read_keys(config)
    command_sockets = open_command_sockets(
        command_socket_plan(config, run, user.uid, user.gid), lambda text: log.error("%s", text)
    )
    return Setup(
        config, run, plan, memory, user, shared, ntp_sockets, command_sockets, keys, workers, associations, reader, nts,
        journal=journal, log_blocks=memory.shared.log_blocks,
    )  # fmt: skip


def _open_nts(config: Config, plan: Plan, handed_over: HandedOver) -> NtsSetup | None:
    """The NTS server, where there is to be one: only then is its code loaded."""
    if plan.nts is None:
        return None
    load_without_tls()
    from ntpd_fast.control.nts import open_nts

    return open_nts(config, plan.nts, handed_over)


def make_state_directories(config: Config, user: User) -> None:
    """The directories that a configuration wants files of ours in."""
    for directory in (config.ntsdumpdir, config.dumpdir, config.logdir):
        if directory is not None:
            make_state_directory(directory, user)


def make_state_directory(path: str, user: User) -> None:
    """A directory for files of the service user, where it is missing; without it they are told to be lost later."""
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.mkdir(path, 0o750)
        if os.geteuid() == 0:
            os.chown(path, user.uid, user.gid)
    except FileExistsError:
        return
    except OSError as error:
        log.error("Could not create %s : %s", path, why(error))


def _association_pair() -> tuple[socket.socket, socket.socket]:
    """Bounded by the system's default for a Unix socket (a few hundred packets); the worker counts what is lost."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _read_keys(config: Config) -> Mapping[int, SymmetricKey]:
    """The keys, read while a file of root's is still readable; problems are warnings."""
    if config.keyfile is None:
        return {}
    keyfile = read_keyfile(config.keyfile)
    for warning in keyfile.warnings:
        log.warning("%s", warning)
    log.info("Loaded %d symmetric keys", len(keyfile.keys))
    return keyfile.keys


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
