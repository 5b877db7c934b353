"""Whom control reports to: the supervisor, or, where there is only one process, the service manager itself."""

from collections.abc import Callable
from typing import Protocol

from ntpd_fast.server.channel import Channel, Verb
from ntpd_fast.system.notify import Notifier


class Overseer(Protocol):
    """`alive_interval_s`: how often a sign of life is wanted; None: not at all."""

    alive_interval_s: float | None

    def ready(self) -> None:
        """Everything that control does is being done."""

    def alive(self) -> None:
        """The event loop turns."""

    def status(self, text: str) -> None:
        """A line about the state of synchronisation and service."""

    def stopping(self) -> None:
        """Control ends on purpose."""


class SupervisorLink:
    """The supervisor at the other end of a channel."""

    def __init__(self, channel: Channel, alive_interval_s: float | None) -> None:
        self._channel = channel
        self.alive_interval_s = alive_interval_s

    def ready(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.READY)

    def alive(self) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.ALIVE)

    def status(self, text: str) -> None:
        """See `Overseer`."""
        self._channel.send(Verb.STATUS, text)

    def stopping(self) -> None:
        """The supervisor will see it end."""


class ServiceManagerLink:
    """The service manager, and whoever waits for the start."""

    def __init__(self, notifier: Notifier, on_ready: Callable[[], None]) -> None:
        self._notifier = notifier
        self._on_ready = on_ready
        self.alive_interval_s = notifier.watchdog_interval_s

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

    def stopping(self) -> None:
        """See `Overseer`."""
        self._notifier.stopping()
