"""Control lets others go first while commands come in, and only then."""

import errno
import os

from ntpd_fast.control.deference import Deference, deference
from tests.forked import in_child
from tests.unit.control.test_dataplane import Timers


def test_the_policy_lasts_from_the_first_command_to_a_moment_after_the_last():
    timers, changes = Timers(), []
    ask = Deference(timers.call_later, changes.append)
    for _ in range(3):
        ask()
    assert changes == [os.SCHED_BATCH]
    timers.fire()
    ask()
    timers.fire()
    assert changes == [os.SCHED_BATCH]
    timers.fire()
    assert changes == [os.SCHED_BATCH, os.SCHED_OTHER]
    assert not timers.due
    ask()
    assert changes == [os.SCHED_BATCH, os.SCHED_OTHER, os.SCHED_BATCH]
    assert len(timers.due) == 1


def test_a_real_process_can_go_to_and_fro():
    def run():
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        timers = Timers()
        ask = deference(timers.call_later)
        before = os.sched_getscheduler(0)
        ask()
        during = os.sched_getscheduler(0)
        timers.fire()
        timers.fire()
        return before, during, os.sched_getscheduler(0)

    assert in_child(run) == (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER)


def test_a_policy_that_somebody_chose_is_left_alone():
    def run():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return deference(Timers().call_later)

    assert in_child(run) is None


def test_a_system_that_forbids_it_is_lived_with():
    def refuse(_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    assert deference(Timers().call_later, refuse) is None
