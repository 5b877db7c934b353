"""Timers of the control plane: what the engine sees (`Scheduler`) and its asyncio implementation.

The sans-IO engine arms timers through the `Scheduler` protocol only; the production scheduler and the
one of the simulator share `TimerQueue`, so that both keep the same rules:

- deadlines are on the monotonic clock, which follows the frequency of the system clock but not its
  steps, so a step never moves a timer;
- a timer of a class keeps a separation from the last dispatched and from all queued timers of its
  class (requests to different servers don't leave together), and may get a random extra delay;
- nothing fires early, and the event loop is never armed with a zero timeout: loops that round to the
  millisecond would spin on a timer that is due in a fraction of it.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

NS_PER_S = 1_000_000_000
MS_PER_S = 1000

# One pass that runs more timers than this, several times the queue, faster than the rate below
# is a timer that re-arms itself with nothing in between: a bug of ours, better stopped than spun.
RUNAWAY_MIN_DISPATCHED = 20
RUNAWAY_QUEUE_RATIO = 4
RUNAWAY_RATE_HZ = 100.0


class TimerClass(enum.Enum):
    """Timers that keep a distance from others of their class."""

    NTP_CLIENT = enum.auto()
    NTP_PEER = enum.auto()
    NTP_BROADCAST = enum.auto()


class TimerHandle(Protocol):
    """An armed timer."""

    @property
    def deadline_ns(self) -> int:
        """Monotonic time at which it fires, ns (after randomness and separation)."""

    def cancel(self) -> None:
        """Disarm; harmless on a timer that has fired or was cancelled before."""


class Random(Protocol):
    """The part of `random.Random` that the engine draws from."""

    def random(self) -> float:
        """Uniform in [0, 1)."""


class Scheduler(Protocol):
    """Clock readings and timers, as the engine sees them."""

    def raw_ns(self) -> int:
        """The system clock, ns since the Unix epoch, uncorrected."""

    def monotonic_ns(self) -> int:
        """The monotonic clock, ns: runs at the system clock's rate, never steps."""

    def call_later(
        self,
        delay_s: float,
        callback: Callable[[], None],
        *,
        timer_class: TimerClass | None = None,
        separation_s: float = 0.0,
        randomness: float = 0.0,
    ) -> TimerHandle:
        """Call back once, no earlier than `delay_s` (negative: as soon as possible) from now.

        `randomness` stretches the delay by a factor 1 + U(0, randomness). With a `timer_class` the
        deadline moves later until it is `separation_s` away from the last dispatch and from all
        queued timers of the class.
        """

    def add_event_hook(self, hook: Callable[[], None]) -> None:
        """Call `hook` first at every wake-up, before any timer or packet is handled."""

    def begin_event(self) -> None:
        """Run the event hooks: the first call of whoever handles a wake-up that no timer caused."""


class QueuedTimer:
    """A timer in a `TimerQueue`."""

    __slots__ = ("_callback", "_queue", "deadline_ns", "timer_class")

    def __init__(
        self,
        queue: TimerQueue,
        deadline_ns: int,
        callback: Callable[[], None],
        timer_class: TimerClass | None,
    ) -> None:
        self._queue = queue
        self._callback: Callable[[], None] | None = callback
        self.deadline_ns = deadline_ns
        self.timer_class = timer_class

    @property
    def armed(self) -> bool:
        """Whether it will still fire."""
        return self._callback is not None

    def cancel(self) -> None:
        """Disarm; harmless on a timer that has fired or was cancelled before."""
        if self._callback is not None:
            self._callback = None
            self._queue.forget(self)

    def fire(self) -> None:
        """Run the callback of an armed timer; it counts as fired even if the callback raises."""
        callback = self._callback
        assert callback is not None
        self._callback = None
        callback()


class SchedulingRunawayError(RuntimeError):
    """A timer re-arms itself without time passing: a bug in the caller."""


class TimerQueue:
    """Timers ordered by deadline, with class separation; knows no clock and no event loop."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heap: list[tuple[int, int, QueuedTimer]] = []
        self._order = itertools.count()
        self._armed = 0
        self._class_deadlines: dict[TimerClass, list[int]] = {c: [] for c in TimerClass}
        self._class_dispatched: dict[TimerClass, int] = {}
        # by class, until a timer leaves it: a separation, and from when to when there is no room for it;
        # thousands that are armed for about the same time don't each have to pass all the others
        self._class_last: dict[TimerClass, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        return self._armed

    def add(
        self,
        now_ns: int,
        delay_s: float,
        callback: Callable[[], None],
        *,
        timer_class: TimerClass | None = None,
        separation_s: float = 0.0,
        randomness: float = 0.0,
    ) -> QueuedTimer:
        """Queue a timer; see `Scheduler.call_later`."""
        if not math.isfinite(delay_s):
            raise ValueError(f"timer delay {delay_s}")
        if randomness > 0.0:
            delay_s *= 1.0 + randomness * self._random.random()
        deadline_ns = now_ns + max(0, math.ceil(delay_s * NS_PER_S))
        if timer_class is not None:
            deadline_ns = self._separate(deadline_ns, timer_class, math.ceil(separation_s * NS_PER_S))
            insort(self._class_deadlines[timer_class], deadline_ns)
        timer = QueuedTimer(self, deadline_ns, callback, timer_class)
        heapq.heappush(self._heap, (deadline_ns, next(self._order), timer))
        self._armed += 1
        return timer

    def forget(self, timer: QueuedTimer) -> None:
        """Account for a timer that will not fire; its heap entry is dropped when it surfaces."""
        self._armed -= 1
        self._leave_class(timer)
        # cancelled entries must not pile up under a long timer at the head
        if len(self._heap) > 64 and len(self._heap) > 2 * self._armed:
            self._heap = [entry for entry in self._heap if entry[2].armed]
            heapq.heapify(self._heap)

    def next_deadline_ns(self) -> int | None:
        """Deadline of the earliest armed timer."""
        heap = self._heap
        while heap and not heap[0][2].armed:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_due(self, monotonic_ns: Callable[[], int]) -> int:
        """Fire, in order, every timer that is due; return how many.

        Raises `SchedulingRunawayError` when timers keep re-arming without time passing.
        """
        started_ns = now_ns = monotonic_ns()
        queued = self._armed
        dispatched = 0
        while True:
            deadline_ns = self.next_deadline_ns()
            if deadline_ns is None or deadline_ns > now_ns:
                return dispatched
            timer = heapq.heappop(self._heap)[2]
            self._armed -= 1
            if timer.timer_class is not None:
                self._leave_class(timer)
                self._class_dispatched[timer.timer_class] = now_ns
            timer.fire()
            dispatched += 1
            now_ns = monotonic_ns()
            if (
                dispatched > RUNAWAY_MIN_DISPATCHED
                and dispatched > RUNAWAY_QUEUE_RATIO * queued
                and dispatched > RUNAWAY_RATE_HZ * (now_ns - started_ns) / NS_PER_S
            ):
                raise SchedulingRunawayError(f"{dispatched} timers in one pass")

    def _leave_class(self, timer: QueuedTimer) -> None:
        if timer.timer_class is not None:
            deadlines = self._class_deadlines[timer.timer_class]
            del deadlines[bisect_left(deadlines, timer.deadline_ns)]
            self._class_last.pop(timer.timer_class, None)

    def _separate(self, deadline_ns: int, timer_class: TimerClass, separation_ns: int) -> int:
        last_ns = self._class_dispatched.get(timer_class)
        if last_ns is not None:
            deadline_ns = max(deadline_ns, last_ns + separation_ns)
        wanted_ns = deadline_ns
        last = self._class_last.get(timer_class)
        if last is not None and last[0] == separation_ns and last[1] <= wanted_ns <= last[2]:
            _, wanted_ns, deadline_ns = last
        deadlines = self._class_deadlines[timer_class]
        for queued_ns in itertools.islice(
            deadlines, bisect_left(deadlines, deadline_ns - separation_ns + 1), None
        ):
            if queued_ns >= deadline_ns + separation_ns:
                break
            deadline_ns = queued_ns + separation_ns
        self._class_last[timer_class] = (separation_ns, wanted_ns, deadline_ns)
        return deadline_ns


class AsyncioScheduler:
    """`Scheduler` on an asyncio (uvloop) event loop; all timers share one loop timer.

    loop: None where there is none yet (`run_in`): timers are queued until then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None, random: Random) -> None:
        self._loop = loop
        self._queue = TimerQueue(random)
        self._hooks: list[Callable[[], None]] = []
        self._wake: asyncio.TimerHandle | None = None
        self._wake_ns = 0
        self._running = False

    def run_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that the timers fire in."""
        self._loop = loop
        self._arm()

    def raw_ns(self) -> int:
        """The system clock, ns since the Unix epoch, uncorrected."""
        return time.clock_gettime_ns(time.CLOCK_REALTIME)

    def monotonic_ns(self) -> int:
        """The monotonic clock, ns: runs at the system clock's rate, never steps."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

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

    def close(self) -> None:
        """Leave the loop; queued timers never fire."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _arm(self) -> None:
        """Have the loop wake us for the earliest timer, at the millisecond after its deadline."""
        if self._running or self._loop is None:
            return
        deadline_ns = self._queue.next_deadline_ns()
        if deadline_ns is None:
            self.close()
            return
        if self._wake is not None:
            if self._wake_ns == deadline_ns:
                return
            self._wake.cancel()
        delay_ns = deadline_ns - self.monotonic_ns()
        self._wake_ns = deadline_ns
        self._wake = self._loop.call_later(loop_timeout_ms(delay_ns) / MS_PER_S, self._wake_up)

    def _wake_up(self) -> None:
        self._wake = None
        self.begin_event()
        self._running = True
        try:
            self._queue.run_due(self.monotonic_ns)
        finally:
            self._running = False
            self._arm()


def loop_timeout_ms(delay_ns: int) -> int:
    """Whole milliseconds (at least 1) to wait so that a loop with that resolution is not early."""
    return max(1, -(-delay_ns // 1_000_000))


def repeat(scheduler: Scheduler, interval_s: float, action: Callable[[], None]) -> None:
    """Do something now and every `interval_s` until the scheduler is closed."""

    def again() -> None:
        action()
        scheduler.call_later(interval_s, again)

    again()
