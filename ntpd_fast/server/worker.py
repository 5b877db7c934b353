"""A worker process: serves NTP on its sockets until told otherwise.

The engine's own loop does the work; this file is what is around it: a sign of life several times a second, the
supervisor's words, and an orderly stop at the end of a batch, so that what is queued stays for the successor.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

from ntpd_fast.server.channel import Channel, ChannelClosed, Message, Verb

BEAT_S: Final = 0.25
_SIGNAL_BATCH: Final = 64


class Serving(Protocol):
    """The part of `engine.Engine` that a worker drives."""

    def start(self, *, drain: bool = False) -> None: ...
    def serve(self, timeout_s: float) -> list[int]: ...
    def watch(self, fd: int) -> None: ...
    def add(self, sock: socket.socket) -> None: ...
    def empty(self, sock: socket.socket) -> None: ...
    def drop(self, name: str) -> socket.socket: ...
    def fit_log(self, blocks: int) -> None: ...
    def beat(self, monotonic_ns: int) -> None: ...
    def detach(self) -> None: ...


def run_worker(
    channel: Channel,
    waits: bool,
    make_engine: Callable[[], Serving],
    monotonic_ns: Callable[[], int] = time.monotonic_ns,
) -> int:
    """The life of a worker, in the child; its exit status. With `waits` a predecessor still serves: not before `go`."""
    stop_requested, stop_request = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(stop_request, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    engine = make_engine()
    engine.watch(stop_requested)
    engine.watch(channel.fileno())
    if waits:
        channel.send(Verb.READY)
        if not _allowed_to_go(channel, stop_requested):
            return 0
    # A predecessor, stopped or killed, may have left transmit timestamps that are not ours.
    engine.start(drain=True)
    engine.beat(monotonic_ns())
    if not waits:
        channel.send(Verb.READY)
    while True:
        readable = engine.serve(BEAT_S)
        engine.beat(monotonic_ns())
        if stop_requested in readable or (channel.fileno() in readable and _told_to_stop(channel, engine)):
            break
    engine.detach()
    channel.send(Verb.STOPPED)
    return 0


def _allowed_to_go(channel: Channel, stop_requested: int) -> bool:
    """Wait for `go`; False when the supervisor has other plans or is gone."""
    readable, _, _ = select.select([channel.fileno(), stop_requested], [], [])
    if stop_requested in readable:
        return False
    try:
        message = channel.receive()
    except ChannelClosed:
        return False
    return message is not None and message.verb is Verb.GO


def _told_to_stop(channel: Channel, engine: Serving) -> bool:
    """Do what the supervisor says; whether that is to stop."""
    try:
        while (message := channel.receive()) is not None:
            if message.verb is Verb.STOP:
                return True
            _change(message, engine)
    except ChannelClosed:
        return True
    return False


def _change(message: Message, engine: Serving) -> None:
    opened = [socket.socket(fileno=descriptor) for descriptor in message.descriptors]
    if message.verb is Verb.ADD and opened:
        engine.add(opened[0])
        for leftover in opened[1:]:
            engine.empty(leftover)
            leftover.close()
    elif message.verb is Verb.LOG:
        engine.fit_log(int(message.text))
    elif message.verb is Verb.DROP:
        # one that came before we did is not there any more
        with contextlib.suppress(KeyError):
            engine.drop(message.text).close()
