"""Control's end of the data plane: publishing never waits, and what has to wait is published in the end."""

from ipaddress import IPv4Network

import pytest

from ntpd_fast._region import serving_table
from ntpd_fast.control.dataplane import TRIES_BEFORE_WARNING, DataPlane
from ntpd_fast.server.access import AccessTable, AccessTableFull
from ntpd_fast.server.shared import Shared, SharedPlan
from ntpd_fast.system.messages import Severity


class Timers:
    """An event loop's `call_later`."""

    def __init__(self):
        self.due = []

    def call_later(self, delay_s, callback):
        assert delay_s > 0.0
        self.due.append(callback)

    def fire(self):
        due, self.due = self.due, []
        for callback in due:
            callback()


class Reader:
    """A worker that reads one version of every table."""

    def __init__(self):
        self.version = 1

    def used_version(self, name):
        return self.version


@pytest.fixture
def parts():
    shared = Shared.create(SharedPlan(1))
    timers, logged, worker = Timers(), [], Reader()
    shared._workers = [worker]
    return shared, timers, worker, logged, DataPlane(shared, timers.call_later, lambda *line: logged.append(line))


def rules(*networks):
    table = AccessTable()
    for network in networks:
        table.set(IPv4Network(network), True)
    return table


def test_the_newest_of_the_tables_that_waited_is_published_when_the_worker_moves_on(parts):
    shared, timers, worker, logged, plane = parts
    for number in range(6):
        plane.publish_access(rules(f"10.0.{number}.0/24"))
    assert shared.control.table_version("access") == 3
    assert plane.deferred == 3
    assert len(timers.due) == 1
    timers.fire()
    assert shared.control.table_version("access") == 3
    worker.version = 3
    timers.fire()
    assert shared.control.table_version("access") == 4
    assert shared.control.read_table("access") == rules("10.0.5.0/24").compile()
    assert not timers.due
    plane.publish_access(rules("10.1.0.0/24"))
    assert shared.control.table_version("access") == 5
    assert not timers.due
    assert not logged


def test_a_table_that_waits_holds_up_no_other(parts):
    shared, timers, _, _, plane = parts
    for _ in range(4):
        plane.publish_access(rules("10.0.0.0/24"))
    plane.publish_serving(net_correction=True, signd=False, limit=None)
    assert shared.control.read_table("serving") == serving_table(True)
    for _ in range(3):
        plane.publish_serving(net_correction=False, signd=False, limit=None)
    assert len(timers.due) == 1


def test_a_worker_that_never_moves_on_is_said_once(parts):
    _, timers, _, logged, plane = parts
    for _ in range(4):
        plane.publish_peers([])
    for _ in range(2 * TRIES_BEFORE_WARNING):
        timers.fire()
    assert logged == [(Severity.WARNING, "Workers have not taken up new tables for 10 s : peers")]
    assert len(timers.due) == 1


def test_rules_there_is_no_room_for_are_the_callers_to_tell(parts, monkeypatch):
    shared, timers, _, _, plane = parts
    full = rules(*(f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000)))
    room = len(full.compile()) - 1

    class Control:
        def table_capacity(self, name):
            return room

    monkeypatch.setattr(shared, "_control", Control())
    with pytest.raises(AccessTableFull, match=f"{room} are available"):
        plane.publish_access(full)
    assert not timers.due
