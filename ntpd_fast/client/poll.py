"""Adaptation of the polling interval: a score that moves it up or down when it has collected a whole step."""

from __future__ import annotations

import math


class PollControl:
    """The polling interval of an association, log2 s, between `minpoll` and `maxpoll`."""

    def __init__(self, minpoll: int, maxpoll: int) -> None:
        self.minpoll = minpoll
        self.maxpoll = maxpoll
        self.poll = minpoll
        self.score = 0.0

    def adjust(self, amount: float, *, subsecond_allowed: bool) -> None:
        """Move the score; a whole step of it goes to the interval."""
        self.score += amount
        if self.score >= 1.0:
            steps = math.trunc(self.score)
        elif self.score < 0.0:
            steps = math.trunc(self.score - 1.0)
        else:
            steps = 0
        self.poll += steps
        self.score -= steps
        self._limit(subsecond_allowed)

    def reset(self, *, subsecond_allowed: bool) -> None:
        """Start again from the shortest interval."""
        self.poll = self.minpoll
        self.score = 0.0
        self._limit(subsecond_allowed)

    def set_minpoll(self, minpoll: int) -> None:
        """Change the lower limit (and the upper, where it is now below)."""
        self.minpoll = minpoll
        self.maxpoll = max(self.maxpoll, minpoll)

    def set_maxpoll(self, maxpoll: int) -> None:
        """Change the upper limit (and the lower, where it is now above)."""
        self.maxpoll = maxpoll
        self.minpoll = min(self.minpoll, maxpoll)

    def _limit(self, subsecond_allowed: bool) -> None:
        if self.poll < self.minpoll:
            self.poll = self.minpoll
            self.score = 0.0
        elif self.poll > self.maxpoll:
            self.poll = self.maxpoll
            self.score = 1.0
        if self.poll < 0 and not subsecond_allowed:
            self.poll = 0
