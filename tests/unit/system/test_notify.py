"""What the service manager hears."""

import os
import socket

import pytest

from ntpd_fast.system.notify import Notifier


@pytest.fixture
def manager(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def heard():
            words = []
            try:
                while True:
                    words.append(listening.recv(1000).decode())
            except BlockingIOError:
                return words

        yield heard


def test_every_state_once(manager):
    notifier = Notifier()
    notifier.status("starting")
    notifier.ready()
    notifier.status("serving")
    notifier.status("serving")
    notifier.watchdog()
    notifier.stopping()
    assert manager() == ["STATUS=starting", "READY=1", "STATUS=serving", "WATCHDOG=1", "STOPPING=1"]


def test_status_cannot_smuggle_another_message(manager):
    Notifier().status("serving\nMAINPID=1\0")
    assert manager() == ["STATUS=servingMAINPID=1"]


def test_children_do_not_inherit_the_socket(manager):
    Notifier()
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_a_service_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    notifier.status("text")
    assert notifier.watchdog_interval_s is None


@pytest.mark.parametrize(
    ("limit", "pid", "interval_s"),
    [
        ("30000000", None, 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("junk", None, None),
    ],
)
def test_watchdog_interval(monkeypatch, limit, pid, interval_s):
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert Notifier().watchdog_interval_s == interval_s
    assert "WATCHDOG_USEC" not in os.environ
