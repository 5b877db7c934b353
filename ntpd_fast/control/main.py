"""The control process: the parts that keep the clock right and answer people, put together and run.

A composition and nothing else: each `start_*` function makes one part from the setup and from what was made before,
and registers how it ends. Parts end in the opposite order. With `workers 0` the same process answers NTP itself.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvloop

from ntpd_fast._auth import KeyTableFull
from ntpd_fast._record import dataclass, fields
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.oneshot import InitStepSlew, OneShot, starting_mode
from ntpd_fast.client.sources import DaemonFacts, SourcesHooks
from ntpd_fast.clock.drivers.linux import ClockDriverError
from ntpd_fast.clock.manual import Manual
from ntpd_fast.clock.reference import Outlets, ReferenceMode
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.config.model import LogKind
from ntpd_fast.control.associations import AssociationReader
from ntpd_fast.control.broadcast import Broadcaster
from ntpd_fast.control.clockreports import ClockBackend, SmoothingBackend
from ntpd_fast.control.clockwork import Clockwork, ClockworkOptions, choose_driver
from ntpd_fast.control.dataplane import ClientAccounts, DataPlane
from ntpd_fast.control.deference import deference
from ntpd_fast.control.dumping import Dumping
from ntpd_fast.control.faults import FaultReport
from ntpd_fast.control.journal import (
    COMMAND_ACCESS,
    KEYS,
    SOURCES,
    Journal,
    Repeater,
    commanded_reference,
    commanded_rules,
)
from ntpd_fast.control.keys import Keys
from ntpd_fast.control.logfiles import LogFiles
from ntpd_fast.control.mailing import Mailing
from ntpd_fast.control.manualinput import ManualBackend
from ntpd_fast.control.ntsclient import NtsClient
from ntpd_fast.control.overseer import Overseer, ServiceManagerLink
from ntpd_fast.control.reconfigure import Parts
from ntpd_fast.control.reloading import Reloading
from ntpd_fast.control.reports import AccessBackend, Statistics
from ntpd_fast.control.serving import Serving, repeat
from ntpd_fast.control.setup import Setup
from ntpd_fast.control.signing import make_signer
from ntpd_fast.control.sourcereports import SourceBackend
from ntpd_fast.control.statusline import STATUS_INTERVAL_S, StatusLine
from ntpd_fast.control.upstream import Upstream
from ntpd_fast.monitor.backend import Backends, CommandFailed
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import ReloadState
from ntpd_fast.monitor.dispatch import Dispatcher
from ntpd_fast.monitor.permissions import open_commands
from ntpd_fast.monitor.transport import CommandServer
from ntpd_fast.server.access import AccessTable, AccessTableFull
from ntpd_fast.server.ntske_counters import ke_counters, ke_drops, ke_hits
from ntpd_fast.server.shared import ReferencePage
from ntpd_fast.server.supervisor import END_SIGNALS, EXIT_END, EXIT_FAILED, HELD_SIGNALS, RELOAD_SIGNAL
from ntpd_fast.system import privileges
from ntpd_fast.system.era import era_start_s
from ntpd_fast.system.errors import FatalError, why
from ntpd_fast.system.log import log_function, reopen_file
from ntpd_fast.system.syscalls import Kind
from ntpd_fast.system.timers import Scheduler

if TYPE_CHECKING:
    from ntpd_fast.control.nts import NtsServerKeys

log = logging.getLogger(__name__)
tell = log_function(log)

_PAGE_FIELDS: Final = tuple(field.name for field in fields(ServedReference))


@dataclass(slots=True)
class Context:
    """What every part may use. `parts` collects how they end."""

    setup: Setup
    loop: asyncio.AbstractEventLoop
    overseer: Overseer
    parts: contextlib.ExitStack
    exit_status: int = EXIT_END
    mode_ended: Callable[[bool], None] | None = None
    """Who is told, in place of the process's end, that a special mode is over, with a measurement or without."""

    def end(self, status: int) -> None:
        """Leave the event loop after this event; the process exits with `status`."""
        self.exit_status = status
        self.loop.stop()


def run_control(setup: Setup, overseer: Overseer) -> int:
    """The life of control; its exit status. Raises FatalError when it cannot start."""
    setup.shared.enter_control(
        serves=setup.workers == 0, exchanges_keys=setup.nts is not None and setup.ke_processes == 0
    )
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    with contextlib.closing(loop), contextlib.ExitStack() as parts:
        context = Context(setup, loop, overseer, parts)
        handle_signals(context)
        if setup.run.lock_memory:
            lock_memory()
        journal = Journal(setup.journal, tell)
        keys = Keys(setup.config.keyfile, setup.keys, tell)
        obey_before_workers_see(context, journal, keys)
        plane = start_data_plane(context, keys)
        nts = NtsClient(loop, setup.config, keys, family=setup.run.family)
        files = LogFiles(setup.config, tell)
        parts.callback(files.close)
        mailing = Mailing(loop, setup.config, setup.run.program, tell)
        parts.callback(mailing.close)
        clockwork = start_clockwork(context, keys, nts, files, mailing, commanded_reference(journal))
        upstream = start_upstream(context, clockwork, plane)
        dumping = start_dumps(context, clockwork, upstream)
        server_keys = start_nts_server(context, clockwork)
        serving = start_serving(context, clockwork, upstream)
        broadcaster = start_broadcasts(context, clockwork)
        lifecycle = Commands(context, plane, keys, nts, server_keys, files, dumping)
        commanded = start_commands(context, clockwork, upstream, serving, plane, lifecycle)
        ruled = Parts(
            setup=setup,
            log=tell,
            plane=plane,
            accounts=commanded.accounts,
            access=commanded.access,
            command_access=commanded.command_access,
            dispatcher=commanded.dispatcher,
            keys=keys,
            files=files,
            mailing=mailing,
            clockwork=clockwork,
            manual=commanded.manual,
            nts=nts,
            upstream=upstream,
            dumping=dumping,
            broadcaster=broadcaster,
            server_keys=server_keys,
            journal=journal,
        )
        reloading = Reloading(loop, setup, overseer, ruled, serving, tell)
        lifecycle.reloading = reloading
        start_reloading(context, reloading)
        parts.callback(overseer.watch(loop, lambda: context.end(EXIT_END), reloading.heed))
        start_timeout(context, clockwork)
        start_signs_of_life(context, clockwork.scheduler)
        start_status(context, clockwork)
        setup.sandbox.close_in(Kind.CONTROL)
        obey = start_journal(context, journal, commanded.dispatcher, upstream)
        loop.call_soon(begin, context, clockwork, upstream, obey)
        loop.run_forever()
        overseer.stopping()
    return context.exit_status


def handle_signals(context: Context) -> None:
    """These end the daemon in good order; held back until the loop turns, which would not hear them before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    for number in END_SIGNALS:
        context.loop.add_signal_handler(number, context.end, EXIT_END)


def start_reloading(context: Context, reloading: Reloading) -> None:
    """SIGHUP, where there is no supervisor to hear it. A run that sets the clock once has nothing to read again."""
    if not isinstance(context.overseer, ServiceManagerLink):
        return
    if context.setup.run.mode is ReferenceMode.NORMAL:
        context.loop.add_signal_handler(RELOAD_SIGNAL, reloading.request)
    else:
        context.loop.add_signal_handler(RELOAD_SIGNAL, context.end, EXIT_END)


def begin(context: Context, clockwork: Clockwork, upstream: Upstream, obey: Callable[[], None]) -> None:
    """The first thing in the loop: everything is there, so ask the sources, and say that we are ready.

    `obey` does again with sources what commands have done.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    mode = clockwork.reference.mode

    def begin_normally() -> None:
        upstream.start()
        obey()
        context.overseer.ready()

    if mode is ReferenceMode.INITSTEPSLEW:
        assert context.setup.config.initstepslew is not None
        servers = context.setup.config.initstepslew.servers
        initial = InitStepSlew(clockwork.sources, clockwork.reference, clockwork.scheduler, servers, begin_normally)
        context.parts.callback(initial.close)
        context.mode_ended = initial.finish
        initial.start()
        return
    begin_normally()
    if mode is not ReferenceMode.NORMAL:
        watch = OneShot(clockwork.sources, clockwork.reference, clockwork.scheduler)
        context.parts.callback(watch.close)
        watch.start()


def lock_memory() -> None:
    """This process and the shared memory stay out of swap."""
    try:
        privileges.lock_memory()
    except OSError as error:
        raise FatalError(f"Could not lock memory : {error.strerror}") from error


def obey_before_workers_see(context: Context, journal: Journal, keys: Keys) -> None:
    """In place of a control that died: access and keys as commands have left them, which workers have now."""
    if journal.requests(KEYS):
        keys.reload()
    for rule in commanded_rules(journal):
        try:
            context.setup.plan.access.set_rule(rule)
        except AccessTableFull as error:
            log.error("Could not change NTP access : %s", error)


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


def start_data_plane(context: Context, keys: Keys) -> DataPlane:
    """The tables that workers need to answer."""
    config = context.setup.config
    plane = DataPlane(context.setup.shared, context.loop.call_later, tell)
    plane.publish_access(context.setup.plan.access)
    plane.publish_serving(
        net_correction=config.ptpport != 0, signd=config.ntpsigndsocket is not None, limit=config.ratelimit
    )
    plane.publish_peers([])
    try:
        plane.publish_keys(keys.rows())
    except KeyTableFull as error:
        raise FatalError(f"Could not use {config.keyfile} : {error}") from error
    return plane


def start_clockwork(
    context: Context, keys: Keys, nts: NtsClient, files: LogFiles, mailing: Mailing, commanded: Mapping[str, Any]
) -> Clockwork:
    """Clock, reference and sources; what they find is published to the workers. `commanded`: see `journal`."""
    setup = context.setup
    config, run, shared = setup.config, setup.run, setup.shared

    def publish(page: ServedReference) -> None:
        shared.publish_reference(ReferencePage(**{name: getattr(page, name) for name in _PAGE_FIELDS}))

    def mode_ended(measured: bool) -> None:
        if context.mode_ended is not None:
            context.mode_ended(measured)
        else:
            context.end(EXIT_END if measured else EXIT_FAILED)

    page = ServedReference(**shared.control.reference())
    # nothing was ever published where no mapping is; a control that ended well has left its state the same way
    mode = starting_mode(config, run.mode, restarted=run.restarted)
    predecessor = page if page.map_raw_ns and run.mode is ReferenceMode.NORMAL else None
    if predecessor is not None:
        mode = run.mode     # the initial correction was made by the one that died
    if not run.control_clock:
        log.info("Disabled control of system clock")
    try:
        driver = choose_driver(config, controls_clock=run.control_clock, log=tell)
    except ClockDriverError as error:
        raise FatalError(str(error)) from error
    hooks = SourcesHooks(added=nts.adopt)
    files.attach(hooks)
    clockwork = Clockwork(
        context.loop,
        config,
        driver,
        keys,
        log=tell,
        publish=publish,
        outlets=Outlets(
            tracking_log=files.tracking,
            mail=mailing.tell,
            terminate=lambda: context.end(EXIT_FAILED),
            on_mode_end=mode_ended,
        ),
        facts=DaemonFacts(
            serving=bool(setup.plan.binds),
            net_corrections=config.ptpport != 0,
        ),
        hooks=hooks,
        authenticators=nts.authenticator,
        options=ClockworkOptions(
            mode=mode,
            restarted=run.restarted,
            resume=predecessor,
            commanded=commanded,
            restore_time=run.set_from_rtc,
            tempcomp_log=files.writer(LogKind.TEMPCOMP),
        ),
    )
    context.parts.callback(clockwork.close)
    nts.bind(clockwork.clock, clockwork.sources)
    context.parts.callback(nts.close)
    return clockwork


def start_dumps(context: Context, clockwork: Clockwork, upstream: Upstream) -> Dumping:
    """Measurements that outlive the daemon, with `dumpdir`."""
    setup = context.setup
    dumping = Dumping(setup.config.dumpdir, clockwork.sources, tell)
    dumping.load(upstream.names, wanted=setup.run.reload_dumps)
    context.parts.callback(dumping.save)
    return dumping


def start_upstream(context: Context, clockwork: Clockwork, plane: DataPlane) -> Upstream:
    """Names and sources, and the packets of associations that come by the server sockets."""
    setup = context.setup
    config = setup.config
    upstream = Upstream(
        context.loop,
        config,
        clockwork,
        plane,
        family=setup.run.family,
        log=tell,
        sign=make_signer(config, setup.ntp_sockets.for_control, tell),
    )
    context.parts.callback(upstream.close)
    for opened in setup.ntp_sockets.for_control():
        clockwork.poller.attach_server_socket(opened, own=setup.workers > 0)
    for opened in setup.ntp_sockets.for_control_ptp():
        clockwork.poller.attach_server_socket(opened, own=setup.workers > 0, ptp=True)
    reader = AssociationReader(context.loop, [ours for ours, _ in setup.associations], upstream.receive)
    context.parts.callback(reader.close)
    return upstream


def start_serving(context: Context, clockwork: Clockwork, upstream: Upstream) -> Serving:
    """With `workers 0`: answer NTP in this process."""
    setup = context.setup
    serving = Serving(context.loop, clockwork, setup, context.overseer, upstream.receive)
    context.parts.callback(serving.close)
    if setup.workers == 0:
        for opened in [*setup.ntp_sockets.for_control(), *setup.ntp_sockets.for_control_ptp()]:
            serving.serve(opened)
    return serving


def start_broadcasts(context: Context, clockwork: Clockwork) -> Broadcaster:
    """Tell the time unasked, where that is configured."""
    setup = context.setup
    return Broadcaster(
        setup.config.broadcasts, setup.ntp_sockets.for_control, clockwork.clock, clockwork.reference, tell
    )


def start_nts_server(context: Context, clockwork: Clockwork) -> "NtsServerKeys | None":
    """The server keys of NTS; with `ntsprocesses 0` the key exchange too. None without NTS server."""
    setup = context.setup
    if setup.nts is None:
        return None
    # in memory since the setup: a daemon without an NTS server does without it
    from ntpd_fast.control.nts import NtsServerKeys, exchange_follows, exchange_here

    clock = clockwork.clock
    keys = NtsServerKeys(setup.config, setup.shared, clockwork.scheduler, lambda: clock.cooked_ns() / 1e9)
    context.parts.callback(keys.close)
    if setup.ke_processes == 0:
        ntske = exchange_here(context.loop, setup.config, setup.nts, setup.shared)
        context.parts.callback(ntske.stop)
        keys.reload_certificates = ntske.reload_certificates
        keys.exchange_follow = partial(exchange_follows, ntske, setup.nts)
    else:
        keys.reload_certificates = context.overseer.reload_certificates
    return keys


@dataclass(frozen=True, slots=True)
class Commanded:
    """What commands and a changed configuration both change."""

    accounts: ClientAccounts
    access: AccessBackend
    command_access: AccessBackend
    manual: Manual
    dispatcher: Dispatcher


def start_commands(
    context: Context,
    clockwork: Clockwork,
    upstream: Upstream,
    serving: Serving,
    plane: DataPlane,
    lifecycle: "Commands",
) -> Commanded:
    """The command protocol on its sockets, with every part that reports or can be commanded."""
    setup = context.setup
    config, clock = setup.config, clockwork.clock
    side_blocks = setup.memory.clientlog.side_blocks if setup.memory.clientlog else 0
    accounts = ClientAccounts(setup.shared, side_blocks, config.cmdratelimit)
    statistics = Statistics(setup.shared, accounts, clock.cooked_ns)
    statistics.nke_hits = partial(ke_hits, setup.shared)
    statistics.nke_drops = partial(ke_drops, setup.shared)
    clock_backend = ClockBackend(clock, clockwork.reference, tell)

    def access_changed(table: AccessTable) -> None:
        plane.publish_access(table)
        serving.follow(table)

    sources = SourceBackend(clockwork.sources, upstream.names, era_start_s(), tell)
    faults = FaultReport(setup.shared, plane, partial(ke_counters, setup.shared))
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
    server.start()
    context.parts.callback(server.stop)
    return Commanded(accounts, access, command_access, manual, dispatcher)


class Commands:
    """The commands that concern the daemon as a whole."""

    def __init__(
        self,
        context: Context,
        plane: DataPlane,
        keys: Keys,
        nts: NtsClient,
        server_keys: "NtsServerKeys | None",
        files: LogFiles,
        dumping: Dumping,
    ) -> None:
        self.reloading: Reloading | None = None
        """Set as soon as everything a reload may change is there."""
        self._files = files
        self._dumping = dumping
        self._nts = nts
        self._server_keys = server_keys
        self._context = context
        self._plane = plane
        self._keys = keys

    def shutdown(self) -> None:
        """End; the answer is still sent."""
        log.info("Received shutdown command")
        self._context.loop.call_soon(self._context.end, EXIT_END)

    def dump(self) -> None:
        """Write measurements, NTS keys and cookies, each where a directory is configured for it."""
        self._dumping.save()
        self._nts.save()
        if self._server_keys is not None:
            self._server_keys.save()

    def cycle_logs(self) -> None:
        """Follow log files that were rotated away."""
        self._files.cycle()
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
        self._keys.reload()
        if self._server_keys is not None:
            self._server_keys.rekey()
        try:
            self._plane.publish_keys(self._keys.rows())
        except KeyTableFull as error:
            log.error("Clients are checked with the keys of before : %s", error)
            raise CommandFailed(Status.FAILED) from None


def start_timeout(context: Context, clockwork: Clockwork) -> None:
    """`-t`: end after a while, well if there is a time to serve by then."""

    def expired() -> None:
        log.info("Timeout reached")
        synchronised = clockwork.reference.params(clockwork.clock.cooked_ns()).synchronised
        context.end(EXIT_END if synchronised else EXIT_FAILED)

    if context.setup.run.timeout_s is not None:
        clockwork.scheduler.call_later(context.setup.run.timeout_s, expired)


def start_signs_of_life(context: Context, scheduler: Scheduler) -> None:
    """Tell the overseer that we live, as often as it wants."""
    if context.overseer.alive_interval_s is not None:
        repeat(scheduler, context.overseer.alive_interval_s, context.overseer.alive)


def start_status(context: Context, clockwork: Clockwork) -> None:
    """The line that `systemctl status` shows."""
    line = StatusLine(context.setup.shared, clockwork)
    repeat(clockwork.scheduler, STATUS_INTERVAL_S, lambda: context.overseer.status(line.text()))
