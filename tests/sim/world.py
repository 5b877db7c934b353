"""True time and what happens in it: the event queue every simulated thing hangs on.

True time τ is an integer count of nanoseconds that ignores leap seconds; UTC is τ plus the epoch minus
the leap seconds inserted so far. Everything random comes from one seed, split by purpose, so that a
change in one stream (say, more packets) leaves the others as they were.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

NS_PER_S = 1_000_000_000

EPOCH_S = 1_700_000_000
"""UTC at the start of a simulation unless the scenario says otherwise: an ordinary day of 2023."""


class World:
    """The queue of events in true time."""

    def __init__(self, seed: int, *, name: str = "", epoch_s: int = EPOCH_S) -> None:
        """Worlds of different names have nothing random in common, with the same seed too."""
        self.seed = seed
        self.name = name
        self.epoch_ns = epoch_s * NS_PER_S
        self.now_ns = 0
        self.events = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._leaps: list[tuple[int, int]] = []

    def random(self, purpose: str) -> random.Random:
        """The stream of random numbers for one purpose."""
        return random.Random(f"{self.name}/{self.seed}/{purpose}" if self.name else f"{self.seed}/{purpose}")

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Do something at a true time (now, if that has passed)."""
        heapq.heappush(self._heap, (max(time_ns, self.now_ns), next(self._order), action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after a while."""
        self.at(self.now_ns + round(delay_s * NS_PER_S), action)

    def run_until(self, time_ns: int) -> None:
        """Let everything happen up to and including a true time."""
        heap = self._heap
        while heap and heap[0][0] <= time_ns:
            self.now_ns, _, action = heapq.heappop(heap)
            self.events += 1
            action()
        self.now_ns = time_ns

    def run(self, duration_s: float) -> None:
        """Let everything happen for a while."""
        self.run_until(self.now_ns + round(duration_s * NS_PER_S))

    def insert_leap(self, time_ns: int, leap_s: int) -> None:
        """UTC repeats (+1) or skips (−1) a second at a true time (the end of the last old second)."""
        self._leaps.append((time_ns, leap_s))

    def utc_ns(self, time_ns: int | None = None) -> int:
        """UTC in ns since the Unix epoch at a true time (default: now)."""
        if time_ns is None:
            time_ns = self.now_ns
        utc = self.epoch_ns + time_ns
        for leap_ns, leap_s in self._leaps:
            if time_ns >= leap_ns:
                utc -= leap_s * NS_PER_S
        return utc

    def true_ns(self, utc_ns: int) -> int:
        """The true time at which UTC first reads this."""
        time_ns = utc_ns - self.epoch_ns
        for leap_ns, leap_s in self._leaps:
            if time_ns >= leap_ns:
                time_ns += leap_s * NS_PER_S
        return time_ns
