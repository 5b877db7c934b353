"""The script by which the supervisor opens and closes server sockets as commands have left the access rules."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from ntpd_fast.control.renewal import Renewal
from ntpd_fast.control.setup import Setup
from ntpd_fast.server.channel import Verb
from tests.unit.control.families import is_free, make_setup, versions

CONTROL: Any = SimpleNamespace(is_control=True, child=object())
WORKERS: Any = [SimpleNamespace(is_control=False), SimpleNamespace(is_control=False)]


class Supervisor:
    """Takes words. Control answers at once where `answers`."""

    def __init__(self, *, answers: bool = True) -> None:
        self.slots = [CONTROL, *WORKERS]
        self.answers = answers
        self.configured = False
        self.told: list[tuple[Any, Verb, str]] = []

    def tell(self, slot: Any, verb: Verb, text: str = "", descriptors: Any = ()) -> None:
        self.told.append((slot, verb, text))
        self.configured = self.answers


def run(setup: Setup, supervisor: Any, text: str) -> bool:
    """Whether the script came to its end without waiting for anything that is not there."""
    for condition in Renewal(setup, WORKERS, lambda index: WORKERS[index]).families_script(supervisor, text):
        if not condition():
            return False
    return True


def test_families_are_closed_and_opened_again() -> None:
    setup = make_setup("allow", workers=2)
    supervisor = Supervisor()
    assert run(setup, supervisor, "0 6")
    assert (versions(setup), is_free(setup, 4)) == ([6], True)
    name = f"0.0.0.0:{setup.config.port}"
    assert supervisor.told == [(slot, Verb.DROP, name) for slot in (CONTROL, *WORKERS)]
    del supervisor.told[:]
    assert run(setup, supervisor, "0 4 6")
    assert (versions(setup), is_free(setup, 4)) == ([4, 6], False)
    assert supervisor.told == [(slot, Verb.ADD, name) for slot in (*WORKERS, CONTROL)]
    setup.ntp_sockets.close()


def test_nothing_is_cut_off_before_control_has_let_go() -> None:
    setup = make_setup("allow 127.0.0.1", workers=2)
    (group,) = setup.ntp_sockets.groups
    supervisor = Supervisor(answers=False)
    assert not run(setup, supervisor, "0")
    assert group.control is not None
    assert group.control.getsockname()[0] == "0.0.0.0"
    for member in (group.control, *group.workers):
        member.close()


def test_a_worker_that_still_has_the_socket_is_waited_for() -> None:
    setup = make_setup("allow 127.0.0.1", workers=2)
    with socket.socket(fileno=socket.dup(setup.ntp_sockets.groups[0].workers[0].fileno())):
        assert not run(setup, Supervisor(), "0")
    assert is_free(setup, 4)


def test_what_was_said_of_other_rules_does_not_count() -> None:
    setup = make_setup("allow", workers=2)
    supervisor = Supervisor()
    setup.reloads.add(["access"])
    assert run(setup, supervisor, "0")
    assert (versions(setup), supervisor.told, setup.families) == ([4, 6], [], None)
    assert run(setup, supervisor, "1")
    assert versions(setup) == []


@pytest.mark.parametrize("text", ["", "x", "0 5", "0 4 six"])
def test_nonsense_is_refused(text: str) -> None:
    setup = make_setup("allow", workers=2)
    supervisor: Any = Supervisor()
    with pytest.raises(ValueError):
        Renewal(setup, WORKERS, lambda index: WORKERS[index]).families_script(supervisor, text)
    setup.ntp_sockets.close()
