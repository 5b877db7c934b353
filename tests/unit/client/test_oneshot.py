"""What is not in the simulator's scenarios: how a daemon starts, and that it may end at any time."""

from __future__ import annotations

import pytest

from ntpd_fast.client.oneshot import InitStepSlew, OneShot
from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.clock.referenceoptions import starting_mode
from ntpd_fast.config.loader import parse_lines
from tests.unit.client.naming import Daemon

NORMAL, INITIAL = ReferenceMode.NORMAL, ReferenceMode.INITSTEPSLEW
ONCE, PRINT = ReferenceMode.UPDATE_ONCE, ReferenceMode.PRINT_ONCE


class FailingMode:
    """A reference that only counts how often its mode was given up."""

    def __init__(self) -> None:
        self.failures = 0

    def fail_special_mode(self) -> None:
        self.failures += 1


@pytest.mark.parametrize(
    ("lines", "asked", "restarted", "expected"),
    [
        ([], NORMAL, False, NORMAL),
        ([], ONCE, False, ONCE),
        (["initstepslew 1 10.0.0.1"], NORMAL, False, INITIAL),
        (["initstepslew 1 10.0.0.1"], NORMAL, True, NORMAL),
        (["initstepslew 1 10.0.0.1"], ONCE, False, ONCE),
        (["initstepslew 1 10.0.0.1"], PRINT, True, PRINT),
        (["initstepslew 1"], NORMAL, False, NORMAL),
    ],
)
def test_starting_mode(lines: list[str], asked: ReferenceMode, restarted: bool, expected: ReferenceMode) -> None:
    assert starting_mode(parse_lines(lines), asked, restarted=restarted) is expected


def test_giving_up_comes_later_and_once() -> None:
    daemon = Daemon()
    reference = FailingMode()
    watch = OneShot(daemon.sources, reference, daemon.machine.scheduler)
    watch.start()
    assert reference.failures == 0
    daemon.world.run(60.0)
    assert reference.failures == 1
    assert daemon.sources.selector.quiet
    watch.close()
    assert not daemon.sources.selector.quiet
    assert not daemon.sources.facts.one_shot


def test_closed_watch_gives_nothing_up() -> None:
    daemon = Daemon()
    reference = FailingMode()
    watch = OneShot(daemon.sources, reference, daemon.machine.scheduler)
    watch.start()
    watch.close()
    daemon.world.run(60.0)
    assert reference.failures == 0


@pytest.mark.parametrize("finished", [False, True])
def test_daemon_may_end_during_the_initial_correction(finished: bool) -> None:
    daemon = Daemon()
    config = parse_lines(["initstepslew 1 10.0.0.1 10.0.0.2"]).initstepslew
    assert config is not None
    begun: list[bool] = []
    initial = InitStepSlew(
        daemon.sources, FailingMode(), daemon.machine.scheduler, config.servers, lambda: begun.append(True)
    )
    initial.start()
    assert daemon.shown == ["10.0.0.1", "10.0.0.2"]
    if finished:
        initial.finish(True)
    initial.close()
    daemon.world.run(60.0)
    assert begun == []
