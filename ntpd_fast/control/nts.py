"""The NTS server in the daemon: what is opened before rights are given up, its processes, control's part of it.

Key exchange is a service beside the others: when it cannot be had (a certificate that is missing, TLS that the system
refuses), one line says why and everything else goes on. Control alone writes the server keys; the processes that
establish keys with clients see them, and the sockets of no other service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator

from ntpd_fast._clientlog import ClientLogWriter
from ntpd_fast._keadmission import SharedAdmission
from ntpd_fast._record import dataclass
from ntpd_fast._tls import TlsError
from ntpd_fast.config.model import Config
from ntpd_fast.control.plan import NtsPlan
from ntpd_fast.server.channel import Channel, ChannelClosed, Verb
from ntpd_fast.server.keyring import DerivationRefusedError, KeyFileError, KeyManager
from ntpd_fast.server.ntske_certificates import CertificateError, CertificateStore, Pair
from ntpd_fast.server.ntske_counters import KeCounters
from ntpd_fast.server.ntske_process import NtsKe, NtsKeOptions, NtsKeParts, raise_descriptor_limit, run_ntske
from ntpd_fast.server.ntske_sockets import open_ke_sockets
from ntpd_fast.server.shared import Shared
from ntpd_fast.server.sockets import BindAddress
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.listen_fds import HandedOver
from ntpd_fast.system.log import log_function
from ntpd_fast.system.timers import Scheduler

log = logging.getLogger(__name__)
tell = log_function(log)


@dataclass(slots=True)
class NtsSetup:
    """What is opened at the start. `certificates` are loaded while their keys can still be read."""

    sockets: list[socket.socket]
    certificates: CertificateStore
    processes: int
    binds: tuple[BindAddress, ...]
    """Where it listens, or should."""

    def follow(self, config: Config) -> None:
        """Take certificates and backlog of another configuration, for processes that are forked from now on.

        Certificates that cannot be used are told, and the old ones stay. Port, addresses and the number of processes
        stay: sockets and shared memory were made for them.
        """
        raise_descriptor_limit(config.maxntsconnections, tell)
        for listener in self.sockets:
            listener.listen(ke_backlog(config, self.processes))
        self.certificates.replace(certificate_pairs(config), time.time())

    def close(self) -> None:
        for listener in self.sockets:
            listener.close()


def certificate_pairs(config: Config) -> list[Pair]:
    """`ntsservercert` with `ntsserverkey`."""
    return list(zip(config.ntsservercerts, config.ntsserverkeys, strict=True))


def ke_backlog(config: Config, processes: int) -> int:
    """Connections that may wait on a listening socket."""
    return max(processes, 1) * config.maxntsconnections


def open_nts(config: Config, plan: NtsPlan, handed_over: HandedOver | None = None) -> NtsSetup | None:
    """Load certificates and open sockets; None, with one line in the log, when there is to be no NTS server."""
    certificates = CertificateStore(certificate_pairs(config), tell)
    try:
        certificates.load(time.time())
    except (CertificateError, TlsError) as error:
        log.error("NTS server disabled : %s", error)
        return None
    # while it may still be raised beyond what was given to us; all processes inherit it
    raise_descriptor_limit(config.maxntsconnections, tell)
    sockets = open_ke_sockets(plan.binds, ke_backlog(config, plan.processes), config.binddevice, handed_over)
    return NtsSetup(sockets, certificates, plan.processes, plan.binds)


def ke_options(config: Config) -> NtsKeOptions:
    return NtsKeOptions(config.ntsaeads, config.maxntsconnections, config.ntsntpserver, config.port)


def ke_parts(config: Config, nts: NtsSetup, shared: Shared, index: int) -> NtsKeParts:
    """What the process with part `index` works with; in that process, after it has entered its part."""
    ring = shared.nts_ring
    assert ring is not None
    region = shared.ke(index)
    memory = region.log_memory()
    clients = None
    if memory is not None:
        clients = ClientLogWriter(memory)
    base = ke_log_base(shared, index)
    admission = SharedAdmission(shared.control, clients, base)
    admission.set_limit(config.ntsratelimit)
    return NtsKeParts(nts.sockets, nts.certificates, ring, admission, KeCounters(region.counters()))


def ke_log_base(shared: Shared, index: int) -> int:
    """Number of client records in the shards before that of part `index` (workers', control's, earlier parts')."""
    per_block = 16
    plan = shared.plan
    return per_block * (shared.parts * plan.log_blocks + (1 + index) * plan.ke_log_blocks)


def run_ke(
    config: Config, nts: NtsSetup, shared: Shared, index: int, channel: Channel, *, close_in: Callable[[], None]
) -> int:
    """The life of key exchange process `index`, in the child; its exit status. `close_in`: into the sandbox."""

    @contextlib.contextmanager
    def supervised(ntske: NtsKe) -> Iterator[None]:
        """Tell the supervisor that we are ready, and do what it says."""

        def heed() -> None:
            try:
                while (message := channel.receive()) is not None:
                    if message.verb is Verb.STOP:
                        # our successor accepts already; sessions that have begun are brought to their end
                        ntske.drain(lambda: channel.send(Verb.STOPPED))
            except ChannelClosed:
                ntske.end()

        def begin() -> None:
            # in the loop: it opens something of its own when it starts to turn
            close_in()
            channel.send(Verb.READY)

        ntske.loop.add_reader(channel.fileno(), heed)
        ntske.loop.call_soon(begin)
        yield
        ntske.loop.remove_reader(channel.fileno())

    return run_ntske(ke_options(config), ke_parts(config, nts, shared, index), tell, around=supervised)


class NtsServerKeys:
    """Control's part: the server keys. Raises FatalError when the group's secret cannot be had.

    `reload_certificates` reaches those who exchange keys; `exchange_follow` this process, where it does.
    """

    def __init__(self, config: Config, shared: Shared, scheduler: Scheduler, wall_s: Callable[[], float]) -> None:
        ring = shared.nts_ring
        assert ring is not None
        self.reload_certificates: Callable[[], None] = lambda: None
        self.exchange_follow: Callable[[Config], None] = lambda config: None
        self._manager = KeyManager(
            ring,
            scheduler,
            tell,
            wall_s,
            directory=config.ntsdumpdir,
            rotate_s=config.ntsrotate_s,
            shared_file=config.ntssharedkey,
        )
        try:
            self._manager.start()
        except OSError as error:
            raise FatalError(f"Could not read {config.ntssharedkey} : {error.strerror}") from error
        except DerivationRefusedError as error:
            log.error("NTS server keys disabled : %s", error)
        except KeyFileError as error:
            raise FatalError(f"Could not use {config.ntssharedkey} : {error}") from error

    def rekey(self) -> None:
        """Read again what others write: server keys that are not ours, certificates."""
        self._manager.rekey()
        self.reload_certificates()

    def follow(self, config: Config) -> None:
        """Go on with another configuration: server keys, and the key exchange that is done in this process.

        Processes that exchange keys are the supervisor's: forked anew after `NtsSetup.follow`, they have it, and the
        old ones bring their sessions to an end (`Verb.STOP`).
        """
        self._manager.follow(directory=config.ntsdumpdir, rotate_s=config.ntsrotate_s, shared_file=config.ntssharedkey)
        self.exchange_follow(config)

    def save(self) -> None:
        self._manager.save()

    def close(self) -> None:
        self._manager.save()
        self._manager.stop()


def exchange_here(loop: asyncio.AbstractEventLoop, config: Config, nts: NtsSetup, shared: Shared) -> NtsKe:
    """Key exchange in this process (`ntsprocesses 0`), serving."""
    ntske = NtsKe(loop, ke_options(config), ke_parts(config, nts, shared, 0), tell)
    ntske.start()
    return ntske


def exchange_follows(ntske: NtsKe, nts: NtsSetup, config: Config) -> None:
    """Have key exchange in this process go on with another configuration."""
    nts.follow(config)
    ntske.follow(ke_options(config), certificate_pairs(config), config.ntsratelimit)
