"""The event loop of a process that does nothing but exchange keys: asyncio's, waiting in the connections' own driver.

Events of connections are dealt with where they are waited for and never come to the loop; timers, signals and other
descriptors are the loop's as ever. Two things are gained over a loop that watches the driver's epoll set: a wake-up
costs one system call instead of two and nothing of the loop, and of several processes that accept from one socket the
kernel wakes only one for a connection (EPOLLEXCLUSIVE does not reach through one set into another).
"""

from __future__ import annotations

import asyncio
import select
import selectors

from ntpd_fast._kepoll import Connections

_FOR_EVER_S = -1.0


class ConnectionSelector(selectors.EpollSelector):
    """An epoll selector whose set holds the connections too, while `connections` is set."""

    connections: Connections | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.connections is None:
            return super().select(timeout)
        found = []
        keys = self.get_map()
        for fd, events in self.connections.wait(_FOR_EVER_S if timeout is None else max(timeout, 0.0)):
            key = keys.get(fd)
            # one callback may have taken another's descriptor out
            if key is not None:
                writable = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
                readable = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
                found.append((key, (readable | writable) & key.events))
        return found


def new_event_loop() -> tuple[asyncio.SelectorEventLoop, ConnectionSelector]:
    """A loop, and the selector that a `NtsKeServer` in it works with."""
    selector = ConnectionSelector()
    return asyncio.SelectorEventLoop(selector), selector
