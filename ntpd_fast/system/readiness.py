"""Many descriptors watched through one: for connections that their peers may break at any time.

libuv, and so uvloop, gives up a descriptor at its first EPOLLERR: it calls once, and who then reads data that came
before a reset never hears of the reset. An epoll set of one's own never has an error itself, and whatever happens to
a descriptor in it is reported. It also costs less than a handle of the loop for each descriptor.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

EVENTS_A_TURN = 64


class Readiness:
    """Calls back when a descriptor can be read (or written), has ended or failed: the next system call tells
    which.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Call when `fd` can be read, or written if `write`; instead of what was asked for it before."""
        events = select.EPOLLOUT if write else select.EPOLLIN
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Watch `fd` no more; to be called before it is closed. Nothing happens when it was not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Forget all."""
        self._loop.remove_reader(self._epoll.fileno())
        self._callbacks.clear()
        self._epoll.close()

    def _turn(self) -> None:
        for fd, _ in self._epoll.poll(0, EVENTS_A_TURN):
            # one callback may have forgotten another's descriptor
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()
            if self._epoll.closed:
                return
