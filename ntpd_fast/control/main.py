"""The control process: the parts that keep the clock right and answer people, put together and run.

A composition and nothing else: each `start_*` function makes one part from the setup and from what was made before,
and registers how it ends. Parts end in the opposite order. With `workers 0` the same process answers NTP itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import random
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ntpd_fast._auth import KeyTableFull
from ntpd_fast._record import fields
from ntpd_fast.clock.drivers.linux import ClockDriverError
from ntpd_fast.clock.reference import Outlets, ReferenceMode
from ntpd_fast.clock.referenceoptions import starting_mode
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.config.model import LogKind
from ntpd_fast.control.clockwork import Clockwork, ClockworkOptions, choose_driver
from ntpd_fast.control.context import Context, Serviceable
from ntpd_fast.control.dataplane import DataPlane
from ntpd_fast.control.journalmemory import is_empty
from ntpd_fast.control.keys import Keys
from ntpd_fast.control.logfiles import LogFiles
from ntpd_fast.control.overseer import Overseer
from ntpd_fast.control.setup import Setup
from ntpd_fast.control.statusline import STATUS_INTERVAL_S, StatusLine
from ntpd_fast.server.access import AccessTableFull
from ntpd_fast.server.shared import ReferencePage
from ntpd_fast.server.supervisor import EXIT_END, EXIT_FAILED, HELD_SIGNALS
from ntpd_fast.system import privileges
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.eventloop import load_without_tls
from ntpd_fast.system.log import log_function
from ntpd_fast.system.timers import AsyncioScheduler, Scheduler, repeat

if TYPE_CHECKING:
    from ntpd_fast.control.journal import Journal
    from ntpd_fast.control.nts import NtsServerKeys

log = logging.getLogger(__name__)
tell = log_function(log)

_PAGE_FIELDS: Final = tuple(field.name for field in fields(ServedReference))


def run_control(setup: Setup, overseer: Overseer) -> int:
    """The life of control; its exit status. Raises FatalError when it cannot start.

    First what the time is served with, then READY, then what keeps nobody waiting: loading an event loop, what asks
    sources and what answers commands is more than half of a start. Commands wait in their sockets meanwhile. Nothing
    that came from outside is read before the process is closed in, and no signal is heard before the loop turns.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    with contextlib.ExitStack() as loops, contextlib.ExitStack() as parts:
        context = Context(setup, overseer, parts)
        served = start_service(context)
        if served.clockwork.reference.mode is not ReferenceMode.INITSTEPSLEW:
            overseer.ready()
        load_rest()
        from ntpd_fast.control.rest import make_loop, start_rest

        context.loop = loops.enter_context(make_loop())
        context.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, HELD_SIGNALS)
        start_rest(context, served)
        context.loop.run_forever()
        overseer.stopping()
    return context.exit_status


def start_service(context: Context) -> Serviceable:
    """Everything that workers need from control to answer."""
    setup, parts = context.setup, context.parts
    setup.shared.enter_control(
        serves=setup.workers == 0, exchanges_keys=setup.nts is not None and setup.ke_processes == 0
    )
    if setup.run.lock_memory:
        lock_memory()
    generator = random.SystemRandom()
    scheduler = AsyncioScheduler(None, generator)
    journal = predecessors_journal(context)
    keys = Keys(setup.config.keyfile, setup.keys, tell)
    commanded = obey_before_workers_see(context, journal, keys)
    plane = start_data_plane(context, scheduler, keys)
    files = LogFiles(setup.config, tell)
    parts.callback(files.close)
    clockwork = start_clockwork(context, scheduler, generator, files, commanded)
    server_keys = start_nts_server(context, clockwork)
    start_timeout(context, clockwork)
    start_status(context, clockwork)
    return Serviceable(plane, keys, files, clockwork, server_keys)


def load_rest() -> None:
    """Load what is not needed to serve the time. The supervisor does so too, once READY is said: a control that it
    starts again needs no file of the program.
    """
    was_enabled = gc.isenabled()
    # What is loaded stays: looking for garbage in it meanwhile would only take time.
    gc.disable()
    load_without_tls()
    importlib.import_module("ntpd_fast.control.rest")
    if was_enabled:
        gc.enable()


def lock_memory() -> None:
    """This process and the shared memory stay out of swap."""
    try:
        privileges.lock_memory()
    except OSError as error:
        raise FatalError(f"Could not lock memory : {error.strerror}") from error


def predecessors_journal(context: Context) -> Journal | None:
    """What commands had changed when the control before this one died; None where there is nothing to do again."""
    descriptor = context.setup.journal
    if descriptor is None or is_empty(descriptor):
        return None
    from ntpd_fast.control.journal import Journal

    return Journal(descriptor, tell, context.setup.reloads)


def obey_before_workers_see(context: Context, journal: Journal | None, keys: Keys) -> Mapping[str, Any]:
    """In place of a control that died: access and keys as commands have left them, which workers have now; and what
    they have said of the reference is returned.
    """
    if journal is None:
        return {}
    from ntpd_fast.control.journal import KEYS, commanded_reference, commanded_rules

    if journal.requests(KEYS):
        keys.reload()
    for rule in commanded_rules(journal):
        try:
            context.setup.plan.access.set_rule(rule)
        except AccessTableFull as error:
            log.error("Could not change NTP access : %s", error)
    return commanded_reference(journal)


def start_data_plane(context: Context, scheduler: Scheduler, keys: Keys) -> DataPlane:
    """The tables that workers need to answer."""
    config = context.setup.config
    plane = DataPlane(context.setup.shared, scheduler.call_later, tell)
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
    context: Context,
    scheduler: AsyncioScheduler,
    generator: random.Random,
    files: LogFiles,
    commanded: Mapping[str, Any],
) -> Clockwork:
    """Clock and reference; what they find is published to the workers. `commanded`: see `journal`."""
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
    clockwork = Clockwork(
        config,
        driver,
        scheduler,
        generator,
        log=tell,
        publish=publish,
        outlets=Outlets(
            tracking_log=files.tracking,
            terminate=lambda: context.end(EXIT_FAILED),
            on_mode_end=mode_ended,
        ),
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
    return clockwork


def start_nts_server(context: Context, clockwork: Clockwork) -> NtsServerKeys | None:
    """The server keys of NTS; None without NTS server."""
    setup = context.setup
    if setup.nts is None:
        return None
    # in memory since the setup: a daemon without an NTS server does without it
    from ntpd_fast.control.nts import NtsServerKeys

    clock = clockwork.clock
    keys = NtsServerKeys(setup.config, setup.shared, clockwork.scheduler, lambda: clock.cooked_ns() / 1e9)
    context.parts.callback(keys.close)
    keys.reload_certificates = context.overseer.reload_certificates
    return keys


def start_timeout(context: Context, clockwork: Clockwork) -> None:
    """`-t`: end after a while, well if there is a time to serve by then."""

    def expired() -> None:
        log.info("Timeout reached")
        synchronised = clockwork.reference.params(clockwork.clock.cooked_ns()).synchronised
        context.end(EXIT_END if synchronised else EXIT_FAILED)

    if context.setup.run.timeout_s is not None:
        clockwork.scheduler.call_later(context.setup.run.timeout_s, expired)


def start_status(context: Context, clockwork: Clockwork) -> None:
    """The line that `systemctl status` shows."""
    line = StatusLine(context.setup.shared, clockwork)
    repeat(clockwork.scheduler, STATUS_INTERVAL_S, lambda: context.overseer.status(line.text()))
