"""What the associations know of the daemon around them: its clock, its own reference, how it is used."""

from __future__ import annotations

from typing import Protocol

from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.served import Served
from ntpd_fast.system.timers import Random

NOTHING_OWN = Served(Leap.NORMAL, 0, 0, 0, 0.0, 0.0)
"""What clients tell."""


class Surroundings(Protocol):
    """What an association knows of the daemon around it."""

    @property
    def precision_s(self) -> float:
        """Quantum of the local clock."""

    @property
    def precision_log2(self) -> int:
        """The same, log2 s."""

    @property
    def max_clock_error(self) -> float:
        """Assumed error of the local frequency, s/s."""

    @property
    def era_start_s(self) -> int:
        """Start of the 2³² s that NTP timestamps are taken to lie in."""

    @property
    def random(self) -> Random:
        """For what nobody gains from guessing."""

    @property
    def serving(self) -> bool:
        """Whether the server ports are open: others may be synchronised by us."""

    @property
    def one_shot(self) -> bool:
        """A run that sets the clock once, or its start; loops are not looked for."""

    @property
    def net_corrections(self) -> bool:
        """Whether the network's residence times are asked for (`ptpport`)."""

    @property
    def hold_timeout_s(self) -> float:
        """How long to wait for a hardware transmit timestamp; 0: they are not in use."""

    def nonce(self) -> int:
        """64 bits that nobody can guess."""

    def own_reference(self, cooked_ns: int) -> Served:
        """What we would serve."""

    def leap_is_close(self, cooked_ns: int) -> bool:
        """Whether a leap second is near: nothing is measured then."""
