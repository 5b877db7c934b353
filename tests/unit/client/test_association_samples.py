"""The association as a client: what it measures, and which responses it takes for good."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ntpd_fast.client.actions import (
    Confirmed,
    Select,
    StaleSample,
    Timer,
)
from ntpd_fast.client.auth import SymmetricAuthenticator
from ntpd_fast.client.logs import format_tests
from ntpd_fast.client.packet import (
    Mode,
    ns_to_ntp64,
    refid_of,
)
from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.config.model import SourceOptions
from tests.unit.client.talk import (
    ADDRESS,
    ALL_PASSED,
    BASE,
    KEY,
    OUR_ADDRESS,
    OWN,
    Around,
    S,
    Server,
    Talk,
    header_of,
    with_history,
)


@pytest.mark.parametrize("theta", [0.0, 0.25, -3.0, 1e6, -1e6])
def test_offset_and_delay(theta: float) -> None:
    talk = Talk()
    record = talk.exchange(Server(theta=theta, delay=2e-3, return_delay=4e-3, processing=1e-4))
    assert format_tests(record.tests) == ALL_PASSED
    sample = record.sample
    assert sample is not None
    assert sample.peer_delay_s == pytest.approx(6e-3, abs=2e-9)
    # what is not the same both ways can't be seen
    assert sample.offset_s == pytest.approx(theta - 1e-3, abs=2e-9)
    assert sample.time_ns == pytest.approx(BASE + round((0.2 + 6.1e-3 / 2) * S), abs=2)
    assert sample.root_delay_s == pytest.approx(1e-3 + 6e-3, abs=2e-5)
    precision = 1e-9 + 2.0**-25
    assert sample.peer_dispersion_s == pytest.approx(precision + 2000e-6 * 6.1e-3, rel=1e-6)
    assert sample.root_dispersion_s == pytest.approx(1e-3 + sample.peer_dispersion_s, abs=2e-5)


def test_configured_offset_is_added() -> None:
    sample = Talk(SourceOptions(offset_s=0.5)).exchange(Server()).sample
    assert sample is not None
    assert sample.offset_s == pytest.approx(0.5, abs=1e-8)


def test_delay_is_not_below_the_precision() -> None:
    sample = Talk().exchange(Server(delay=0.0, processing=0.0, precision=-10)).sample
    assert sample is not None
    assert sample.peer_delay_s == pytest.approx(2.0**-10 + 1e-9)


def test_errors_of_the_timestamps_count() -> None:
    talk = Talk()
    response = Server().response(talk, talk.request())
    stamp = Stamp(talk.ns, 0.125, StampSource.DAEMON)
    talk.carry_out(talk.association.on_packet(response, stamp, talk.now, None))
    sample = talk.records[-1].sample
    assert sample is not None
    assert sample.peer_dispersion_s > 0.125


def test_a_change_of_the_clock_between_request_and_response() -> None:
    talk = Talk()
    request = talk.request()
    talk.t += 0.5
    talk.change(ClockChange(0, talk.ns, 0.0, 10.0, ChangeKind.STEP))
    server = Server(theta=10.25, delay=0.0)
    server.answer(talk, request)
    sample = talk.records[-1].sample
    assert sample is not None
    # half a second on the way there, measured on one time scale
    assert sample.peer_delay_s == pytest.approx(0.5, abs=1e-6)
    assert sample.offset_s == pytest.approx(10.5, abs=1e-6)


def test_unknown_step_starts_afresh() -> None:
    talk = Talk(SourceOptions(minpoll=4, maxpoll=8))
    server = Server()
    for _ in range(4):
        talk.exchange(server)
    talk.association.poll.poll = 8
    request = talk.request()
    response = server.response(talk, request)
    talk.change(ClockChange(0, talk.ns, 0.0, 0.0, ChangeKind.UNKNOWN_STEP))
    assert talk.association.poll.poll == 4
    count = talk.association.report().counts.valid
    talk.receive(response)
    assert talk.association.report().counts.valid == count
    assert talk.timers[Timer.TRANSMIT] - talk.sent_at[-1] == pytest.approx(16.0)


def test_good_samples_are_accumulated_and_selected() -> None:
    talk = Talk()
    talk.exchange(Server())
    assert talk.source.stats.n_samples == 1
    assert Confirmed() in talk.seen
    # selection is the last thing: it may change the clock
    assert talk.seen[-1] == Select(updated=True)
    assert talk.source.stratum == 2
    assert talk.source.local_refid == refid_of(OUR_ADDRESS)


def test_nothing_is_measured_near_a_leap_second() -> None:
    talk = Talk(around=Around(leap_close=True))
    assert format_tests(talk.exchange(Server()).tests) == ALL_PASSED
    assert talk.source.stats.n_samples == 0
    assert talk.source.reachable


def test_filter_collects_polls() -> None:
    talk = Talk(SourceOptions(filter_length=3))
    server = Server()
    for i, theta in enumerate([0.0, 5.0, 1.0, 2.0, 0.0, 1.0]):
        server.theta = theta
        talk.exchange(server)
        assert talk.source.stats.n_samples == (i + 1) // 3
    assert talk.source.stats.offset_s == pytest.approx(-1.0, abs=1e-3)


def test_missed_polls_count_for_the_filter() -> None:
    talk = Talk(SourceOptions(filter_length=3))
    server = Server()
    talk.exchange(server)
    talk.exchange(server)
    talk.request()
    talk.request()
    assert talk.source.stats.n_samples == 1


def test_time_going_backwards_is_told() -> None:
    talk = Talk()
    server = Server()
    talk.exchange(server)
    request = talk.request()
    # what LocalClock would have announced, had it known
    talk.t -= 1000.0
    stamped = replace(server.header(header_of(request), talk.t))
    talk.association._dialogue.local_tx = Stamp(talk.ns)
    talk.t += 1e-3
    talk.receive(stamped.pack())
    assert StaleSample() in talk.seen
    assert talk.source.stats.n_samples == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ALL_PASSED),
        ({"origin_ts": 1}, "101 111 0000"),
        ({"origin_ts": 0}, "100 111 0000"),
        ({"receive_ts": 0}, "110 111 0000"),
        ({"transmit_ts": 0}, "110 111 0000"),
        ({"leap": Leap.UNSYNCHRONISED}, "111 101 0000"),
        ({"stratum": 0}, "111 101 0000"),
        ({"stratum": 16}, "111 101 0000"),
        ({"stratum": 15}, ALL_PASSED),
        ({"root_delay_s": 32.0}, "111 110 0000"),
        ({"root_dispersion_s": 16.0}, "111 110 0000"),
        ({"root_dispersion_s": 15.9}, ALL_PASSED),
        ({"precision": 10}, "111 111 0111"),
        ({"precision": 127}, "111 111 0111"),
        ({"precision": -128}, ALL_PASSED),
    ],
)
def test_packet_tests(changes: dict[str, object], expected: str) -> None:
    talk = Talk()
    request = talk.request()
    header = Server().header(header_of(request), talk.t + 1e-3)
    talk.t += 2e-3
    talk.receive(replace(header, **changes).pack())  # type: ignore[arg-type]
    if changes.get("stratum") == 16:
        expected = "111 101 0000"
    assert format_tests(talk.records[-1].tests) == expected


def test_authentication_is_test_5() -> None:
    talk = Talk(auth=SymmetricAuthenticator({7: KEY}, 7))
    request = talk.request()
    header = Server().header(header_of(request), talk.t)
    talk.receive(header.pack())
    assert format_tests(talk.records[-1].tests) == "111 011 0000"
    sealed = SymmetricAuthenticator({7: KEY}, 7).seal(header.pack())
    assert sealed is not None
    talk.receive(sealed)
    assert format_tests(talk.records[-1].tests) == ALL_PASSED
    last = talk.association.report().last
    assert last is not None
    assert last.authenticated


def test_second_response_does_not_count() -> None:
    talk = Talk()
    request = talk.request()
    server = Server()
    header = server.header(header_of(request), talk.t)
    talk.receive(header.pack())
    talk.receive(header.pack())
    assert format_tests(talk.records[-1].tests) == "011 111 0000"
    talk.receive(replace(header, receive_ts=header.receive_ts + 2).pack())
    assert format_tests(talk.records[-1].tests) == "100 111 0000"
    assert talk.source.stats.n_samples == 1
    assert talk.association.report().counts.valid == 1


def test_responses_to_earlier_requests_do_not_count() -> None:
    talk = Talk()
    old = talk.request()
    talk.request()
    talk.receive(Server().header(header_of(old), talk.t).pack())
    assert format_tests(talk.records[-1].tests) == "101 111 0000"
    assert not talk.source.reachable


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.SERVER])
def test_packets_in_other_modes_are_not_even_looked_at(mode: Mode) -> None:
    talk = Talk()
    request = talk.request()
    talk.receive(replace(Server().header(header_of(request), talk.t), mode=mode).pack())
    assert talk.records == []
    assert talk.association.report().counts.rx == 1


def test_a_maximum_delay() -> None:
    talk = Talk(SourceOptions(maxdelay_s=0.1))
    assert format_tests(talk.exchange(Server(delay=0.051)).tests) == "111 111 0111"
    assert format_tests(talk.exchange(Server(delay=0.049)).tests) == ALL_PASSED


def test_a_server_that_took_too_long() -> None:
    assert format_tests(Talk().exchange(Server(processing=3.9)).tests) == ALL_PASSED
    assert format_tests(Talk().exchange(Server(processing=4.1)).tests) == "111 111 0111"


def test_b_ratio_to_the_minimum_delay() -> None:
    talk, server = with_history(SourceOptions(maxdelayratio=2.0, maxdelaydevratio=1e6))
    server.delay = 1.9e-3
    assert format_tests(talk.exchange(server).tests) == ALL_PASSED
    server.delay = 2.2e-3
    assert format_tests(talk.exchange(server).tests) == "111 111 1011"
    talk, server = with_history(SourceOptions(maxdelayratio=0.5, maxdelaydevratio=1e6))
    server.delay = 0.1
    assert format_tests(talk.exchange(server).tests) == ALL_PASSED


def test_c_delay_much_larger_than_the_scatter() -> None:
    talk, server = with_history(SourceOptions())
    server.theta = 0.0
    server.delay = 5e-3
    assert format_tests(talk.exchange(server).tests) == "111 111 1101"
    # an offset that the delay can't explain is news, not noise
    server.theta = 0.1
    assert format_tests(talk.exchange(server).tests) == ALL_PASSED


def test_b_and_c_need_six_samples() -> None:
    talk, server = with_history(SourceOptions(maxdelayratio=1.5), n=5)
    server.delay = 0.5
    assert format_tests(talk.exchange(server).tests) == ALL_PASSED


def test_c_by_quantile() -> None:
    talk = Talk(SourceOptions(minpoll=4, maxpoll=4, maxdelayquant=0.3), around=Around(precision_s=1e-6))
    server = Server()
    rng = random.Random(5)
    outcomes = []
    for _ in range(1600):
        server.delay = 1e-3 + rng.expovariate(1e4)
        outcomes.append(format_tests(talk.exchange(server).tests) == ALL_PASSED)
    # the estimate takes its time to find the quantile
    assert sum(outcomes[800:]) / 800 == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(
    ("around", "server", "expected"),
    [
        (Around(own=OWN), Server(refid=refid_of(OUR_ADDRESS)), "1"),
        (Around(own=OWN, serving=True), Server(refid=refid_of(OUR_ADDRESS)), "0"),
        (Around(own=OWN, serving=True), Server(refid=refid_of(OUR_ADDRESS), stratum=1), "1"),
        (Around(own=OWN, serving=True, one_shot=True), Server(refid=refid_of(OUR_ADDRESS)), "1"),
        (
            Around(own=OWN, serving=True),
            Server(stratum=3, refid=int(ADDRESS), root_delay=0.5, reference_ts=ns_to_ntp64(BASE) ^ 3),
            "0",
        ),
        (
            Around(own=OWN, serving=True),
            Server(stratum=3, refid=int(ADDRESS), root_delay=0.6, reference_ts=ns_to_ntp64(BASE)),
            "1",
        ),
        (
            Around(own=OWN, serving=True),
            Server(stratum=3, refid=int(ADDRESS), root_delay=0.5, reference_ts=ns_to_ntp64(BASE + S)),
            "1",
        ),
    ],
)
def test_d_loops(around: Around, server: Server, expected: str) -> None:
    assert format_tests(Talk(around=around).exchange(server).tests) == "111 111 111" + expected
