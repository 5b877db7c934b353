"""A reload as the supervisor carries it out: a script of steps and waits for `Supervisor`.

Read and check in a child that does nothing else; open what is missing; tell control and the workers; add, replace and
end processes; close what nobody is to use any more. Up to the moment when everything new is open nothing has changed,
and the reload can still be refused. From there on nothing can fail but what is logged and gone on without.

No request is lost on the way. A new address reaches its worker as a socket, not by replacing the worker. Where it takes
over from a wider one of ours, what came before packets were steered is answered by the first worker. An old address is
cut off from the network first, and closed when its queue is empty; so is the socket of a worker that is to end.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence

from ntpd_fast.config.diff import compare
from ntpd_fast.control.reload import KEY_EXCHANGE, Change, Reading, load, split, store
from ntpd_fast.control.setup import Setup, make_state_directories
from ntpd_fast.server.channel import Verb
from ntpd_fast.server.child import Confinement
from ntpd_fast.server.engine import address_of
from ntpd_fast.server.sockets import BindAddress, Group, close_group, cut_off
from ntpd_fast.server.supervisor import Slot, Supervisor
from ntpd_fast.system import log as daemon_log
from ntpd_fast.system.errors import why
from ntpd_fast.system.log import log_function

log = logging.getLogger(__name__)
tell = log_function(log)

Waits = Generator[Callable[[], bool], None, None]

READ_S = 60.0
"""Names that access rules stand for have to be resolved by then."""
CONTROL_S = 10.0
START_S = 15.0
DRAIN_S = 1.0
CLOSE_S = 1.0
DRAINED_LOOKS = 3
"""A queue counts as empty when it was found so this often in a row: a packet may be on its way into it."""


class Renewal:
    """Makes the scripts. `workers`: their slots; `make_worker`: another one, by its number."""

    def __init__(self, setup: Setup, workers: Sequence[Slot], make_worker: Callable[[int], Slot]) -> None:
        self._setup = setup
        self._make_worker = make_worker
        self._workers = dict(enumerate(workers))

    def script(self, supervisor: Supervisor) -> Waits:
        """One reload from reading to the last closed socket."""
        try:
            memory = os.memfd_create("ntpd-fast-configuration", os.MFD_CLOEXEC)
        except OSError as error:
            self._refuse(supervisor, f"Could not make shared memory : {why(error)}")
            return
        try:
            yield from self._reload(supervisor, memory)
        except OSError as error:
            # the system has no room for what comes after control: everybody serves on as they are
            log.error("Could not bring the reload to its end : %s", why(error))
        finally:
            os.close(memory)

    def _reload(self, supervisor: Supervisor, memory: int) -> Waits:
        reading = yield from self._read(supervisor, memory)
        if isinstance(reading, str):
            self._refuse(supervisor, reading)
            return
        setup = self._setup
        change = split(setup.config, reading, setup.running, setup.run)
        try:
            opened, gone = self._open(change)
        except OSError as error:
            self._refuse(supervisor, str(error.strerror or error))
            return
        # at once: their queues fill already
        for group in opened:
            self._give(supervisor, group)
        old = setup.config
        fields = compare(old, change.config).fields
        setup.adopt(change, reading)
        make_state_directories(change.config, setup.user)
        if "dscp" in fields:
            setup.ntp_sockets.set_dscp(change.config.dscp)
        dropped = " ".join(address_of(group.control) for group in gone if group.control is not None)
        yield from self._configure(supervisor, memory, dropped)
        for group in gone:
            self._let_go(supervisor, group)
        yield from self._follow_workers(supervisor, change.workers)
        if fields & KEY_EXCHANGE:
            yield from self._replace_ke(supervisor)

    def _read(self, supervisor: Supervisor, memory: int) -> Generator[Callable[[], bool], None, Reading | str]:
        reader, running_config = self._setup.reader, self._setup.config
        ended: list[int] = []

        def main(channel: object, waits: bool) -> int:
            store(reader(running_config, tell), memory)
            return 0

        slot = Slot("reader", main, lambda: Confinement(keep=[memory, *daemon_log.descriptors()]), once=ended.append)
        supervisor.start_slot(slot)
        if slot.child is None:
            supervisor.slots.remove(slot)
            return "no process to read it"
        slot.child.deadline_ns = time.monotonic_ns() + round(READ_S * 1e9)
        yield lambda: bool(ended)
        if ended != [0]:
            return "it could not be read to its end"
        return load(memory)

    def _refuse(self, supervisor: Supervisor, why: str) -> None:
        log.error("Could not reload the configuration, nothing was changed : %s", why)
        supervisor.tell(_control(supervisor), Verb.REFUSED, why)

    def _open(self, change: Change) -> tuple[list[Group], list[Group]]:
        """Open addresses that are missing and take those out that are not wanted. Raises OSError, nothing changed."""
        setup = self._setup
        wanted = setup.wanted_binds(change.config)
        sockets = setup.ntp_sockets
        opened = sockets.open_all(wanted, setup.workers)
        gone = sockets.unwanted(wanted)
        for group in gone:
            sockets.take(group.bind)
        return opened, gone

    def _give(self, supervisor: Supervisor, group: Group) -> None:
        """Have workers serve, and control use, a group that was opened while they run."""
        assert group.control is not None
        name = address_of(group.control)
        for index, slot in self._workers.items():
            if index < len(group.workers):
                # what reached control's socket before packets were steered past it is the first worker's to answer
                leftover = [group.control.fileno()] if index == 0 else []
                supervisor.tell(slot, Verb.ADD, name, [group.workers[index].fileno(), *leftover])
        supervisor.tell(_control(supervisor), Verb.ADD, name, [group.control.fileno()])

    def families_script(self, supervisor: Supervisor, text: str) -> Waits:
        """Serve the address families that are left to be served when commands have changed access rules, no others.

        `text` is what control said: ValueError when it is no count and families.
        """
        reloads, *versions = map(int, text.split())
        if not {4, 6}.issuperset(versions):
            raise ValueError(f"no address families {versions}")
        return self._follow_families(supervisor, reloads, frozenset(versions))

    def _follow_families(self, supervisor: Supervisor, reloads: int, versions: frozenset[int]) -> Waits:
        setup, sockets = self._setup, self._setup.ntp_sockets
        if reloads != setup.reloads.count:
            # said of rules that are not in force any more: control says it again when it has the new ones
            return
        setup.families = versions
        wanted = setup.wanted_binds(setup.config)
        for group in sockets.unwanted(wanted):
            sockets.take(group.bind)
            name = address_of(group.control) if group.control is not None else ""
            yield from self._have_control_let_go(supervisor, Verb.DROP, name)
            self._let_go(supervisor, group)
            yield from self._see_closed(group.bind)
        for bind in sockets.missing(wanted):
            try:
                group = sockets.extend(bind, setup.workers)
            except OSError as error:
                log.error("Could not open NTP socket on %s : %s", bind, error.strerror)
                continue
            self._give(supervisor, group)

    def _see_closed(self, bind: BindAddress) -> Waits:
        """Wait for workers to close their sockets of an address: whoever is to open it again would find it taken."""
        deadline = time.monotonic() + CLOSE_S
        yield lambda: self._setup.ntp_sockets.is_free(bind) or time.monotonic() > deadline

    def _configure(self, supervisor: Supervisor, memory: int, dropped: str) -> Waits:
        """Have control take the configuration up. One that is started meanwhile has it from us."""
        yield from self._have_control_let_go(supervisor, Verb.CONFIGURE, dropped, [memory])

    def _have_control_let_go(
        self, supervisor: Supervisor, verb: Verb, names: str, descriptors: Sequence[int] = ()
    ) -> Waits:
        """Control lets go of these addresses, and says so, before they are cut off: that changes what they are called.

        One that is started meanwhile does not have them.
        """
        slot = _control(supervisor)
        told = slot.child
        supervisor.configured = False
        supervisor.tell(slot, verb, names, descriptors)
        deadline = time.monotonic() + CONTROL_S
        yield lambda: supervisor.configured or slot.child is not told or time.monotonic() > deadline

    def _let_go(self, supervisor: Supervisor, group: Group) -> None:
        name = address_of(group.workers[0]) if group.workers else ""
        cut_off(group)
        for index, slot in self._workers.items():
            if index < len(group.workers):
                supervisor.tell(slot, Verb.DROP, name)
        close_group(group)

    def _follow_workers(self, supervisor: Supervisor, wanted: int) -> Waits:
        # who is to make room does so first
        self._share_log(supervisor, wanted)
        while self._setup.workers < wanted:
            try:
                yield from self._add_worker(supervisor, self._setup.workers)
            except OSError as error:
                log.error("Could not add a worker : %s", error.strerror)
                return
        while self._setup.workers > wanted:
            yield from self._end_worker(supervisor, self._setup.workers - 1)

    def _share_log(self, supervisor: Supervisor, workers: int) -> None:
        """Divide `clientloglimit` among so many, when there never were as many before.

        With another number of workers most clients meet another one, so that little is lost when all begin anew.
        """
        setup = self._setup
        plan = setup.memory.clientlog
        # control, where it answers itself, keeps its log as it is
        if workers == 0 or plan is None or (blocks := plan.blocks_for(workers)) >= setup.log_blocks:
            return
        setup.log_blocks = blocks
        for slot in self._workers.values():
            supervisor.tell(slot, Verb.LOG, str(blocks))

    def _add_worker(self, supervisor: Supervisor, index: int) -> Waits:
        """Packets come to its sockets once it is ready. Raises OSError where there are no sockets for it."""
        setup = self._setup
        setup.ntp_sockets.fill(index + 1)
        slot = self._workers[index] = self._make_worker(index)
        supervisor.start_slot(slot)
        deadline = time.monotonic() + START_S
        # one that does not come up is started again on its sockets, as any worker is
        yield lambda: _is_ready(slot) or time.monotonic() > deadline
        setup.workers = index + 1
        setup.ntp_sockets.steer_to(index + 1)

    def _end_worker(self, supervisor: Supervisor, index: int) -> Waits:
        """It is sent nothing more, answers what it has, and ends; then its sockets are closed."""
        setup = self._setup
        setup.ntp_sockets.steer_to(index)
        setup.workers = index
        deadline = time.monotonic() + DRAIN_S
        empty_looks = 0

        def looked_often() -> bool:
            nonlocal empty_looks
            empty_looks = 0 if setup.ntp_sockets.has_waiting(index) else empty_looks + 1
            return empty_looks > DRAINED_LOOKS or time.monotonic() > deadline

        yield looked_often
        slot = self._workers.pop(index)
        supervisor.end_slot(slot)
        yield lambda: slot not in supervisor.slots
        setup.ntp_sockets.drop_last()

    def _replace_ke(self, supervisor: Supervisor) -> Waits:
        """Key exchange by new processes: they have the new options and certificates, and accept before the old ones
        stop accepting; sessions that have begun are brought to their end."""
        slots = [slot for slot in supervisor.slots if slot.drain_s is not None]
        if not slots or self._setup.nts is None:
            return
        self._setup.nts.follow(self._setup.config)
        # those that an earlier reload has replaced may still have sessions
        yield lambda: not supervisor.is_replacing
        supervisor.replace(slots)


def _control(supervisor: Supervisor) -> Slot:
    return next(slot for slot in supervisor.slots if slot.is_control)


def _is_ready(slot: Slot) -> bool:
    return slot.child is not None and slot.child.ready
