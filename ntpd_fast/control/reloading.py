"""Reloads from control's side: asking for one, taking it up, telling what came of it.

With a supervisor the words are its (`renewal`): it reads and opens, and `configure` brings what was read. With a single
process all of it happens here; what may take a while (names, many files) is read in a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from functools import partial

from ntpd_fast._record import dataclass
from ntpd_fast.config.model import Config
from ntpd_fast.control.overseer import Overseer
from ntpd_fast.control.reconfigure import Parts, describe, reconfigure, tell_outcome
from ntpd_fast.control.reload import Change, Reading, load, split
from ntpd_fast.control.serving import Serving
from ntpd_fast.control.setup import Setup, make_state_directories
from ntpd_fast.monitor.codec.layout import NAME_LENGTH
from ntpd_fast.monitor.codec.replies import ReloadState
from ntpd_fast.server.channel import Message, Verb
from ntpd_fast.server.engine import address_of
from ntpd_fast.server.sockets import Group, group_of
from ntpd_fast.system.messages import Log, Severity

# A name of the command protocol ends with a NUL.
TEXT_PART = NAME_LENGTH - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the last reload. `number`: how many have ended; `failure`: why nothing was changed."""

    number: int = 0
    failure: str = ""
    needs_restart: str = ""


class Reloading:
    """One for the life of control. `busy` while a reload is on its way."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        setup: Setup,
        overseer: Overseer,
        parts: Parts,
        serving: Serving,
        log: Log,
    ) -> None:
        self._loop = loop
        self._setup = setup
        self._overseer = overseer
        self._parts = parts
        self._serving = serving
        self._log = log
        self._wanted_again = False
        self.busy = False
        self.outcome = Outcome()

    def request(self) -> None:
        """Have the configuration read again; after the reload that goes on, if there is one."""
        if self.busy:
            self._wanted_again = True
            return
        self.busy = True
        if not self._overseer.reload():
            threading.Thread(target=self._read, name="reader", daemon=True).start()

    def report(self) -> ReloadState:
        """For the command protocol."""
        text = (self.outcome.failure or self.outcome.needs_restart).encode()
        return ReloadState(
            busy=self.busy,
            ended=self.outcome.number,
            refused=bool(self.outcome.failure),
            text=text[:TEXT_PART],
            more=text[TEXT_PART : 2 * TEXT_PART],
        )

    def heed(self, message: Message) -> None:
        """What the supervisor says."""
        if message.verb is Verb.ADD:
            group = group_of(socket.socket(fileno=message.descriptors[0]), self._setup.config.ptpport)
            self._setup.ntp_sockets.groups.append(group)
            self._serving.begin(group)
        elif message.verb is Verb.CONFIGURE:
            reading = load(message.descriptors[0])
            os.close(message.descriptors[0])
            assert isinstance(reading, Reading)
            setup = self._setup
            change = split(setup.config, reading, setup.running, setup.run)
            gone = self._take_out(message.text)
            self._take_up(change, reading)
            for group in gone:
                self._serving.end(group)
            setup.workers = change.workers
            self._finish(change)
            if setup.families is not None:
                # what was said of them while the supervisor reloaded does not count: say it again
                setup.families = None
                self._serving.follow(self._parts.access.table)
        elif message.verb is Verb.DROP:
            for group in self._take_out(message.text):
                self._serving.end(group)
            self._overseer.configured()
        elif message.verb is Verb.REFUSED:
            # the supervisor has told the log
            self._end(Outcome(self.outcome.number + 1, failure=message.text))
        else:
            self._log(Severity.ERROR, f"Unexpected message '{message.verb.word}' from the supervisor")

    def _take_out(self, names: str) -> list[Group]:
        """The groups of these addresses, which are not among ours any more."""
        groups = self._setup.ntp_sockets.groups
        gone = [group for group in groups if _name(group) in names.split()]
        for group in gone:
            groups.remove(group)
        return gone

    def _read(self) -> None:
        """In a thread: nothing but reading."""
        reading = self._setup.reader(self._setup.config, self._log)
        self._loop.call_soon_threadsafe(self._take, reading)

    def _take(self, reading: Reading | str) -> None:
        setup, sockets = self._setup, self._setup.ntp_sockets
        if isinstance(reading, str):
            self._refuse(reading)
            return
        change = split(setup.config, reading, setup.running, setup.run)
        wanted = setup.wanted_binds(change.config)
        try:
            opened = sockets.open_all(wanted, 0)
        except OSError as error:
            self._refuse(str(error.strerror))
            return
        # at once: their queues fill already
        for group in opened:
            self._serving.begin(group)
        gone = sockets.unwanted(wanted)
        for group in gone:
            sockets.take(group.bind)
        old_config = setup.config
        make_state_directories(change.config, setup.user)
        if change.config.dscp != old_config.dscp:
            sockets.set_dscp(change.config.dscp)
        self._take_up(change, reading)
        for group in gone:
            self._serving.end(group)
        self._finish(change)

    def _take_up(self, change: Change, reading: Reading) -> None:
        old: Config = self._setup.config
        self._setup.adopt(change, reading)
        reconfigure(self._parts, old, change.config)

    def _refuse(self, why: str) -> None:
        self._log(Severity.ERROR, f"Could not reload the configuration, nothing was changed : {why}")
        self._overseer.configured()
        self._end(Outcome(self.outcome.number + 1, failure=why))

    def _finish(self, change: Change) -> None:
        self._overseer.configured()
        # many sources come in turns
        self._parts.upstream.names.when_settled(partial(self._tell, change))

    def _tell(self, change: Change) -> None:
        tell_outcome(self._log, change.needs_restart)
        self._end(Outcome(self.outcome.number + 1, needs_restart=describe(change.needs_restart)))

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.busy = False
        if self._wanted_again:
            self._wanted_again = False
            self.request()


def _name(group: Group) -> str:
    return address_of(group.control) if group.control is not None else ""
