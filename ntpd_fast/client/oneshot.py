"""Runs for one measurement: `-q` and `-Q`, which end the daemon, and `initstepslew`, which precedes everything else.

The reference corrects the clock with its first update and says that it is done (`Outlets.on_mode_end`). What is left
is to notice that no update can come any more, and to give `initstepslew` its own servers and take them away again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.sources import AddSourceError, Sources
from ntpd_fast.config.model import InitStepServer, SourceConfig, SourceKind, SourceOptions
from ntpd_fast.system.timers import Scheduler, TimerHandle

CHECK_INTERVAL_S = 1.0
"""Sources that answer and are of no use don't call for a selection: they have to be looked at."""

SETTLE_S = 2.0
"""From the end of the initial correction to the normal start."""


class SpecialReference(Protocol):
    """What ends a special mode (`clock.reference.Reference`)."""

    def fail_special_mode(self) -> None:
        """End the mode without a measurement; calls `on_mode_end`."""


class OneShot:
    """Watches the sources of a special mode: it ends them when they have no chance any more.

    Takes the hook `selected_once` of the sources.
    """

    def __init__(self, sources: Sources, reference: SpecialReference, scheduler: Scheduler) -> None:
        self._sources = sources
        self._reference = reference
        self._scheduler = scheduler
        self._timer: TimerHandle | None = None
        sources.facts.one_shot = True
        sources.selector.quiet = True
        sources.hooks.selected_once = self._check

    def start(self) -> None:
        """Begin to watch; called when the sources were added. Nothing ends from within this call."""
        self._timer = self._scheduler.call_later(0.0, self._look)

    def close(self) -> None:
        """The mode is over, or the daemon: sources are ordinary ones again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sources.facts.one_shot = False
        self._sources.selector.quiet = False
        self._sources.hooks.selected_once = None

    def _look(self) -> None:
        self._timer = self._scheduler.call_later(CHECK_INTERVAL_S, self._look)
        self._check()

    def _check(self) -> None:
        if self._timer is not None and self._sources.is_hopeless():
            self._timer.cancel()
            self._timer = None
            self._reference.fail_special_mode()


class InitStepSlew:
    """The initial correction: asks the servers of the directive in quick succession, then lets the daemon begin."""

    def __init__(
        self,
        sources: Sources,
        reference: SpecialReference,
        scheduler: Scheduler,
        servers: Sequence[InitStepServer],
        begin: Callable[[], None],
    ) -> None:
        """`begin` is called for the normal start; `finish` is for `Outlets.on_mode_end`."""
        self._sources = sources
        self._scheduler = scheduler
        self._servers = servers
        self._begin = begin
        self._temporary: list[NtpSource] = []
        self._timer: TimerHandle | None = None
        self._watch = OneShot(sources, reference, scheduler)

    def start(self) -> None:
        """Ask the servers."""
        options = SourceOptions(iburst=True)
        for server in self._servers:
            try:
                source = self._sources.add(SourceConfig(SourceKind.SERVER, server.name, options), server.address)
            except AddSourceError:
                # two of the names stand for one address
                continue
            self._temporary.append(source)
        self._sources.start()
        self._watch.start()

    def finish(self, measured: bool) -> None:
        """The mode is over, with or without a measurement; the sources are still busy with it."""
        self._timer = self._scheduler.call_later(0.0, self._clear)

    def close(self) -> None:
        """The daemon ends."""
        self._watch.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _clear(self) -> None:
        self._sources.remove(*self._temporary)
        self._temporary.clear()
        self._watch.close()
        self._timer = self._scheduler.call_later(SETTLE_S, self._begin)
