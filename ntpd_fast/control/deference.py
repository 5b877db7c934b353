"""While commands come in, control lets the processes that serve time go first.

A program that reads every report wakes control tens of times in a row, and each time it would push a worker from its
core in the middle of a batch: packets wait, and on a busy server one in a hundred waits for milliseconds. With
SCHED_BATCH a process that wakes up takes a free core or the next turn of a busy one, and gets its full share of it; it
just interrupts nobody. A moment after the last command control is as before: keeping the clock right wants no delay.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

LINGER_S: Final = 0.05


def set_policy(policy: int) -> None:
    """SCHED_OTHER or SCHED_BATCH for this process, which needs no right to go from one to the other."""
    os.sched_setscheduler(0, policy, os.sched_param(0))


class Deference:
    """Call it with each batch of commands. `call_later(delay_s, callback)` is the event loop's."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], object],
        change: Callable[[int], None] = set_policy,
    ) -> None:
        self._call_later = call_later
        self._change = change
        self._defers = False
        self._asked = False

    def __call__(self) -> None:
        self._asked = True
        if not self._defers:
            self._defers = True
            self._change(os.SCHED_BATCH)
            self._call_later(LINGER_S, self._look)

    def _look(self) -> None:
        if self._asked:
            self._asked = False
            self._call_later(LINGER_S, self._look)
        else:
            self._defers = False
            self._change(os.SCHED_OTHER)


def deference(
    call_later: Callable[[float, Callable[[], None]], object], change: Callable[[int], None] = set_policy
) -> Callable[[], None] | None:
    """What is to be called with each batch; None where the policy is another one (`sched_priority`) or is not ours."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return None
    try:
        change(os.SCHED_BATCH)
        change(os.SCHED_OTHER)
    except OSError as error:
        log.info("Reports may delay answers : %s", error.strerror)
        return None
    return Deference(call_later, change)
