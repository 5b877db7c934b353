"""What commands have changed outlives control: in order, once each, until a reload overrules it, within bounds."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from ntpd_fast.config.model import AccessRule, MakeStep
from ntpd_fast.control.journal import (
    ACCESS,
    COMMAND_ACCESS,
    KEYS,
    SOURCES,
    SUBJECTS,
    Journal,
    Repeater,
    commanded_reference,
    commanded_rules,
)
from ntpd_fast.control.journalmemory import JOURNAL_BYTES, Reloads, is_empty, make_memory
from ntpd_fast.control.reconfigure import BY_EVERY_RELOAD, STEPS
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import COMMANDS, Access, Number
from ntpd_fast.monitor.codec.layout import Layout, Message
from ntpd_fast.system.messages import Severity


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_memory()
    yield descriptor
    os.close(descriptor)


def quiet(severity: Severity, text: str) -> None:
    raise AssertionError(text)


def payload(number: Number, message: Message) -> bytes:
    return Layout.of(COMMANDS[number].request).encode(message)


def subnet(number: Number, text: str) -> tuple[Number, bytes]:
    address, _, bits = text.partition("/")
    return number, payload(number, req.AccessSubnet(Address.parse(address), int(bits)))


def test_a_successor_finds_what_was_recorded_in_order(memory: int) -> None:
    requests = [
        subnet(Number.ALLOW, "192.0.2.0/24"),
        subnet(Number.CMDALLOW, "192.0.2.7/32"),
        (Number.MODIFY_MAKESTEP, payload(Number.MODIFY_MAKESTEP, req.ModifyMakeStep(3, 0.5))),
        (Number.DEL_SOURCE, payload(Number.DEL_SOURCE, req.OneAddress(Address.parse("192.0.2.1")))),
        subnet(Number.DENYALL, "192.0.2.9/32"),
    ]
    first = Journal(memory, quiet)
    for request in requests:
        first.record(*request)
    successor = Journal(memory, quiet)
    assert successor.requests(ACCESS) == [requests[0], requests[4]]
    assert successor.requests(COMMAND_ACCESS, SOURCES) == [requests[1], requests[3]]
    assert successor.requests(KEYS) == []
    assert commanded_rules(successor) == [
        AccessRule(allow=True, all=False, address=ip_address("192.0.2.0"), prefix_len=24),
        AccessRule(allow=False, all=True, address=ip_address("192.0.2.9"), prefix_len=32),
    ]
    assert commanded_reference(successor) == {"makestep": MakeStep(0.5, 3)}
    # and goes on from there
    successor.record(*requests[1])
    assert Journal(memory, quiet).requests(*set(SUBJECTS.values())) == [*requests[:1], *requests[2:], requests[1]]


def test_what_was_for_once_is_not_repeated(memory: int) -> None:
    journal = Journal(memory, quiet)
    for command in COMMANDS.values():
        if command.number not in SUBJECTS:
            journal.record(command.number, b"")
    assert Journal(memory, quiet).requests(*set(SUBJECTS.values())) == []


def test_only_commands_that_change_something_are_kept() -> None:
    assert all(COMMANDS[number].access is Access.MODIFY for number in SUBJECTS)


def test_every_subject_is_one_that_a_reload_takes_up() -> None:
    taken_up = {field for step in STEPS for field in step.fields} | BY_EVERY_RELOAD
    assert set(SUBJECTS.values()) - {SOURCES} <= taken_up


def test_a_request_made_again_counts_where_it_was_made_last(memory: int) -> None:
    journal = Journal(memory, quiet)
    allow, deny = subnet(Number.ALLOW, "192.0.2.0/24"), subnet(Number.DENY, "192.0.2.0/24")
    for _ in range(1000):
        journal.record(*allow)
        journal.record(*deny)
        journal.record(*allow)
    assert Journal(memory, quiet).requests(ACCESS) == [deny, allow]


def test_a_reload_makes_void_what_it_changes_and_the_keys(memory: int) -> None:
    journal = Journal(memory, quiet)
    journal.record(*subnet(Number.ALLOW, "192.0.2.0/24"))
    journal.record(*subnet(Number.CMDALLOW, "192.0.2.0/24"))
    journal.record(Number.REKEY, b"")
    journal.forget(frozenset({"cmd_access", "sources"}))
    assert len(Journal(memory, quiet).requests(ACCESS)) == 1
    assert Journal(memory, quiet).requests(COMMAND_ACCESS, KEYS) == []
    journal.forget(frozenset())
    assert len(Journal(memory, quiet).requests(ACCESS)) == 1


def test_what_a_reload_has_changed_since_is_void_for_a_successor(memory: int) -> None:
    """Though the control that should have forgotten it died."""
    reloads = Reloads()
    journal = Journal(memory, quiet, reloads)
    older = [subnet(Number.ALLOW, "192.0.2.0/24"), subnet(Number.CMDALLOW, "192.0.2.0/24"), (Number.REKEY, b"")]
    for request in older:
        journal.record(*request)
    reloads.add({"access", "sources"})
    assert Journal(memory, quiet, reloads).requests(ACCESS, COMMAND_ACCESS, KEYS) == [older[1]]
    # what is said after it holds, and what holds keeps its place in time
    newer = subnet(Number.DENY, "192.0.2.0/24")
    journal.record(*newer)
    reloads.add({"local"})
    assert Journal(memory, quiet, reloads).requests(ACCESS, COMMAND_ACCESS, KEYS) == [older[1], newer]
    journal.forget({"local"})
    reloads.add({"access"})
    assert Journal(memory, quiet, reloads).requests(ACCESS, COMMAND_ACCESS, KEYS) == [older[1]]


def test_the_bound_is_told_once_and_counted(memory: int) -> None:
    told: list[str] = []
    journal = Journal(memory, lambda severity, text: told.append(text))
    size = 8 + len(subnet(Number.ALLOW, "10.0.0.0/32")[1])
    room = JOURNAL_BYTES // size
    for index in range(room + 3):
        journal.record(*subnet(Number.ALLOW, f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}/32"))
    assert room > 3000
    assert journal.missed == 3
    assert told == ["Too many changes by commands : a new control would not know the latest"]
    kept = Journal(memory, quiet).requests(ACCESS)
    assert len(kept) == room
    assert kept[0] == subnet(Number.ALLOW, "10.0.0.0/32")
    # what is kept already may be said again
    journal.record(*kept[0])
    assert journal.missed == 3
    assert Journal(memory, quiet).requests(ACCESS) == [*kept[1:], kept[0]]


def test_a_control_that_dies_while_it_writes_leaves_the_old_version(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(memory, quiet)
    journal.record(*subnet(Number.ALLOW, "192.0.2.0/24"))

    word = struct.Struct("=I")

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        last = SimpleNamespace(size=word.size, pack=word.pack, unpack_from=word.unpack_from, pack_into=die)
        patch.setattr("ntpd_fast.control.journal.WORD", last)
        with pytest.raises(SystemExit):
            journal.record(*subnet(Number.DENY, "192.0.2.0/24"))
    assert Journal(memory, quiet).requests(ACCESS) == [subnet(Number.ALLOW, "192.0.2.0/24")]


def test_without_a_supervisor_nothing_is_kept() -> None:
    journal = Journal(None, quiet)
    journal.record(*subnet(Number.ALLOW, "192.0.2.0/24"))
    journal.forget(frozenset({"access"}))
    assert journal.requests(ACCESS) == []


def test_requests_wait_until_they_can_be_carried_out() -> None:
    known: set[bytes] = set()
    done: list[bytes] = []
    soon: list[Callable[[], None]] = []

    def run(number: Number, payload: bytes) -> bool:
        if payload not in known:
            return False
        done.append(payload)
        # what it does may say at once that something has changed
        repeater.try_soon()
        return True

    repeater = Repeater(run, soon.append)
    known.add(b"b")
    repeater.repeat([(Number.DEL_SOURCE, name) for name in (b"a", b"b", b"c", b"d")])
    assert done == [b"b"]
    known |= {b"a", b"d"}
    repeater.try_soon()
    repeater.try_soon()
    assert len(soon) == 1
    soon.pop()()
    assert done == [b"b", b"a", b"d"]
    known.add(b"c")
    soon.pop()()
    assert done[3:] == [b"c"]
    repeater.try_soon()
    assert soon == []


def test_whether_there_is_anything_to_do_again_is_told_without_reading_it(memory):
    assert is_empty(memory)
    journal = Journal(memory, lambda severity, text: None)
    for turn in range(3):
        journal.record(Number.MANUAL, bytes([turn]))
        assert not is_empty(memory)
    journal.forget({"manual"})
    assert is_empty(memory)
