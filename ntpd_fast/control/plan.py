"""From a configuration to what is opened and how many processes there are: decisions only, nothing is touched."""

from __future__ import annotations

import grp
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ntpd_fast._record import dataclass, replace
from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.config.model import Config, SourceKind
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.monitor.paths import group_socket
from ntpd_fast.monitor.sockets import SocketPlan
from ntpd_fast.server.access import AccessTable, AccessTableFull
from ntpd_fast.server.clientlog import ClientLogPlan, clientlog_plan
from ntpd_fast.server.shared import WORKERS_MAX, SharedPlan
from ntpd_fast.server.sockets import BindAddress, SocketOptions
from ntpd_fast.system.errors import FatalError

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
WORKERS_SPARE: Final = 4
_LOOPBACK: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class NtsPlan:
    """`binds`: TCP addresses of key exchange. `processes` 0: control does it itself."""

    binds: tuple[BindAddress, ...]
    processes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`binds`: addresses of NTP sockets, none where nobody may ask. `workers` 0: control answers itself."""

    access: AccessTable
    binds: tuple[BindAddress, ...]
    workers: int
    socket_options: SocketOptions
    nts: NtsPlan | None = None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`clientlog` is None with `noclientlog`; `warnings` say what of the configuration could not be taken as it is."""

    shared: SharedPlan
    clientlog: ClientLogPlan | None
    warnings: tuple[str, ...]


def make_plan(config: Config, run: RunOptions, *, cpus: int) -> Plan:
    """Decide; `cpus`: how many this process may use. Raises FatalError for rules there is no room for."""
    try:
        access = AccessTable.from_rules(config.access)
    except AccessTableFull as error:
        raise FatalError(str(error)) from error
    binds = bind_addresses(config, run, access.any_allowed)
    # A socket that only our own requests need is control's alone.
    serves = bool(bind_addresses(replace(config, acquisitionport=None), run, access.any_allowed))
    return Plan(
        access=access,
        binds=binds,
        workers=worker_count(config, run, cpus=cpus, serves=serves),
        socket_options=SocketOptions(dscp=config.dscp, device=config.binddevice),
        nts=nts_plan(config, run),
    )


def nts_plan(config: Config, run: RunOptions) -> NtsPlan | None:
    """Key exchange where there are certificates, a port, and a port for the time.

    In both address families, whoever is allowed now: rules may change, and connections of others are closed at once.
    """
    if not (config.ntsservercerts and config.ntsport and server_port(config, run)):
        return None
    configured = config.uses("ntsprocesses") or not run.single_process
    return NtsPlan(
        addresses(config, run, config.ntsport, lambda version: True), config.ntsprocesses if configured else 0
    )


def workers_possible(workers: int, cpus: int, *, locked: bool) -> int:
    """For how many workers a daemon that starts with `workers` has shared memory, so that a reload may add some.

    What nobody has used costs nothing, unless memory is locked.
    """
    if workers == 0 or locked:
        return workers
    return min(max(workers, cpus, WORKERS_SPARE), WORKERS_MAX)


def plan_memory(
    config: Config, workers: int, memory_bytes: int | None, nts: NtsPlan | None = None, *, workers_max: int = 0
) -> MemoryPlan:
    """Sizes of the shared memory; `memory_bytes`: of this machine, where that is known.

    `clientloglimit` is divided among the workers there are; a reload that brings more of them divides it anew.
    """
    processes = nts.processes if nts is not None else 0
    if config.noclientlog:
        return MemoryPlan(SharedPlan(workers, workers_max, nts=nts is not None, ke_processes=processes), None, ())
    clientlog = clientlog_plan(
        config.clientloglimit_bytes,
        max(workers, 1),
        side_shards=1 + (max(processes, 1) if nts is not None else 0),
        memory_bytes=memory_bytes,
    )
    return MemoryPlan(
        SharedPlan(
            workers,
            workers_max,
            log_blocks=clientlog.blocks,
            map_pairs=clientlog.pairs,
            ipv6_prefix=config.clientlogprefix6,
            nts=nts is not None,
            ke_processes=processes,
            ke_log_blocks=clientlog.side_blocks if nts is not None else 0,
        ),
        clientlog,
        () if clientlog.reason is None else (clientlog.reason,),
    )


def server_port(config: Config, run: RunOptions) -> int:
    """The UDP port served; 0: none. `-Q` opens nothing that was not asked for."""
    return 0 if run.mode is ReferenceMode.PRINT_ONCE and not config.uses("port") else config.port


def bind_addresses(config: Config, run: RunOptions, allowed: Callable[[int], bool]) -> tuple[BindAddress, ...]:
    """Addresses of the server sockets: of each family that somebody may ask in (`allowed`), or that a peer or
    broadcast needs.

    Both, where our own requests are to leave from the server's port (`acquisitionport`).
    """
    if server_port(config, run) == 0:
        return ()
    needed = config.acquisitionport == config.port or any(source.kind is SourceKind.PEER for source in config.sources)
    broadcasts = {broadcast.address.version for broadcast in config.broadcasts}

    def wanted(version: int) -> bool:
        return allowed(version) or needed or version in broadcasts

    binds = addresses(config, run, config.port, wanted)
    if config.ptpport:
        # A server that is asked by NTP over PTP needs our socket, too.
        clients = {4, 6} if any(source.options.port == config.ptpport for source in config.sources) else set()
        over_ptp = addresses(config, run, config.ptpport, lambda version: wanted(version) or version in clients)
        binds += tuple(replace(bind, ptp=True) for bind in over_ptp)
    return binds


def addresses(config: Config, run: RunOptions, port: int, wanted: Callable[[int], bool]) -> tuple[BindAddress, ...]:
    """Where a service listens, in the address families for which it is wanted."""
    return tuple(
        bind
        for version in _FAMILIES
        if run.family in (None, version) and wanted(version)
        for bind in _binds_of_family(config, version, port)
    )


def _binds_of_family(config: Config, version: int, port: int) -> list[BindAddress]:
    """Where a family (4 or 6) is served: on all addresses of `bindaddress`, else on any, which covers all others."""
    configured = config.bindaddress_ipv4 if version == 4 else config.bindaddress_ipv6
    if not configured or any(address.is_unspecified for address in configured):
        return [BindAddress.any(_FAMILIES[version], port)]
    return [BindAddress(_FAMILIES[version], str(address), port) for address in configured]


def worker_count(config: Config, run: RunOptions, *, cpus: int, serves: bool) -> int:
    """How many workers: as configured, else one for each CPU where there is somebody to serve."""
    if not serves:
        return 0
    if config.workers is not None:
        return config.workers
    return 0 if run.single_process else min(cpus, WORKERS_MAX)


def command_socket_plan(config: Config, run: RunOptions, uid: int, gid: int) -> SocketPlan:
    """The command sockets. `-Q` opens none that was not asked for. Raises FatalError for an unknown `cmdgroup`."""
    path = config.bindcmdaddress_path
    port = config.cmdport
    if run.mode is ReferenceMode.PRINT_ONCE:
        path = path or ""
        port = port if config.uses("cmdport") else 0
    reports_path, reports_gid = "", 0
    if config.cmdgroup is not None:
        reports_path, reports_gid = group_socket(path or run.command_socket), _group_id(config.cmdgroup)
    configured = (config.bindcmdaddress_ipv4 or _LOOPBACK[0], config.bindcmdaddress_ipv6 or _LOOPBACK[1])
    return SocketPlan(
        unix_path=run.command_socket if path is None else path,
        uid=uid,
        gid=gid,
        addresses=tuple(address for address in configured if run.family in (None, address.version)),
        port=port,
        device=config.bindcmddevice,
        reports_path=reports_path,
        reports_gid=reports_gid,
    )


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise FatalError(f"Could not get group ID of {name}") from None
