"""A short soak, and the judgement of the long one: what grows is found, what only moves is not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import wait_until
from tests.soak.pauses import NEAR_S, Drops, Pauses, Witnesses
from tests.soak.run import soak
from tests.soak.samples import GROWTH_MAX_KIB, Sample, read, trends


def series(own, descriptors=None, *, pid=1, start_s=0.0, role="control"):
    return [
        Sample(start_s + 10.0 * index, role, pid, 30000, round(kib), 9000, 500, (descriptors or [20] * len(own))[index])
        for index, kib in enumerate(own)
    ]


def problems(samples, settle_s=100.0):
    return [problem for trend in trends(samples, settle_s) for problem in trend.problems()]


def test_a_short_soak_loses_nothing_and_grows_nothing():
    """Nothing is lost but what the daemon drops after a worker was stopped: no answer is taken for another."""
    outcome = soak(20.0, 2000.0, stop_workers=True)
    assert outcome.problems == []
    assert outcome.lost <= outcome.faults.ntp_receive_buffer_full + outcome.faults.ntp_waited_too_long
    assert outcome.pauses >= outcome.disturbances["stopped worker"]
    assert outcome.pause_max_s >= 0.15
    assert {trend.role for trend in outcome.trends} >= {"supervisor", "control", "worker 0", "worker 1", "nts-ke 0"}
    assert all(counters["answered"] for counters in outcome.kinds.values())
    assert all(outcome.disturbances.values())


def test_with_realtime_priority_workers_come_first():
    code = (
        "import os, sys; from tests.daemon import running; from tests.processes import children_of, status_of;"
        "from tests.soak.priority import raise_workers, take_realtime; take_realtime()\n"
        "with running(['workers 2']) as daemon:\n"
        "    pid = daemon.process.pid; raise_workers(pid, set())\n"
        "    for one in (pid, *children_of(pid)):\n"
        "        print(os.sched_getscheduler(one), os.sched_getparam(one).sched_priority)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    if "PermissionError" in ran.stderr:
        pytest.skip("nobody may have real-time priority here")
    rows = sorted(ran.stdout.split("\n")[:-1])
    fifo = os.SCHED_FIFO
    assert rows == sorted([f"{fifo} 1"] * 2 + [f"{fifo} 3"] * 2), ran.stderr


def test_a_drop_is_excused_by_a_pause_shortly_before_it_alone():
    pauses = Pauses()
    drops = Drops(pauses)
    drops.look(0, 100.0, 0.0)
    pauses.note(100.2, 100.3)
    drops.look(7, 101.0, 1.0)
    drops.look(7, 102.0, 2.0)
    drops.look(9, 103.0, 3.0)
    assert (drops.excused, drops.unexcused) == (7, [(3.0, 2)])
    assert (pauses.count, round(pauses.longest_s, 3)) == (1, 0.1)


@pytest.mark.parametrize(
    ("start_s", "end_s", "near"),
    [
        (10.0, 10.1, True),
        (11.9, 12.5, True),
        (12.1, 12.2, False),
        (11.0 - NEAR_S - 0.2, 11.0 - NEAR_S - 0.1, False),
        (11.0 - NEAR_S - 0.2, 11.0 - NEAR_S, True),
    ],
)
def test_a_pause_is_near_a_second_it_touches_or_precedes(start_s, end_s, near):
    pauses = Pauses()
    pauses.note(start_s, end_s)
    assert pauses.between(11.0, 12.0) is near


def test_a_witness_sees_that_it_could_not_run():
    pauses = Pauses()
    with Witnesses(pauses) as witnesses:
        pid = witnesses.pids[0]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)

        def seen():
            witnesses.read()
            return pauses.longest_s >= 0.4

        wait_until(seen, "the pause is told")


def test_a_witness_that_ended_is_missed():
    with Witnesses(Pauses()) as witnesses:
        for pid in witnesses.pids:
            os.kill(pid, signal.SIGKILL)

        def missed():
            try:
                witnesses.read()
            except RuntimeError:
                return True
            return False

        wait_until(missed, "its end is told")


def test_a_leak_is_found():
    assert problems(series([20000 + 20 * turn for turn in range(100)])) == [
        "control: memory grew by 1620 KiB, at most 1024 are allowed"
    ]


@pytest.mark.parametrize(
    "own",
    [
        pytest.param([10000 + 5000 * (turn > 5) for turn in range(100)], id="start"),
        pytest.param([20000 + 900 * (turn % 3) for turn in range(100)], id="noise"),
        pytest.param([20000 + 9 * turn for turn in range(100)], id="within the bound"),
        pytest.param([20000 + 5000 * (turn == 97) for turn in range(100)], id="one peak"),
    ],
)
def test_what_is_no_leak_is_none(own):
    assert problems(series(own)) == []


def test_a_new_process_in_the_place_of_an_old_one_has_its_own_start():
    old = series([20000] * 40, role="worker 0")
    new = series([9000] * 5 + [20000] * 35, pid=2, start_s=400.0, role="worker 0")
    [trend] = trends([*old, *new], 50.0)
    assert (trend.processes, trend.growth_kib, trend.problems()) == (2, 0, [])
    grown = series([20000 + GROWTH_MAX_KIB + 1] * 40, pid=2, start_s=400.0, role="worker 0")
    assert len(problems([*old, *grown])) == 1


def test_descriptors_that_come_and_go_are_no_leak():
    moving = [20 + turn % 4 for turn in range(100)]
    assert problems(series([20000] * 100, moving)) == []
    leaking = [20 + turn % 4 + turn // 10 for turn in range(100)]
    assert problems(series([20000] * 100, leaking)) == ["control: descriptors grew from 28 to 29"]


def test_a_child_that_has_ended_but_is_not_collected_is_left_out():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert [sample.pid for sample in read(os.getpid(), 0.0)] == [os.getpid()]
    os.waitpid(pid, 0)
