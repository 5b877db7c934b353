"""The timer queue's order, separation and guards, and the asyncio scheduler on both event loops."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable

import pytest
import uvloop

from ntpd_fast.system.timers import (
    NS_PER_S,
    AsyncioScheduler,
    QueuedTimer,
    SchedulingRunawayError,
    TimerClass,
    TimerQueue,
    loop_timeout_ms,
)


def noop() -> None:
    """A timer that does nothing."""


class FakeRandom:
    """The upper end of what random() may give."""

    def random(self) -> float:
        return 1.0


def test_timers_fire_in_order_of_deadline_and_insertion() -> None:
    queue = TimerQueue(random.Random(1))
    fired: list[str] = []
    queue.add(0, 2.0, lambda: fired.append("c"))
    queue.add(0, 1.0, lambda: fired.append("a"))
    queue.add(0, 1.0, lambda: fired.append("b"))
    assert queue.run_due(lambda: NS_PER_S - 1) == 0
    assert queue.run_due(lambda: 2 * NS_PER_S) == 3
    assert fired == ["a", "b", "c"]
    assert len(queue) == 0
    assert queue.next_deadline_ns() is None


def test_a_cancelled_timer_never_fires_and_leaves_no_trace() -> None:
    queue = TimerQueue(random.Random(1))
    timers = [queue.add(0, 1.0, pytest.fail, timer_class=TimerClass.NTP_CLIENT) for _ in range(500)]
    for timer in timers:
        timer.cancel()
        timer.cancel()
    assert len(queue) == 0
    assert queue.next_deadline_ns() is None
    assert queue.run_due(lambda: 10 * NS_PER_S) == 0
    # the class remembers nothing of them: a new one gets exactly its own delay
    timer = queue.add(0, 1.0, noop, timer_class=TimerClass.NTP_CLIENT, separation_s=0.2)
    assert timer.deadline_ns == NS_PER_S


def test_cancelled_timers_do_not_pile_up_behind_a_long_one() -> None:
    queue = TimerQueue(random.Random(1))
    queue.add(0, 1.0, noop)
    for _ in range(10_000):
        queue.add(0, 1e6, noop).cancel()
    assert len(queue._heap) < 200


def test_randomness_only_stretches() -> None:
    assert TimerQueue(FakeRandom()).add(0, 10.0, noop, randomness=0.02).deadline_ns == 10_200_000_000
    queue = TimerQueue(random.Random(3))
    deadlines = [queue.add(0, 10.0, noop, randomness=0.02).deadline_ns for _ in range(100)]
    assert min(deadlines) >= 10 * NS_PER_S
    assert max(deadlines) < 10.2 * NS_PER_S
    assert len(set(deadlines)) > 90


@pytest.mark.parametrize("seed", range(5))
def test_a_class_keeps_its_separation_from_queued_and_dispatched_timers(seed: int) -> None:
    rng = random.Random(seed)
    queue = TimerQueue(rng)
    now = 0
    dispatched: list[int] = []

    def clock() -> int:
        return now

    def dispatch() -> None:
        dispatched.append(now)

    for _ in range(300):
        queue.add(now, rng.uniform(0, 3), dispatch, timer_class=TimerClass.NTP_CLIENT, separation_s=0.2)
        queue.add(now, rng.uniform(0, 3), noop, timer_class=TimerClass.NTP_PEER, separation_s=0.1)
        for _ in range(rng.randrange(3)):
            deadline = queue.next_deadline_ns()
            if deadline is not None:
                now = deadline
                queue.run_due(clock)
    while (deadline := queue.next_deadline_ns()) is not None:
        now = deadline
        queue.run_due(clock)
    assert len(dispatched) == 300
    assert min(b - a for a, b in itertools.pairwise(dispatched)) >= 200_000_000


@pytest.mark.parametrize("seed", range(5))
def test_a_class_timer_gets_the_first_place_with_room(seed: int) -> None:
    rng = random.Random(seed)
    queue = TimerQueue(rng)
    armed: list[QueuedTimer] = []
    for _ in range(400):
        delay_s = rng.choice((0.2, rng.uniform(0, 5)))
        separation_s = rng.choice((0.1, 0.1, 0.1, 0.03))
        timer = queue.add(0, delay_s, noop, timer_class=TimerClass.NTP_CLIENT, separation_s=separation_s)
        taken = [other.deadline_ns for other in armed]
        separation_ns = round(separation_s * 1e9)
        wanted_ns = math.ceil(delay_s * 1e9)
        places = [wanted_ns, *(other_ns + separation_ns for other_ns in taken)]
        assert timer.deadline_ns == min(
            place_ns
            for place_ns in places
            if place_ns >= wanted_ns and all(abs(place_ns - other_ns) >= separation_ns for other_ns in taken)
        )
        armed.append(timer)
        if rng.random() < 0.1:
            armed.pop(rng.randrange(len(armed))).cancel()


def test_a_timer_that_rearms_without_time_passing_is_stopped() -> None:
    queue = TimerQueue(random.Random(1))

    def rearm() -> None:
        queue.add(5, 0.0, rearm)

    rearm()
    with pytest.raises(SchedulingRunawayError):
        queue.run_due(lambda: 5)


def test_many_timers_due_at_once_are_no_runaway() -> None:
    queue = TimerQueue(random.Random(1))
    for _ in range(5000):
        queue.add(0, 1.0, noop)
    assert queue.run_due(lambda: NS_PER_S) == 5000


@pytest.mark.parametrize("delay", [float("nan"), float("inf")])
def test_a_delay_must_be_finite(delay: float) -> None:
    with pytest.raises(ValueError):
        TimerQueue(random.Random(1)).add(0, delay, noop)


@pytest.mark.parametrize(
    ("delay_ns", "timeout_ms"), [(-5, 1), (0, 1), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)]
)
def test_loop_timeouts_round_up_and_are_never_zero(delay_ns: int, timeout_ms: int) -> None:
    assert loop_timeout_ms(delay_ns) == timeout_ms


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_asyncio_scheduler_is_never_early(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    loop = new_loop()
    try:
        scheduler = AsyncioScheduler(loop, random.Random(1))
        events: list[str] = []
        lateness: list[float] = []
        scheduler.add_event_hook(lambda: events.append("hook"))

        def check(due_ns: int) -> None:
            lateness.append((scheduler.monotonic_ns() - due_ns) / 1e9)
            if len(lateness) == 4:
                loop.stop()

        cancelled = scheduler.call_later(0.001, pytest.fail)
        for delay in (0.0203, 0.0101, 0.0004, 0.0):
            due = scheduler.monotonic_ns() + round(delay * 1e9)
            scheduler.call_later(delay, lambda due=due: check(due))  # type: ignore[misc]
        cancelled.cancel()
        loop.run_forever()
        assert min(lateness) >= 0.0
        assert events
        assert abs(scheduler.raw_ns() - scheduler.monotonic_ns()) > 0
        scheduler.close()
    finally:
        loop.close()


def test_timers_wait_for_a_loop() -> None:
    scheduler = AsyncioScheduler(None, random.Random(1))
    loop = asyncio.new_event_loop()
    try:
        fired: list[str] = []
        scheduler.call_later(0.01, loop.stop)
        scheduler.call_later(0.0, lambda: fired.append("first"))
        scheduler.call_later(0.001, lambda: fired.append("cancelled")).cancel()
        scheduler.run_in(loop)
        loop.run_forever()
        assert fired == ["first"]
    finally:
        scheduler.close()
        loop.close()
