"""Adaptation of the polling interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.poll import PollControl


def test_a_whole_step_moves_the_interval() -> None:
    poll = PollControl(6, 10)
    for _ in range(3):
        poll.adjust(0.25, subsecond_allowed=False)
    assert (poll.poll, poll.score) == (6, 0.75)
    poll.adjust(0.25, subsecond_allowed=False)
    assert (poll.poll, poll.score) == (7, 0.0)
    poll.adjust(2.5, subsecond_allowed=False)
    assert (poll.poll, poll.score) == (9, 0.5)


@pytest.mark.parametrize(("amount", "expected"), [(-0.1, (7, 0.9)), (-1.0, (6, 1.0)), (-1.5, (6, 0.5))])
def test_negative_scores_shorten_at_once(amount: float, expected: tuple[int, float]) -> None:
    poll = PollControl(4, 10)
    poll.poll = 8
    poll.adjust(amount, subsecond_allowed=False)
    assert (poll.poll, pytest.approx(poll.score)) == expected


def test_limits_set_the_score_to_their_end() -> None:
    poll = PollControl(6, 10)
    poll.adjust(-0.5, subsecond_allowed=False)
    assert (poll.poll, poll.score) == (6, 0.0)
    poll.adjust(20.0, subsecond_allowed=False)
    assert (poll.poll, poll.score) == (10, 1.0)
    # the score of 1 at the upper end means that the next good sample doesn't move it
    poll.adjust(-0.01, subsecond_allowed=False)
    assert poll.poll == 10


def test_subsecond_polling_is_for_near_servers() -> None:
    poll = PollControl(-4, -4)
    poll.reset(subsecond_allowed=False)
    assert poll.poll == 0
    poll.adjust(0.0, subsecond_allowed=True)
    assert poll.poll == -4
    poll.adjust(0.0, subsecond_allowed=False)
    assert poll.poll == 0


def test_limits_follow_each_other() -> None:
    poll = PollControl(6, 10)
    poll.set_minpoll(12)
    assert (poll.minpoll, poll.maxpoll) == (12, 12)
    poll.set_maxpoll(4)
    assert (poll.minpoll, poll.maxpoll) == (4, 4)


@given(st.integers(-7, 24), st.integers(0, 10), st.lists(st.floats(-40.0, 40.0), max_size=50))
def test_stays_inside_its_limits(minpoll: int, width: int, amounts: list[float]) -> None:
    poll = PollControl(minpoll, minpoll + width)
    for amount in amounts:
        poll.adjust(amount, subsecond_allowed=True)
        assert minpoll <= poll.poll <= minpoll + width
        assert 0.0 <= poll.score <= 1.0
