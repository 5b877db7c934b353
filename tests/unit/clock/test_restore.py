"""`-s` where no real-time clock helps: the clock goes on where the drift file was last written, and never back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.restore import restore_time
from ntpd_fast.system.messages import Severity
from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S, World

DAY_S = 86400


def boot(*, control: bool = True, offset_s: float = 0.0) -> tuple[Machine, LocalClock]:
    machine = Machine(World(1), offset_s=offset_s)
    return machine, machine.boot(control=control)


def written(path: Path, at_ns: int) -> str:
    path.write_text("1.0 0.5\n")
    os.utime(path, ns=(at_ns, at_ns))
    return str(path)


def test_a_clock_that_is_behind_is_stepped_to_the_drift_file(tmp_path: Path) -> None:
    machine, local = boot(offset_s=-30 * DAY_S)
    began_ns = local.raw_ns()
    path = written(tmp_path / "drift", machine.world.utc_ns() + NS_PER_S // 2)
    assert restore_time(local, path, machine.log)
    assert local.raw_ns() - began_ns == 30 * DAY_S * NS_PER_S
    assert local.cooked_ns() == local.raw_ns()
    assert [(severity, text) for _, severity, text in machine.logged] == [
        (Severity.INFO, "System time restored from driftfile")
    ]
    # it is as late as the file now: nothing is left to do, and nobody is taken to have interfered
    assert not restore_time(local, path, machine.log)
    machine.scheduler.begin_event()
    assert local.interference_count == 0


def test_the_clock_of_a_machine_without_battery_is_restored(tmp_path: Path) -> None:
    machine, local = boot(offset_s=60.0 - World(1).utc_ns() / NS_PER_S)
    assert local.raw_ns() < 100 * NS_PER_S
    path = written(tmp_path / "drift", machine.world.utc_ns())
    assert restore_time(local, path, machine.log)
    assert machine.offset_s() == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("later_s", [0.0, 0.4, -0.1, -1.0, -10 * DAY_S])
def test_a_clock_that_is_ahead_or_the_same_is_left_alone(tmp_path: Path, later_s: float) -> None:
    machine, local = boot()
    began_ns = local.raw_ns() // NS_PER_S * NS_PER_S
    path = written(tmp_path / "drift", began_ns + round(later_s * NS_PER_S))
    before_ns = local.raw_ns()
    assert not restore_time(local, path, machine.log)
    assert local.raw_ns() == before_ns
    assert machine.logged == []


def test_a_clock_that_is_not_ours_is_left_alone_and_that_is_told(tmp_path: Path) -> None:
    machine, local = boot(control=False)
    before_ns = local.raw_ns()
    path = written(tmp_path / "drift", before_ns + DAY_S * NS_PER_S)
    assert not restore_time(local, path, machine.log)
    assert local.raw_ns() == before_ns == local.cooked_ns()
    assert [(severity, text) for _, severity, text in machine.logged] == [
        (Severity.ERROR, "Could not step system clock")
    ]


def test_a_date_beyond_the_era_is_refused(tmp_path: Path) -> None:
    machine, local = boot()
    before_ns = local.raw_ns()
    path = written(tmp_path / "drift", 8_000_000_000 * NS_PER_S)
    assert not restore_time(local, path, machine.log)
    assert local.raw_ns() == before_ns
    assert machine.lines("Could not step system clock")


def test_files_that_are_not_there_say_nothing(tmp_path: Path) -> None:
    machine, local = boot()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in "missing", "file/below", "loop", "x" * 300:
        assert not restore_time(local, str(tmp_path / name), machine.log)
    assert machine.logged == []
