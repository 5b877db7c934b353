"""Whom control reports to: the supervisor, or, where there is only one process, the service manager itself."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from ntpd_fast.server.channel import Channel, ChannelClosed, Verb
from ntpd_fast.system.notify import Notifier

log = logging.getLogger(__name__)


class Overseer(Protocol):
    """`alive_interval_s`: how often a sign of life is wanted; None: not at all."""

    alive_interval_s: float | None

    def watch(self, loop: asyncio.AbstractEventLoop, on_loss: Callable[[], None]) -> Callable[[], None]:
        """Call `on_loss` when the overseer is gone; what ends the watch is returned."""

    def ready(self) -> None:
        """Everything that control does is being done."""

    def alive(self) -> None:
        """The event loop turns."""

    def status(self, text: str) -> None:
        """A line about the state of synchronisation and service."""

    def serve_family(self, version: int) -> None:
        """Somebody of this family (4 or 6) may ask now: let workers serve it."""

    def reload_certificates(self) -> None:
        """Let NTS-KE processes load their certificates again."""

    def stopping(self) -> None:
        """Control ends on purpose."""


class SupervisorLink:
    """The supervisor at the other end of a channel."""

    def __init__(self, channel: Channel, alive_interval_s: float | None) -> None:
        self._channel = channel
        self.alive_interval_s = alive_interval_s

    def watch(self, loop: asyncio.AbstractEventLoop, on_loss: Callable[[], None]) -> Callable[[], None]:
        """See `Overseer`. It has no words for control, so whatever comes is its end."""
        descriptor = self._channel.fileno()

        def listen() -> None:
            try:
                while (message := self._channel.receive()) is not None:
                    log.error("Unexpected message '%s' from the supervisor", message.verb.word)
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

    def serve_family(self, version: int) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.OPEN, str(version))

    def reload_certificates(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.CERTIFICATES)

    def stopping(self) -> None:
        """The supervisor will see it end."""


class ServiceManagerLink:
    """The service manager, and whoever waits for the start."""

    def __init__(self, notifier: Notifier, on_ready: Callable[[], None]) -> None:
        self._notifier = notifier
        self._on_ready = on_ready
        self.alive_interval_s = notifier.watchdog_interval_s

    def watch(self, loop: asyncio.AbstractEventLoop, on_loss: Callable[[], None]) -> Callable[[], None]:
        """See `Overseer`. A service manager that is gone takes nothing from us."""
        return lambda: None

    def ready(self) -> None:
        """See `Overseer`."""
        self._on_ready()
        self._notifier.ready()

    def alive(self) -> None:
        """See `Overseer`."""
        self._notifier.watchdog()

    def status(self, text: str) -> None:
        """See `Overseer`."""
        self._notifier.status(text)

    def serve_family(self, version: int) -> None:
        """See `Overseer`. There are no workers: control serves."""

    def reload_certificates(self) -> None:
        """See `Overseer`: with one process there are no others."""

    def stopping(self) -> None:
        """See `Overseer`."""
        self._notifier.stopping()
