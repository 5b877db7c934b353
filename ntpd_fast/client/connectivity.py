"""Whether an association is allowed to talk, and its bursts of requests.

A burst ends with enough good responses or when its number of requests is used up; afterwards the association
is what it was before.
"""

from __future__ import annotations

import enum

MAX_BURST_SIZE = 4
"""Requests of the `burst` option at a poll."""

IBURST_GOOD = 4
IBURST_TOTAL = 8


class Connectivity(enum.Enum):
    """States of an association's connectivity."""

    OFFLINE = enum.auto()
    ONLINE = enum.auto()
    BURST_WAS_OFFLINE = enum.auto()
    BURST_WAS_ONLINE = enum.auto()


class BurstControl:
    """The state and what is left of a burst."""

    def __init__(self) -> None:
        self.state = Connectivity.OFFLINE
        self.good_left = 0
        self.total_left = 0

    @property
    def bursting(self) -> bool:
        """Whether a burst is in progress."""
        return self.state in (Connectivity.BURST_WAS_OFFLINE, Connectivity.BURST_WAS_ONLINE)

    @property
    def talking(self) -> bool:
        """Whether requests are sent."""
        return self.state is not Connectivity.OFFLINE

    @property
    def online(self) -> bool:
        """Whether it is online, or will be when its burst ends."""
        return self.state in (Connectivity.ONLINE, Connectivity.BURST_WAS_ONLINE)

    def switch_online(self) -> bool:
        """Go online; returns whether the association has to start afresh."""
        if self.state is Connectivity.OFFLINE:
            self.state = Connectivity.ONLINE
            return True
        if self.state is Connectivity.BURST_WAS_OFFLINE:
            self.state = Connectivity.BURST_WAS_ONLINE
        return False

    def switch_offline(self) -> bool:
        """Go offline, after the burst if there is one; returns whether to stop at once."""
        if self.state is Connectivity.ONLINE:
            self.state = Connectivity.OFFLINE
            return True
        if self.state is Connectivity.BURST_WAS_ONLINE:
            self.state = Connectivity.BURST_WAS_OFFLINE
        return False

    def start(self, good: int, total: int) -> bool:
        """Start a burst unless there is one; returns whether it has started."""
        if self.bursting or good < 1 or total < 1:
            return False
        self.good_left = good
        self.total_left = total
        if self.state is Connectivity.ONLINE:
            self.state = Connectivity.BURST_WAS_ONLINE
        else:
            self.state = Connectivity.BURST_WAS_OFFLINE
        return True

    def before_request(self) -> bool:
        """See whether the burst is over; returns True if the request that is due ends it.

        The last packet of a burst is the first normal poll of an association that stays online.
        """
        if self.state is Connectivity.BURST_WAS_ONLINE and self.total_left <= 1:
            self.state = Connectivity.ONLINE
            return True
        if self.state is Connectivity.BURST_WAS_OFFLINE and self.total_left <= 0:
            self.state = Connectivity.OFFLINE
        return False

    def after_request(self, *, sent: bool, reachable: bool) -> None:
        """Count a request; before the network is up, failures don't use up the burst."""
        if not self.bursting:
            return
        if sent or reachable or self.state is Connectivity.BURST_WAS_OFFLINE:
            self.total_left -= 1

    def good_response(self) -> None:
        """Count a good response."""
        if not self.bursting:
            return
        self.good_left -= 1
        if self.good_left <= 0:
            self.finish()

    def finish(self) -> None:
        """End a burst now."""
        if self.state is Connectivity.BURST_WAS_ONLINE:
            self.state = Connectivity.ONLINE
        elif self.state is Connectivity.BURST_WAS_OFFLINE:
            self.state = Connectivity.OFFLINE
        self.good_left = 0
        self.total_left = 0
