"""Whom control reports to: the supervisor, or, where there is only one process, the service manager itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol

from ntpd_fast.server.channel import Channel, ChannelClosed, Message, Verb
from ntpd_fast.server.selfcheck import SelfCheck
from ntpd_fast.system.notify import Notifier

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

CHECK_S: Final = 2.0
"""How long, at the start, an answer to ourselves is waited for."""


class Overseer(Protocol):
    """`alive_interval_s`: how often a sign of life is wanted; None: not at all."""

    alive_interval_s: float | None

    def watch(
        self, loop: asyncio.AbstractEventLoop, on_loss: Callable[[], None], heed: Callable[[Message], None]
    ) -> Callable[[], None]:
        """Call `on_loss` when the overseer is gone, `heed` for what it says; what ends the watch is returned."""

    def ready(self) -> None:
        """Everything that control does is being done."""

    def alive(self) -> None:
        """The event loop turns."""

    def status(self, text: str) -> None:
        """A line about the state of synchronisation and service."""

    def serve_families(self, versions: Collection[int], reloads: int) -> bool:
        """Let just these families (4, 6) be served, as commands have left the access rules; False: control is to.

        `reloads`: how many control has taken up. What it says of rules that were reloaded meanwhile does not count.
        """

    def reload_certificates(self) -> None:
        """Let NTS-KE processes load their certificates again."""

    def reload(self) -> bool:
        """Have the configuration read again; False: control is to do it all itself."""

    def configured(self) -> None:
        """Control has done its part of a reload."""

    def stopping(self) -> None:
        """Control ends on purpose."""


class SupervisorLink:
    """The supervisor at the other end of a channel."""

    def __init__(self, channel: Channel, alive_interval_s: float | None) -> None:
        self._channel = channel
        self.alive_interval_s = alive_interval_s

    def watch(
        self, loop: asyncio.AbstractEventLoop, on_loss: Callable[[], None], heed: Callable[[Message], None]
    ) -> Callable[[], None]:
        """See `Overseer`."""
        descriptor = self._channel.fileno()

        def listen() -> None:
            try:
                while (message := self._channel.receive()) is not None:
                    heed(message)
            except ChannelClosed:
                loop.remove_reader(descriptor)
                on_loss()

        loop.add_reader(descriptor, listen)

        def end_watch() -> None:
            loop.remove_reader(descriptor)

        return end_watch

    def ready(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.READY)

    def alive(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.ALIVE)

    def status(self, text: str) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.STATUS, text)

    def serve_families(self, versions: Collection[int], reloads: int) -> bool:
        """See `Overseer`."""
        self._channel.send(Verb.FAMILIES, " ".join(map(str, [reloads, *sorted(versions)])))
        return True

    def reload_certificates(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.CERTIFICATES)

    def reload(self) -> bool:
        """See `Overseer`."""
        self._channel.send(Verb.RELOAD)
        return True

    def configured(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.CONFIGURED)

    def stopping(self) -> None:
        """The supervisor will see it end."""


class ServiceManagerLink:
    """The service manager, and whoever waits for the start. `check`: how to find out whether requests are answered."""

    def __init__(self, notifier: Notifier, on_ready: Callable[[], None], check: SelfCheck | None = None) -> None:
        self._notifier = notifier
        self._on_ready = on_ready
        self._check = check
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: list[int] = []
        self._ready_waits = False
        self._giving_up: asyncio.TimerHandle | None = None
        self.alive_interval_s = notifier.watchdog_interval_s

    def watch(
        self, loop: asyncio.AbstractEventLoop, on_loss: Callable[[], None], heed: Callable[[Message], None]
    ) -> Callable[[], None]:
        """See `Overseer`. A service manager that is gone takes nothing from us."""
        self._loop = loop
        if self._ready_waits:
            self.ready()

        def end_watch() -> None:
            self._forget()
            if self._giving_up is not None:
                self._giving_up.cancel()

        return end_watch

    def ready(self) -> None:
        """See `Overseer`. Told when a request of our own is answered, or no answer comes: while the loop turns."""
        if self._loop is None:
            self._ready_waits = True
        elif self._ask(self._declare_ready):
            self._giving_up = self._loop.call_later(CHECK_S, self._go_without)
        else:
            self._declare_ready()

    def alive(self) -> None:
        """See `Overseer`. Told when a request of our own is answered."""
        if self._giving_up is None and not self._ask(self._notifier.watchdog):
            self._notifier.watchdog()

    def _declare_ready(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        self._on_ready()
        self._notifier.ready()

    def _go_without(self) -> None:
        """One who drops our packets (a packet filter) must not keep the daemon down."""
        log.warning("No answer to requests of our own: watching the process only")
        self._forget()
        self._check = None
        self._declare_ready()

    def _ask(self, answered: Callable[[], None]) -> bool:
        self._forget()
        if self._check is None or self._loop is None or not self._check.ask():
            return False
        check = self._check

        def listen(descriptor: int) -> None:
            if check.heard(descriptor):
                self._forget()
                answered()

        self._watched = check.descriptors()
        for descriptor in self._watched:
            self._loop.add_reader(descriptor, listen, descriptor)
        return True

    def _forget(self) -> None:
        if self._loop is not None:
            for descriptor in self._watched:
                self._loop.remove_reader(descriptor)
        self._watched = []
        if self._check is not None:
            self._check.close()

    def status(self, text: str) -> None:
        """See `Overseer`."""
        self._notifier.status(text)

    def serve_families(self, versions: Collection[int], reloads: int) -> bool:
        """See `Overseer`."""
        return False

    def reload_certificates(self) -> None:
        """See `Overseer`: with one process there are no others."""

    def reload(self) -> bool:
        """See `Overseer`."""
        self._notifier.reloading()
        return False

    def configured(self) -> None:
        """See `Overseer`."""
        self._notifier.ready()

    def stopping(self) -> None:
        """See `Overseer`."""
        self._notifier.stopping()
