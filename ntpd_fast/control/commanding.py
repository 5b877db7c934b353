"""What people may ask of control and tell it: the command protocol, and reading the configuration again.

Loaded and started when the time is served already (`rest`).
"""

from __future__ import annotations

import logging
import pickle  # noqa: F401  (what was read again comes by it)
from collections.abc import Callable
from functools import partial

from ntpd_fast._auth import KeyTableFull
from ntpd_fast._record import dataclass
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.clock.manual import Manual
from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.control.clockreports import ClockBackend, SmoothingBackend
from ntpd_fast.control.context import Context, Running
from ntpd_fast.control.dataplane import ClientAccounts
from ntpd_fast.control.deference import deference
from ntpd_fast.control.faults import FaultReport
from ntpd_fast.control.journal import COMMAND_ACCESS, SOURCES, Journal, Repeater
from ntpd_fast.control.manualinput import ManualBackend
from ntpd_fast.control.overseer import ServiceManagerLink
from ntpd_fast.control.reconfigure import Parts
from ntpd_fast.control.reloading import Reloading
from ntpd_fast.control.reports import AccessBackend, Statistics
from ntpd_fast.control.sourcereports import SourceBackend
from ntpd_fast.control.upstream import Upstream
from ntpd_fast.monitor.backend import Backends, CommandFailed
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import ReloadState
from ntpd_fast.monitor.dispatch import Dispatcher
from ntpd_fast.monitor.permissions import open_commands
from ntpd_fast.monitor.transport import CommandServer
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.channel import Message
from ntpd_fast.server.ntske_counters import ke_counters, ke_drops, ke_hits
from ntpd_fast.server.supervisor import EXIT_END, RELOAD_SIGNAL
from ntpd_fast.system.era import era_start_s
from ntpd_fast.system.errors import why
from ntpd_fast.system.log import log_function, reopen_file

log = logging.getLogger(__name__)
tell = log_function(log)


@dataclass(frozen=True, slots=True)
class Commanding:
    """`heed`: acts on what the overseer says. `obey`: does again what commands have done; what is left to do when there
    are sources is returned.
    """

    heed: Callable[[Message], None]
    obey: Callable[[], Callable[[], None]]


def start_commanding(context: Context, running: Running) -> Commanding:
    """The command protocol on its sockets, with every part that reports or can be commanded, and reloads."""
    setup, clockwork = context.setup, running.clockwork
    config, clock = setup.config, clockwork.clock
    lifecycle = Commands(context, running)
    journal = Journal(setup.journal, tell, setup.reloads)
    side_blocks = setup.memory.clientlog.side_blocks if setup.memory.clientlog else 0
    accounts = ClientAccounts(setup.shared, side_blocks, config.cmdratelimit)
    statistics = Statistics(setup.shared, accounts, clock.cooked_ns)
    statistics.nke_hits = partial(ke_hits, setup.shared)
    statistics.nke_drops = partial(ke_drops, setup.shared)
    clock_backend = ClockBackend(clock, clockwork.reference, tell)

    def access_changed(table: AccessTable) -> None:
        running.plane.publish_access(table)
        running.serving.follow(table)

    sources = SourceBackend(running.upstream.sources, running.upstream.names, era_start_s(), tell)
    faults = FaultReport(setup.shared, running.plane, partial(ke_counters, setup.shared))
    access = AccessBackend(setup.plan.access, "NTP", tell, access_changed)
    command_access = AccessBackend(AccessTable.from_rules(config.cmd_access), "command", tell)
    manual = Manual(clock, clockwork.reference, enabled=config.manual)
    backends = Backends(
        tracking=clock_backend,
        statistics=statistics,
        command_log=statistics,
        command_access=command_access,
        sources=sources,
        source_control=sources,
        clock=clock_backend,
        local=clock_backend,
        manual=ManualBackend(manual, tell),
        smoothing=None if config.smoothtime is None else SmoothingBackend(clock, clockwork.reference),
        access=access,
        clients=statistics,
        lifecycle=lifecycle,
        faults=faults,
    )
    dispatcher = Dispatcher(backends, open_commands(config.opencommands))
    before_batch = deference(context.loop.call_later) if setup.workers else None
    server = CommandServer(context.loop, dispatcher, setup.command_sockets, clock.cooked_ns, before_batch)
    faults.commands, faults.sockets = dispatcher.outcomes, server.faults
    faults.signing = running.upstream.signer.counters
    server.start()
    context.parts.callback(server.stop)
    ruled = Parts(
        setup=setup,
        log=tell,
        plane=running.plane,
        accounts=accounts,
        access=access,
        command_access=command_access,
        dispatcher=dispatcher,
        keys=running.keys,
        files=running.files,
        mailing=running.mailing,
        clockwork=clockwork,
        manual=manual,
        nts=running.nts,
        upstream=running.upstream,
        dumping=running.dumping,
        broadcaster=running.broadcaster,
        server_keys=running.server_keys,
        journal=journal,
    )
    reloading = Reloading(context.loop, setup, context.overseer, ruled, running.serving, tell)
    lifecycle.reloading = reloading
    start_reloading(context, reloading)
    return Commanding(reloading.heed, partial(start_journal, context, journal, dispatcher, running.upstream))


def start_journal(
    context: Context, journal: Journal, dispatcher: Dispatcher, upstream: Upstream
) -> Callable[[], None]:
    """Do again what commands have done, and keep what they do from now on; what is left to do when there are sources.

    A source that a command was about may have no address yet: then it is done when it has.
    """
    repeater = Repeater(dispatcher.repeat, context.loop.call_soon)
    repeater.repeat(journal.requests(COMMAND_ACCESS, "manual", "reselectdist_s"))
    dispatcher.done = journal.record
    requests = journal.requests(SOURCES)
    before = upstream.names.on_first_address

    def address_found(source: NtpSource) -> None:
        if before is not None:
            before(source)
        repeater.try_soon()

    if requests:
        upstream.names.on_first_address = address_found
    return partial(repeater.repeat, requests)


def start_reloading(context: Context, reloading: Reloading) -> None:
    """SIGHUP, where there is no supervisor to hear it. A run that sets the clock once has nothing to read again."""
    if not isinstance(context.overseer, ServiceManagerLink):
        return
    if context.setup.run.mode is ReferenceMode.NORMAL:
        context.loop.add_signal_handler(RELOAD_SIGNAL, reloading.request)
    else:
        context.loop.add_signal_handler(RELOAD_SIGNAL, context.end, EXIT_END)


class Commands:
    """The commands that concern the daemon as a whole."""

    def __init__(self, context: Context, running: Running) -> None:
        self.reloading: Reloading | None = None
        """Set as soon as everything a reload may change is there."""
        self._context = context
        self._running = running

    def shutdown(self) -> None:
        """End; the answer is still sent."""
        log.info("Received shutdown command")
        self._context.loop.call_soon(self._context.end, EXIT_END)

    def dump(self) -> None:
        """Write measurements, NTS keys and cookies, each where a directory is configured for it."""
        self._running.dumping.save()
        self._running.nts.save()
        if self._running.server_keys is not None:
            self._running.server_keys.save()

    def cycle_logs(self) -> None:
        """Follow log files that were rotated away."""
        self._running.files.cycle()
        try:
            reopen_file()
        except OSError as error:
            log.error("Could not open %s : %s", error.filename, why(error))

    def reload_config(self) -> ReloadState:
        """Read the configuration again."""
        assert self.reloading is not None
        self.reloading.request()
        return self.reloading.report()

    def reload_report(self) -> ReloadState:
        """What became of that."""
        assert self.reloading is not None
        return self.reloading.report()

    def rekey(self) -> None:
        """Read the key files again; CommandFailed(FAILED) when there are more keys than clients can be checked with."""
        self._running.keys.reload()
        if self._running.server_keys is not None:
            self._running.server_keys.rekey()
        try:
            self._running.plane.publish_keys(self._running.keys.rows())
        except KeyTableFull as error:
            log.error("Clients are checked with the keys of before : %s", error)
            raise CommandFailed(Status.FAILED) from None
