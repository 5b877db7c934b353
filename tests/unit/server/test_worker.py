"""A worker's life around its engine, with an engine that only records."""

import os
import select
import signal
import socket
import time

import pytest

from ntpd_fast.server.channel import Channel, Message, Verb
from ntpd_fast.server.worker import run_worker


class Recorder:
    """An engine that serves nothing but waits for real."""

    def __init__(self, tell):
        self.tell = tell
        self.watched = []

    def start(self, *, drain=False):
        self.tell(f"start {drain}")

    def serve(self, timeout_s):
        readable, _, _ = select.select(self.watched, [], [], timeout_s)
        return readable

    def watch(self, fd):
        self.watched.append(fd)

    def beat(self, monotonic_ns):
        self.tell("beat")

    def fit_log(self, blocks):
        self.tell(f"log {blocks}")

    def detach(self):
        self.tell("detach")


@pytest.fixture
def worker():
    """Start a worker in a child: (channel to it, words of its engine, end)."""
    ours, theirs = Channel.pair()
    listen, speak = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    listen.setblocking(False)
    pids = []

    def start(waits):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                listen.close()
                status = run_worker(theirs, waits, lambda: Recorder(lambda word: speak.send(word.encode())))
            finally:
                os._exit(status)
        theirs.close()
        pids.append(pid)
        return pid

    def words():
        heard = []
        try:
            while True:
                heard.append(listen.recv(100).decode())
        except BlockingIOError:
            return heard

    def end():
        pid = pids.pop()
        deadline = time.monotonic() + 5
        while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline, "the worker does not end"
            time.sleep(0.01)
        return os.waitstatus_to_exitcode(done[1])

    yield ours, start, words, end
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ours.close()
    listen.close()
    speak.close()


def next_message(channel):
    assert select.select([channel], [], [], 5)[0], "no word from the worker"
    return channel.receive()


def test_worker_serves_then_says_ready(worker):
    channel, start, words, _ = worker
    start(False)
    assert next_message(channel) == Message(Verb.READY)
    assert words()[:2] == ["start True", "beat"]
    time.sleep(0.6)
    assert 1 <= words().count("beat") <= 4


def test_worker_stops_when_told(worker):
    channel, start, words, end = worker
    start(False)
    next_message(channel)
    channel.send(Verb.STOP)
    # it lets go of its part of the memory before the successor hears of it
    assert next_message(channel) == Message(Verb.STOPPED)
    assert words()[-1] == "detach"
    assert end() == 0


def test_worker_takes_another_size_of_the_client_log(worker):
    channel, start, words, end = worker
    start(False)
    next_message(channel)
    channel.send(Verb.LOG, "12")
    channel.send(Verb.STOP)
    assert next_message(channel) == Message(Verb.STOPPED)
    assert [word for word in words() if word != "beat"] == ["start True", "log 12", "detach"]
    assert end() == 0


def test_successor_waits_for_go(worker):
    channel, start, words, _ = worker
    start(True)
    assert next_message(channel) == Message(Verb.READY)
    time.sleep(0.4)
    assert words() == []
    channel.send(Verb.GO)
    time.sleep(0.2)
    assert words()[:2] == ["start True", "beat"]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("how", ["signal", "channel"])
def test_worker_ends_with_the_daemon(worker, waits, how):
    channel, start, words, end = worker
    pid = start(waits)
    next_message(channel)
    if how == "signal":
        os.kill(pid, signal.SIGTERM)
    else:
        channel.close()
    assert end() == 0
    assert words()[-1:] == ([] if waits else ["detach"])
