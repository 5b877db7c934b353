"""Online, offline and bursts."""

from __future__ import annotations

from ntpd_fast.client.connectivity import BurstControl, Connectivity


def online() -> BurstControl:
    control = BurstControl()
    control.switch_online()
    return control


def test_burst_ends_with_enough_good_responses() -> None:
    control = online()
    assert control.start(2, 5)
    assert control.state is Connectivity.BURST_WAS_ONLINE
    control.good_response()
    assert control.bursting
    control.good_response()
    assert control.state is Connectivity.ONLINE


def test_last_request_of_a_burst_is_a_normal_poll() -> None:
    control = online()
    control.start(4, 3)
    ended = []
    for _ in range(4):
        ended.append(control.before_request())
        control.after_request(sent=True, reachable=False)
    # three requests in all, the third already counts as the poll
    assert ended == [False, False, True, False]


def test_burst_of_an_offline_source_ends_offline() -> None:
    control = BurstControl()
    assert control.start(4, 2)
    for _ in range(2):
        assert not control.before_request()
        assert control.talking
        control.after_request(sent=True, reachable=False)
    control.before_request()
    assert control.state is Connectivity.OFFLINE


def test_failures_to_send_do_not_use_up_a_burst_before_the_network_is_up() -> None:
    control = online()
    control.start(4, 8)
    control.after_request(sent=False, reachable=False)
    assert control.total_left == 8
    control.after_request(sent=False, reachable=True)
    control.after_request(sent=True, reachable=False)
    assert control.total_left == 6


def test_running_burst_is_not_started_again() -> None:
    control = online()
    assert control.start(1, 4)
    assert not control.start(5, 9)
    assert control.total_left == 4
    assert not online().start(0, 4)
    assert not online().start(4, 0)


def test_switching_during_a_burst_waits_for_its_end() -> None:
    control = online()
    control.start(1, 4)
    assert not control.switch_offline()
    assert control.state is Connectivity.BURST_WAS_OFFLINE
    assert not control.switch_online()
    assert control.state is Connectivity.BURST_WAS_ONLINE
    control.switch_offline()
    control.finish()
    assert control.state is Connectivity.OFFLINE


def test_switching_twice_changes_nothing() -> None:
    control = BurstControl()
    assert control.switch_online()
    assert not control.switch_online()
    assert control.switch_offline()
    assert not control.switch_offline()
