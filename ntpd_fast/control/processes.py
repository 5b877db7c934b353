"""The processes of a daemon that has workers: which there are, what each keeps, and what happens when one dies."""

from __future__ import annotations

import logging
import signal
from typing import Final

from ntpd_fast.clock.drivers.linux import ClockDriverError, LinuxDriver
from ntpd_fast.control.main import run_control
from ntpd_fast.control.overseer import SupervisorLink
from ntpd_fast.control.renewal import Renewal
from ntpd_fast.control.setup import Setup
from ntpd_fast.server.channel import Channel, Verb
from ntpd_fast.server.child import Confinement
from ntpd_fast.server.engine import Engine, PtpOptions
from ntpd_fast.server.supervisor import EXIT_FAILED, Slot
from ntpd_fast.server.worker import run_worker
from ntpd_fast.system import log as daemon_log
from ntpd_fast.system import privileges
from ntpd_fast.system.errors import FatalError
from ntpd_fast.system.log import log_function
from ntpd_fast.system.privileges import Capability
from ntpd_fast.system.syscalls import Kind

log = logging.getLogger(__name__)

# ports below need CAP_NET_BIND_SERVICE
UNPRIVILEGED_PORTS: Final = 1024


def kept_capabilities(setup: Setup) -> frozenset[Capability]:
    """What supervisor and control keep: the clock, and low ports for what is opened while running."""
    kept = set()
    if setup.run.control_clock:
        kept.add(Capability.SYS_TIME)
    if 0 < setup.config.port < UNPRIVILEGED_PORTS:
        kept.add(Capability.NET_BIND_SERVICE)
    if setup.config.binddevice is not None or setup.config.bindacqdevice is not None:
        # SO_BINDTODEVICE needs it before Linux 5.7
        kept.add(Capability.NET_RAW)
    if setup.run.lock_memory:
        kept.add(Capability.IPC_LOCK)
    return frozenset(kept)


def make_slots(setup: Setup, alive_interval_s: float | None) -> tuple[list[Slot], Renewal]:
    """Control first, then the workers, then the processes that establish NTS keys; and what reloads them."""
    workers = [worker_slot(setup, index) for index in range(setup.workers)]
    renewal = Renewal(setup, workers, lambda index: worker_slot(setup, index))
    return [
        control_slot(setup, alive_interval_s),
        *workers,
        *(ke_slot(setup, index) for index in range(setup.ke_processes)),
    ], renewal


def control_slot(setup: Setup, alive_interval_s: float | None) -> Slot:
    """Control keeps its sockets, all shared memory, and the right to set the clock."""

    def main(channel: Channel, waits: bool) -> int:
        setup.ntp_sockets.forget_workers()
        try:
            return run_control(setup, SupervisorLink(channel, alive_interval_s))
        except FatalError as error:
            channel.send(Verb.FAILED, str(error))
            return EXIT_FAILED

    def confinement() -> Confinement:
        return Confinement(
            keep=[
                *setup.shared.descriptors,
                *(opened.fileno() for opened in setup.ntp_sockets.for_control()),
                *(opened.fileno() for opened in setup.ntp_sockets.for_control_ptp()),
                *(opened.socket.fileno() for opened in setup.command_sockets),
                *(control_end.fileno() for control_end, _ in setup.associations),
                *(_ke_listeners(setup) if setup.ke_processes == 0 else ()),
                *([setup.journal] if setup.journal is not None else []),
                *daemon_log.descriptors(),
            ],
            capabilities=kept_capabilities(setup),
            # It puts the clock and its files in order before it goes.
            death_signal=signal.SIGTERM,
            new_privileges=setup.config.mailonchange is not None,
        )

    return Slot("control", main, confinement, is_control=True, on_death=lambda: restore_frequency(setup))


def worker_slot(setup: Setup, index: int) -> Slot:
    """A worker keeps its own sockets and the shared memory, and no right at all."""

    def main(channel: Channel, waits: bool) -> int:
        if setup.run.priority:
            # Real-time priority is for keeping the clock right; a flood of requests must not own the machine.
            privileges.leave_realtime()
        setup.shared.enter_worker(index)
        if setup.log_blocks:
            # fewer than there is room for where a reload has brought more workers than there were
            setup.shared.fit_log(index, setup.log_blocks)
        setup.shared.close_descriptors()
        association = setup.associations[index][1].fileno()
        sockets = setup.ntp_sockets.for_worker(index)

        def make_engine() -> Engine:
            ptp = PtpOptions.of(setup.config.ptpport, setup.config.ptpdomain)
            engine = Engine(sockets, setup.shared, index, channel=association, ptp=ptp)
            engine.own_sockets()
            setup.sandbox.close_in(Kind.WORKER)
            return engine

        return run_worker(channel, waits, make_engine)

    def confinement() -> Confinement:
        return Confinement(
            keep=[
                *setup.shared.descriptors,
                *(opened.fileno() for opened in setup.ntp_sockets.for_worker(index)),
                setup.associations[index][1].fileno(),
                *daemon_log.descriptors(),
            ]
        )

    def let_go_of_tables() -> None:
        setup.shared.worker(index).forget_tables()

    return Slot(
        f"worker {index}",
        main,
        confinement,
        heartbeat_ns=lambda: setup.shared.worker(index).heartbeat_ns,
        on_death=let_go_of_tables,
    )


def ke_slot(setup: Setup, index: int) -> Slot:
    """It keeps the listening sockets of key exchange and the shared memory, and no right at all."""
    from ntpd_fast.control.nts import run_ke
    from ntpd_fast.server.ntske_process import RELOAD_SIGNAL
    from ntpd_fast.server.ntske_server import SESSION_TIMEOUT_S

    nts = setup.nts
    assert nts is not None

    def main(channel: Channel, waits: bool) -> int:
        if setup.run.priority:
            privileges.leave_realtime()
        setup.shared.enter_ke(index)
        setup.shared.close_descriptors()
        return run_ke(
            setup.config, nts, setup.shared, index, channel, close_in=lambda: setup.sandbox.close_in(Kind.NTS_KE)
        )

    def confinement() -> Confinement:
        return Confinement(keep=[*setup.shared.descriptors, *_ke_listeners(setup), *daemon_log.descriptors()])

    return Slot(f"nts-ke {index}", main, confinement, reload_signal=RELOAD_SIGNAL, drain_s=SESSION_TIMEOUT_S + 1.0)


def _ke_listeners(setup: Setup) -> list[int]:
    return [listener.fileno() for listener in setup.nts.sockets] if setup.nts is not None else []


def restore_frequency(setup: Setup) -> None:
    """Control died, perhaps in the middle of a slew: let the clock run at the frequency that keeps it right."""
    if not setup.run.control_clock or setup.shared.control.sequence == 0:
        return
    try:
        LinuxDriver(log_function(log)).set_frequency_ppm(setup.shared.control.base_freq_ppm)
    except ClockDriverError as error:
        log.error("%s", error)
