"""Every fault that anything counts is in the report, under one name, and nothing is counted twice."""

from collections import Counter

import pytest

from ntpd_fast._packet import OUTCOMES
from ntpd_fast._region import COUNTER_NAMES
from ntpd_fast.control import faults
from ntpd_fast.control.dataplane import DataPlane
from ntpd_fast.control.faults import FaultReport
from ntpd_fast.monitor.codec.replies import Faults
from ntpd_fast.monitor.dispatch import Outcome
from ntpd_fast.monitor.transport import Fault
from ntpd_fast.server.ntske_counters import COUNTERS
from ntpd_fast.server.shared import Shared, SharedPlan
from ntpd_fast.server.signd import SigndCounters

# What is counted and is no fault.
FINE_OUTCOMES = {"answered", "control", "signd"}
FINE_COUNTERS = {name for name in COUNTER_NAMES if name.startswith("ntp_")} | {
    "batches", "batches_full", "control_sent", "tx_stamps_read", "error_queue_other",
}
FINE_KEY_EXCHANGE = {"served", "accepted", "sessions", "certificate_reloads"}
# Said by others: accept errors that are not about resources are the connections', as are send errors.
UNTOLD_KEY_EXCHANGE = {"accept_errors", "send_errors"}


def test_every_counted_fault_is_reported():
    assert set(faults._OUTCOMES.values()) == set(OUTCOMES) - FINE_OUTCOMES
    assert set(faults._COUNTERS.values()) == set(COUNTER_NAMES) - FINE_COUNTERS
    told = [name for names in faults._KEY_EXCHANGE.values() for name in names]
    assert sorted(told) == sorted(set(COUNTERS) - FINE_KEY_EXCHANGE - UNTOLD_KEY_EXCHANGE)
    assert set(faults._COMMANDS.values()) == set(Outcome) - {Outcome.ANSWERED}
    assert set(faults._SOCKETS.values()) == set(Fault)
    tables = (faults._OUTCOMES, faults._COUNTERS, faults._KEY_EXCHANGE, faults._COMMANDS, faults._SOCKETS)
    fields = [field for table in tables for field in table]
    assert sorted([*fields, "tables_deferred", "worker_starts"]) == sorted(Faults._fields)


class Memory:
    """Shared memory where every counter has a value of its own."""

    def outcomes(self):
        return [*range(100, 100 + len(OUTCOMES)), *[0] * (32 - len(OUTCOMES))]

    def counters(self):
        return {name: 200 + index for index, name in enumerate(COUNTER_NAMES)}

    def worker_starts(self):
        return 7


def test_each_field_is_its_counter():
    shared = Shared.create(SharedPlan(1))
    plane = DataPlane(shared, lambda *_: None, lambda *_: None)
    plane.deferred = 5
    report = FaultReport(Memory(), plane, lambda: Counter(tls_failed=2, timed_out=3, refused_full=4))
    report.commands[Outcome.DROPPED_RATE] = 11
    report.sockets[Fault.SEND_FAILED] = 12
    report.signing = SigndCounters(signed=1000, refused=1, full=2, failed=3, unsent=4)
    found = report.faults()
    assert found.ntp_waited_too_long == 100 + OUTCOMES.index("drop_stale")
    assert found.ntp_receive_buffer_full == 200 + list(COUNTER_NAMES).index("kernel_drops")
    assert (found.nke_failed, found.nke_too_many, found.nke_rate_limited) == (5, 4, 0)
    assert (found.cmd_rate_limited, found.cmd_send_errors, found.cmd_refused) == (11, 12, 0)
    assert (found.tables_deferred, found.worker_starts) == (5, 7)
    assert found.ntp_bad_authentication == 100 + OUTCOMES.index("drop_auth") + 1
    assert found.ntp_signing_queue_full == 200 + list(COUNTER_NAMES).index("signd_full") + 2 + 3
    assert found.ntp_send_errors == 200 + list(COUNTER_NAMES).index("send_errors") + 4


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_starts_are_those_of_all_workers(workers):
    shared = Shared.create(SharedPlan(workers))
    before = shared.worker_starts()
    for index in range(workers):
        shared.worker(index).next_generation()
    assert shared.worker_starts() == before + workers
