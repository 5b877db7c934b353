"""The `Scheduler` of a simulated node: production timers on a simulated clock.

Timers are due by the node's monotonic clock. The wake-up is computed with the present rate of the clock
and again whenever the rate changes or a wake-up came early; no time passes while a node works.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ntpd_fast.system.timers import TimerClass, TimerHandle, TimerQueue
from tests.sim.kernel import ModelKernel
from tests.sim.world import World


class SimScheduler:
    """Clock readings and timers of one node."""

    def __init__(self, world: World, kernel: ModelKernel, rng: random.Random) -> None:
        self._world = world
        self._kernel = kernel
        self._queue = TimerQueue(rng)
        self._hooks: list[Callable[[], None]] = []
        self._wake_ns: int | None = None
        self._generation = 0
        self._asleep = False
        self.stopped = False
        """A stopped node runs no timers any more (the process is dead)."""
        kernel.clock.on_rate_change.append(self._rearm)

    def raw_ns(self) -> int:
        """The node's system clock."""
        return self._kernel.read()

    def monotonic_ns(self) -> int:
        """The node's monotonic clock."""
        return self._kernel.read_monotonic()

    def call_later(
        self,
        delay_s: float,
        callback: Callable[[], None],
        *,
        timer_class: TimerClass | None = None,
        separation_s: float = 0.0,
        randomness: float = 0.0,
    ) -> TimerHandle:
        """See `Scheduler.call_later`."""
        timer = self._queue.add(
            self.monotonic_ns(),
            delay_s,
            callback,
            timer_class=timer_class,
            separation_s=separation_s,
            randomness=randomness,
        )
        self._arm()
        return timer

    def add_event_hook(self, hook: Callable[[], None]) -> None:
        """See `Scheduler.add_event_hook`."""
        self._hooks.append(hook)

    def begin_event(self) -> None:
        """See `Scheduler.begin_event`."""
        for hook in self._hooks:
            hook()

    def sleep(self) -> None:
        """The machine is suspended: nothing runs until `wake`."""
        self._asleep = True

    def wake(self) -> None:
        """The machine goes on."""
        self._asleep = False
        self._rearm()

    def _rearm(self) -> None:
        self._wake_ns = None
        self._arm()

    def _arm(self) -> None:
        if self.stopped or self._asleep:
            return
        deadline_ns = self._queue.next_deadline_ns()
        if deadline_ns is None:
            return
        delay_ns = self._kernel.clock.true_delay_ns(max(0, deadline_ns - self.monotonic_ns()))
        wake_ns = self._world.now_ns + delay_ns
        if self._wake_ns is not None and self._wake_ns <= wake_ns:
            return
        self._wake_ns = wake_ns
        self._generation += 1
        generation = self._generation
        self._world.at(wake_ns, lambda: self._wake_up(generation))

    def _wake_up(self, generation: int) -> None:
        if generation != self._generation or self.stopped or self._asleep:
            return
        self._wake_ns = None
        self.begin_event()
        self._queue.run_due(self.monotonic_ns)
        self._rearm()
