"""`reload config`: waiting for the daemon, and what it says."""

import pytest

from ntpd_fast.cli.ntpc import reload as under_test
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.replies import ReloadState
from tests.unit.cli.ntpc.test_session import FakeConnection, Options, Run, answer


class Daemon(FakeConnection):
    """Answers with one state after the other, the last one for ever."""

    def __init__(self, *states: ReloadState) -> None:
        super().__init__({Number.RELOAD_CONFIG: answer(Number.RELOAD_CONFIG, ReloadState(1, 4))})
        self.states = list(states)

    def exchange(self, number, payload):
        if number == Number.RELOAD_REPORT:
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return answer(number, state)
        return super().exchange(number, payload)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(under_test, "LOOK_S", 0.0)


def test_waits_until_it_is_over():
    states = ReloadState(1, 4), ReloadState(0, 4), ReloadState(1, 5), ReloadState(0, 5)
    ours = Run(Daemon(*states), Options(), extended=True)
    assert ours.session.run_line("reload config")
    assert (ours.stdout, ours.stderr) == ("200 OK\n", "")


def test_what_needs_a_restart_is_told_and_no_failure():
    ours = Run(Daemon(ReloadState(0, 5, 0, b"a" * 255, b"b")), Options(), extended=True)
    assert ours.session.run_line("reload config")
    assert (ours.stdout, ours.stderr) == ("200 OK\n", "a" * 255 + "b\n")


def test_refusal_is_a_failure_with_its_reason():
    ours = Run(Daemon(ReloadState(0, 5, 1, b"Invalid directive")), Options(), extended=True)
    assert not ours.session.run_line("reload config")
    assert (ours.stdout, ours.stderr) == ("500 Failure\n", "Invalid directive\n")


def test_gives_up_on_a_daemon_that_never_ends():
    ours = Run(Daemon(ReloadState(1, 4)), Options(), extended=True)
    times = iter(range(0, 1000, 40))
    with pytest.raises(under_test.CommandError, match="its log will tell"):
        under_test.reload_config(ours.session, lambda _: None, lambda: float(next(times)))


def test_chronyc_has_no_such_command():
    ours = Run(Daemon(ReloadState(0, 5)), Options(), extended=False)
    assert not ours.session.run_line("reload config")
    assert ours.stderr == "Invalid syntax for reload command\n"
