"""The association as a client: when it asks, what it asks, what it makes of the answers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.actions import (
    Action,
    CloseSocket,
    Confirmed,
    KissRate,
    Select,
    SetTimer,
    StaleSample,
    Timer,
    Unreachable,
)
from ntpd_fast.client.auth import AuthMode, AuthReport, SymmetricAuthenticator
from ntpd_fast.client.connectivity import Connectivity
from ntpd_fast.client.logs import format_tests
from ntpd_fast.client.packet import (
    FIELD_MONO_ROOT,
    FIELD_NET_CORRECTION,
    KOD_RATE,
    Mode,
    MonoRoot,
    Packet,
    ns_to_ntp64,
    pack_mono_root,
    pack_net_correction,
    refid_of,
)
from ntpd_fast.client.stamps import Now, Stamp, StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.served import Served
from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from ntpd_fast.config.model import ExtField, SourceOptions
from tests.unit.client.talk import (
    ADDRESS,
    BASE,
    OUR_ADDRESS,
    Around,
    S,
    Server,
    Talk,
    header_of,
    packet_of,
)

ALL_PASSED = "111 111 1111"


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


# when


def test_first_request_after_a_fifth_of_a_second_then_every_poll() -> None:
    talk = Talk(SourceOptions(minpoll=4, maxpoll=4))
    server = Server()
    for _ in range(3):
        talk.exchange(server)
    assert talk.sent_at == pytest.approx([0.2, 16.2, 32.2], abs=1e-6)


def test_requests_keep_a_distance_from_those_of_others() -> None:
    for poll, separation in ((-7, 2e-3), (0, 0.125), (4, 0.2), (10, 0.2)):
        talk = Talk(SourceOptions(minpoll=poll, maxpoll=poll))
        talk.association.poll.poll = poll
        talk.request()
        (armed,) = [a for a in talk.seen[-3:] if isinstance(a, SetTimer) and a.timer is Timer.TRANSMIT]
        assert armed.separation_s == separation


def test_iburst_is_four_good_requests_two_seconds_apart() -> None:
    talk = Talk(SourceOptions(iburst=True))
    server = Server()
    for _ in range(5):
        talk.exchange(server)
    assert talk.sent_at == pytest.approx([0.2, 2.2, 4.2, 6.2, 70.2], abs=1e-6)


def test_iburst_gives_up_after_eight_requests() -> None:
    talk = Talk(SourceOptions(iburst=True, maxpoll=6))
    for _ in range(9):
        talk.request()
    expected = [0.2 + 2 * i for i in range(8)] + [0.2 + 14 + 64]
    assert talk.sent_at == pytest.approx(expected, abs=1e-6)


def test_burst_asks_again_until_a_response_is_good() -> None:
    talk = Talk(SourceOptions(burst=True, minpoll=6, maxpoll=8))
    talk.association.poll.poll = 8
    talk.request()
    talk.request()
    Server().answer(talk, talk.request())
    talk.association.poll.poll = 8
    assert talk.sent_at == pytest.approx([0.2, 2.2, 4.2], abs=1e-6)
    assert talk.association.burst.state is Connectivity.ONLINE


def test_burst_does_not_ask_more_often_than_minpoll_on_average() -> None:
    talk = Talk(SourceOptions(burst=True, minpoll=6, maxpoll=7))
    talk.association.poll.poll = 7
    for _ in range(3):
        talk.request()
    # two requests in 2·64 s
    assert talk.sent_at[:2] == pytest.approx([0.2, 2.2], abs=1e-6)
    assert talk.sent_at[2] > 100.0
    at_minpoll = Talk(SourceOptions(burst=True))
    at_minpoll.request()
    assert not at_minpoll.association.burst.bursting


def test_presend_wakes_up_the_path() -> None:
    talk = Talk(SourceOptions(minpoll=6, maxpoll=6, presend=6))
    server = Server()
    first = talk.exchange(server)
    second = talk.exchange(server)
    assert format_tests(first.tests) == "111 111 0111"
    assert format_tests(second.tests) == ALL_PASSED
    talk.exchange(server)
    assert talk.sent_at == pytest.approx([0.2, 2.2, 66.2], abs=1e-6)
    below = Talk(SourceOptions(minpoll=5, maxpoll=5, presend=6))
    assert format_tests(below.exchange(server).tests) == ALL_PASSED


def test_presend_in_interleaved_mode_needs_two() -> None:
    talk = Talk(SourceOptions(minpoll=6, maxpoll=6, presend=6, xleave=True))
    server = Server(xleave=True)
    for _ in range(5):
        talk.exchange(server)
    gaps = [b - a for a, b in zip(talk.sent_at, talk.sent_at[1:], strict=False)]
    assert gaps == pytest.approx([2.0, 64.0, 2.0, 2.0], abs=1e-6)


def test_socket_is_closed_by_the_response_or_in_time() -> None:
    talk = Talk(SourceOptions(maxdelay_s=1.0))
    talk.request()
    assert talk.socket_open
    assert talk.timers[Timer.RECEIVE] == pytest.approx(0.2 + 1.0 + 4.0)
    talk.fire(Timer.RECEIVE)
    assert not talk.socket_open
    talk.exchange(Server())
    assert not talk.socket_open
    assert Timer.RECEIVE not in talk.timers


def test_rate_kiss_makes_us_wait() -> None:
    talk = Talk(SourceOptions(iburst=True))
    talk.exchange(Server(leap=Leap.UNSYNCHRONISED, stratum=0, refid=KOD_RATE))
    assert KissRate() in talk.seen
    assert not talk.association.burst.bursting
    talk.request()
    assert talk.sent_at[1] - talk.sent_at[0] == pytest.approx(64.0 + 4 * 64.0)
    assert talk.association.poll.poll == 6


def test_kisses_of_nobody_or_of_other_kinds_are_ignored() -> None:
    talk = Talk()
    request = talk.request()
    kiss = Server(leap=Leap.UNSYNCHRONISED, stratum=0, refid=KOD_RATE).header(header_of(request), talk.t)
    talk.receive(replace(kiss, origin_ts=1).pack())
    talk.receive(replace(kiss, refid=0x44454E59, leap=Leap.NORMAL).pack())
    assert KissRate() not in talk.seen
    assert talk.timers[Timer.TRANSMIT] - talk.sent_at[0] == pytest.approx(64.0)


def test_offline_sources_start_on_demand() -> None:
    talk = Talk(SourceOptions(offline=True, iburst=True))
    assert talk.timers == {}
    talk.carry_out(talk.association.switch_online(talk.now))
    talk.request()
    assert talk.association.burst.bursting
    talk.carry_out(talk.association.switch_offline())
    assert talk.association.burst.state is Connectivity.BURST_WAS_OFFLINE
    for _ in range(7):
        talk.request()
    talk.fire()
    assert talk.association.burst.state is Connectivity.OFFLINE
    assert talk.timers == {}
    assert len(talk.sent) == 8


def test_going_offline_forgets_reachability_and_ignores_what_comes() -> None:
    talk = Talk()
    server = Server()
    talk.exchange(server)
    assert talk.source.reachable
    request = talk.request()
    talk.carry_out(talk.association.switch_offline())
    assert not talk.source.reachable
    count = len(talk.records)
    server.answer(talk, request)
    assert len(talk.records) == count


def test_requests_after_a_short_offline_time_keep_the_interval() -> None:
    talk = Talk()
    talk.exchange(Server())
    talk.t += 10.0
    talk.carry_out(talk.association.switch_offline())
    talk.carry_out(talk.association.switch_online(talk.now))
    talk.request()
    assert talk.sent_at[1] - talk.sent_at[0] == pytest.approx(64.0)


def test_burst_command() -> None:
    talk = Talk()
    talk.exchange(Server())
    talk.t += 1.0
    talk.carry_out(talk.association.start_burst(talk.now, 2, 4))
    talk.exchange(Server())
    talk.exchange(Server())
    talk.request()
    gaps = [b - a for a, b in zip(talk.sent_at, talk.sent_at[1:], strict=False)]
    assert gaps == pytest.approx([2.0, 2.0, 64.0], abs=1e-6)


def test_auto_offline_when_sending_fails() -> None:
    talk = Talk(SourceOptions(auto_offline=True))
    talk.send_works = False
    talk.fire()
    assert talk.association.burst.state is Connectivity.OFFLINE
    assert talk.timers == {}
    other = Talk()
    other.send_works = False
    other.fire()
    assert other.timers[Timer.TRANSMIT] == pytest.approx(64.2)


def test_suspended_until_started() -> None:
    talk = Talk(start=False)
    talk.carry_out(talk.association.switch_online(talk.now))
    assert talk.timers == {}
    talk.carry_out(talk.association.start(talk.now))
    assert Timer.TRANSMIT in talk.timers


# what


def test_requests_tell_nothing() -> None:
    talk = Talk()
    requests = [header_of(talk.request()) for _ in range(3)]
    for header in requests:
        assert (header.mode, header.version, header.poll, header.precision) == (Mode.CLIENT, 4, 6, 32)
        assert (header.stratum, header.refid, header.reference_ts, header.origin_ts, header.receive_ts) == (0,) * 5
        assert header.leap is Leap.NORMAL
        assert header.root_delay_s == header.root_dispersion_s == 0.0
    assert len({header.transmit_ts for header in requests}) == 3


KEY = SymmetricKey(7, KeyType.SHA256, b"0123456789abcdef")


@pytest.mark.parametrize(
    ("options", "version"),
    [
        (SourceOptions(), 3),
        (SourceOptions(version=4), 4),
        (SourceOptions(version=2), 2),
        (SourceOptions(xleave=True), 4),
        (SourceOptions(extfields=frozenset({ExtField.EXP_MONO_ROOT})), 4),
    ],
)
def test_version_of_requests(options: SourceOptions, version: int) -> None:
    talk = Talk(options, auth=SymmetricAuthenticator({7: KEY}, 7))
    assert header_of(talk.request()).version == version


def test_extension_fields_as_configured() -> None:
    options = SourceOptions(extfields=frozenset({ExtField.EXP_MONO_ROOT, ExtField.NET_CORRECTION}))
    packet = packet_of(Talk(options, around=Around(net_corrections=True)).request())
    assert [kind for kind, _, _ in packet.fields] == [FIELD_NET_CORRECTION, FIELD_MONO_ROOT]
    packet = packet_of(Talk(options).request())
    assert [kind for kind, _, _ in packet.fields] == [FIELD_MONO_ROOT]
    assert packet_of(Talk(replace(options, version=3)).request()).fields == ()


def test_unsealed_requests_are_not_sent() -> None:
    talk = Talk(auth=SymmetricAuthenticator({}, 7))
    talk.fire()
    talk.fire()
    assert talk.sent == []
    assert talk.source.reach_size == 1
    assert talk.association.report().counts.tx == 0


class NotYet:
    """An authenticator that has no keys for a while."""

    mode = AuthMode.NTS
    default_version = 4

    def __init__(self) -> None:
        self.ready = False

    def prepare(self, now: Now) -> bool:
        return self.ready

    def seal(self, request: bytes) -> bytes | None:
        return request

    def check(self, packet: Packet) -> bool:
        return True

    def good_response(self) -> None:
        pass

    def reset(self) -> None:
        pass

    def report(self, now: Now) -> AuthReport:
        return AuthReport(AuthMode.NTS)


def test_waits_for_its_authentication() -> None:
    auth = NotYet()
    talk = Talk(auth=auth)
    talk.fire()
    talk.fire()
    assert talk.sent == []
    assert (talk.source.reach, talk.source.reach_size) == (0, 2)
    auth.ready = True
    talk.exchange(Server())
    assert talk.sent_at == pytest.approx([128.2])


# measuring


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


# tests


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


def with_history(options: SourceOptions, *, jitter: float = 1e-6, n: int = 8) -> tuple[Talk, Server]:
    """An association that knows its server."""
    rng = random.Random(1)
    talk = Talk(replace(options, minpoll=4, maxpoll=4))
    server = Server()
    for _ in range(n):
        server.theta = rng.gauss(0.0, jitter)
        assert format_tests(talk.exchange(server).tests) == ALL_PASSED
    return talk, server


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


OWN = Served(Leap.NORMAL, 3, int(ADDRESS), BASE, 0.5, 0.25)


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


# reachability and polling


def test_reachability_follows_the_synchronised_responses() -> None:
    talk = Talk()
    server = Server()
    talk.exchange(server)
    talk.exchange(replace(server, leap=Leap.UNSYNCHRONISED))
    talk.request()
    talk.request()
    assert (talk.source.reach, talk.source.reach_size) == (0b100, 3)
    server.answer(talk, talk.sent[-1])
    assert talk.source.reach == 0b1001


def test_first_missing_response_is_noticed_with_the_second_request() -> None:
    talk = Talk()
    talk.request()
    assert talk.source.reach_size == 0
    talk.request()
    assert talk.source.reach_size == 1
    assert Select(updated=False) in talk.seen


def test_eight_missing_responses_make_it_unreachable() -> None:
    talk = Talk()
    for _ in range(8):
        talk.request()
        assert Unreachable() not in talk.seen
    talk.request()
    assert Unreachable() in talk.seen


def test_eight_missing_responses_make_a_reachable_one_unreachable() -> None:
    talk = Talk()
    server = Server()
    for _ in range(10):
        talk.exchange(server)
    for _ in range(8):
        talk.request()
        assert Unreachable() not in talk.seen
    talk.request()
    assert Unreachable() in talk.seen


def test_missing_responses_slow_down() -> None:
    talk = Talk(SourceOptions(minpoll=4, maxpoll=6))
    for _ in range(9):
        talk.request()
    assert talk.association.poll.poll == 6
    selected = Talk(SourceOptions(minpoll=4, maxpoll=6))
    selected.selected = True
    for _ in range(9):
        selected.request()
    assert selected.association.poll.poll == 4


def test_steady_source_is_asked_less_and_less() -> None:
    talk = Talk()
    server = Server()
    rng = random.Random(1)
    while talk.association.poll.poll < 10:
        server.delay = 1e-3 + rng.expovariate(1e5)
        server.return_delay = 1e-3 + rng.expovariate(1e5)
        talk.exchange(server)
        assert len(talk.sent) < 400
    assert len(talk.sent) > 30


def test_surprising_offset_brings_the_interval_down() -> None:
    talk, server = with_history(SourceOptions())
    talk.association.poll.set_maxpoll(10)
    talk.association.poll.poll = 10
    server.theta = 0.1
    talk.exchange(server)
    assert talk.association.poll.poll < 8


@pytest.mark.parametrize(("own_fault", "amount"), [(False, 0.02), (True, 0.1)])
def test_rejected_measurements_slow_down_a_little(own_fault: bool, amount: float) -> None:
    talk = Talk(around=Around(own=OWN, serving=True))
    server = Server(refid=refid_of(OUR_ADDRESS)) if own_fault else Server(delay=5.0, processing=0.0)
    talk.exchange(server)
    assert talk.association.poll.score == pytest.approx(amount)


def test_subsecond_polling_is_only_for_near_servers() -> None:
    near = Talk(SourceOptions(minpoll=-3, maxpoll=-3))
    near.exchange(Server())
    near.exchange(Server())
    near.request()
    gaps = [b - a for a, b in zip(near.sent_at, near.sent_at[1:], strict=False)]
    assert gaps == pytest.approx([0.125, 0.125])
    far = Talk(SourceOptions(minpoll=-3, maxpoll=-3))
    far.exchange(Server(delay=0.02))
    far.request()
    assert far.sent_at[1] - far.sent_at[0] == pytest.approx(1.0)


def test_copied_source_looks_like_the_server_itself() -> None:
    talk = Talk(SourceOptions(copy=True))
    talk.exchange(Server(stratum=2, refid=0x01020304))
    assert (talk.source.stratum, talk.source.refid) == (1, 0x01020304)
    talk.exchange(Server(stratum=1, refid=0x47505300))
    assert (talk.source.stratum, talk.source.refid) == (0, 0x47505300)


def test_stratum_can_be_raised() -> None:
    talk = Talk(SourceOptions(minstratum=5))
    talk.exchange(Server(stratum=2))
    assert talk.source.stratum == 5


def test_another_address_is_another_source() -> None:
    talk, server = with_history(SourceOptions())
    talk.association.poll.set_maxpoll(8)
    talk.association.poll.poll = 8
    response = server.response(talk, talk.request())
    talk.carry_out(talk.association.change_address(talk.now))
    talk.receive(response)
    assert talk.association.poll.poll == 4
    assert talk.association.report().last is None
    assert talk.source.local_refid is None
    assert CloseSocket() in talk.seen


def test_report() -> None:
    talk = Talk()
    assert talk.association.report().last is None
    talk.exchange(Server(stratum=4, theta=0.5))
    talk.request()
    talk.receive(b"garbage")
    report = talk.association.report()
    assert (report.counts.tx, report.counts.rx, report.counts.valid, report.counts.good) == (2, 2, 1, 1)
    assert (report.counts.kernel_tx, report.counts.kernel_rx, report.counts.hardware_tx) == (1, 1, 0)
    assert report.local_address == OUR_ADDRESS
    last = report.last
    assert last is not None
    assert (last.header.stratum, last.interleaved, last.authenticated) == (4, False, False)
    assert last.response_time_s == pytest.approx(1e-5, abs=1e-8)
    assert (last.tx_source, last.rx_source) == (StampSource.KERNEL, StampSource.KERNEL)


# extension fields


def test_finer_root_distance_is_used() -> None:
    options = SourceOptions(extfields=frozenset({ExtField.EXP_MONO_ROOT}))
    server = Server(root_delay=1.0, extra=lambda rx: pack_mono_root(MonoRoot(1e-7, 2e-7, rx, 9)))
    record = Talk(options).exchange(server)
    assert record.root_delay_s == pytest.approx(1e-7, abs=1e-8)
    assert record.sample is not None
    assert record.sample.root_delay_s < 3e-3


def test_correction_of_the_servers_clock_is_followed() -> None:
    """The server's clock is moved; with the field our statistics move along at once."""
    mono = 0.0

    def extra(rx: int) -> bytes:
        return pack_mono_root(MonoRoot(0.0, 0.0, (rx + round(mono * 2**32)) % 2**64, 5))

    talk = Talk(SourceOptions(minpoll=4, maxpoll=4, extfields=frozenset({ExtField.EXP_MONO_ROOT})))
    server = Server(extra=extra)
    for _ in range(8):
        talk.exchange(server)
    server.theta -= 0.25
    mono += 0.25
    record = talk.exchange(server)
    assert format_tests(record.tests) == ALL_PASSED
    assert talk.source.stats.offset_s == pytest.approx(0.25, abs=1e-6)
    assert talk.source.stats.n_samples == 9
    assert talk.source.stats.std_dev_s < 1e-6


@pytest.mark.parametrize("epoch", [5, 6])
def test_correction_counts_within_an_epoch_and_a_bound(epoch: int) -> None:
    values = iter([(0.0, 5), (20.0 if epoch == 5 else 0.25, epoch)])

    def extra(rx: int) -> bytes:
        mono, number = next(values)
        return pack_mono_root(MonoRoot(0.0, 0.0, (rx + round(mono * 2**32)) % 2**64, number))

    talk = Talk(SourceOptions(extfields=frozenset({ExtField.EXP_MONO_ROOT})))
    server = Server(extra=extra)
    talk.exchange(server)
    talk.exchange(server)
    assert abs(float(talk.source.stats.dump_lines()[1].split()[1])) < 1e-6


def test_residence_time_in_the_network_is_taken_out() -> None:
    options = SourceOptions(extfields=frozenset({ExtField.NET_CORRECTION}))
    talk = Talk(options, around=Around(net_corrections=True))
    server = Server(delay=3e-3, return_delay=1e-3, extra=lambda rx: pack_net_correction(2e-3))
    response = server.response(talk, talk.request())
    stamp = Stamp(talk.ns, 0.0, StampSource.HARDWARE, rx_duration_s=1e-9, net_correction_s=1e-6)
    talk.carry_out(talk.association.on_packet(response, stamp, talk.now, None))
    sample = talk.records[-1].sample
    assert sample is not None
    # 2 ms of the way there were spent in queues
    assert sample.offset_s == pytest.approx(0.0, abs=1e-6)
    assert sample.peer_delay_s == pytest.approx(2e-3, abs=2e-6)
    assert sample.root_delay_s == pytest.approx(1e-3 + 4e-3, abs=2e-5)


# timestamps


def test_better_transmit_timestamp_is_taken() -> None:
    talk = Talk()
    talk.tx_source = StampSource.DAEMON
    request = talk.request()
    sent = talk.ns
    talk.carry_out(talk.association.on_tx_stamp(request, Stamp(sent + 50_000, 0.0, StampSource.KERNEL), talk.now))
    Server().answer(talk, request)
    record = talk.records[-1]
    assert record.sample is not None
    assert record.sample.peer_delay_s == pytest.approx(2e-3 - 50e-6, abs=2e-9)
    assert record.tx_source is StampSource.KERNEL


@pytest.mark.parametrize("late_ns", [-1, 1_000_000_001])
def test_impossible_transmit_timestamps_are_ignored(late_ns: int) -> None:
    talk = Talk()
    talk.tx_source = StampSource.DAEMON
    request = talk.request()
    talk.carry_out(talk.association.on_tx_stamp(request, Stamp(talk.ns + late_ns, 0.0, StampSource.KERNEL), talk.now))
    assert talk.exchange(Server()).tx_source is StampSource.DAEMON


def test_timestamps_of_other_packets_are_ignored() -> None:
    talk = Talk()
    talk.tx_source = StampSource.DAEMON
    old = talk.request()
    talk.request()
    for data in (old, b"", bytes(48), b"\x23" + bytes(47)):
        talk.carry_out(talk.association.on_tx_stamp(data, Stamp(talk.ns + 100, 0.0, StampSource.KERNEL), talk.now))
    Server().answer(talk, talk.sent[-1])
    assert talk.records[-1].tx_source is StampSource.DAEMON


def test_response_is_held_for_a_hardware_timestamp() -> None:
    around = Around()
    talk = Talk(around=around)
    server = Server()
    talk.exchange(server)
    around.hold_timeout_s = 1e-3
    request = talk.request()
    server.answer(talk, request)
    count = len(talk.records)
    assert talk.timers[Timer.HOLD] == pytest.approx(talk.t + 1e-3)
    stamp = Stamp(round(BASE + talk.sent_at[-1] * S) + 1000, 0.0, StampSource.HARDWARE)
    talk.carry_out(talk.association.on_tx_stamp(request, stamp, talk.now))
    assert len(talk.records) == count + 1
    assert talk.records[-1].tx_source is StampSource.HARDWARE
    assert Timer.HOLD not in talk.timers


@pytest.mark.parametrize("timer", [Timer.HOLD, Timer.TRANSMIT])
def test_held_response_is_used_when_the_wait_is_over(timer: Timer) -> None:
    around = Around()
    talk = Talk(around=around)
    server = Server()
    talk.exchange(server)
    around.hold_timeout_s = 1e-3
    server.answer(talk, talk.request())
    count = len(talk.records)
    talk.fire(timer)
    assert len(talk.records) == count + 1
    assert format_tests(talk.records[-1].tests) == ALL_PASSED


# interleaved mode


def interleaving(**changes: object) -> tuple[Talk, Server]:
    options = SourceOptions(minpoll=4, maxpoll=4, xleave=True)
    return Talk(options), Server(xleave=True, **changes)  # type: ignore[arg-type]


def test_interleaved_sequence() -> None:
    talk, server = interleaving()
    outcomes = []
    for _ in range(6):
        record = talk.exchange(server)
        outcomes.append((record.interleaved, format_tests(record.tests)))
    assert outcomes == [
        (False, ALL_PASSED),
        (False, ALL_PASSED),
        (True, "111 111 0111"),
        (True, ALL_PASSED),
        (True, ALL_PASSED),
        (True, ALL_PASSED),
    ]
    header = talk.last_header
    assert header.origin_ts & 1
    assert 0 not in (header.receive_ts, header.transmit_ts)
    assert header.receive_ts != header.transmit_ts


def test_interleaved_uses_the_exact_transmit_time_of_the_server() -> None:
    talk, server = interleaving(theta=0.125)
    # in basic mode the server's stamp is too early by what sending takes it
    server.processing = 1e-5
    for _ in range(4):
        talk.exchange(server)
    late = 7e-5
    server.saved = {rx: tx + round(late * 2**32) for rx, tx in server.saved.items()}
    server.return_delay = 1e-3 - late
    record = talk.exchange(server)
    assert record.interleaved
    assert record.sample is not None
    assert record.sample.offset_s == pytest.approx(0.125 + late / 2, abs=5e-9)
    # it is the exchange before that was measured
    assert record.sample.time_ns < round(BASE + talk.sent_at[-1] * S) - 10 * S


def test_interleaved_falls_back_to_basic_after_loss() -> None:
    talk, server = interleaving()
    for _ in range(4):
        talk.exchange(server)
    for i in range(4):
        header = header_of(talk.request())
        assert (header.origin_ts != 0) is (i < 4)
    assert header_of(talk.request()).origin_ts == 0
    assert not talk.exchange(server).interleaved


def test_lost_response_costs_one_basic_exchange() -> None:
    talk, server = interleaving()
    for _ in range(4):
        talk.exchange(server)
    # the server answers, using up what it had saved, but the answer is lost
    server.header(header_of(talk.request()), talk.t)
    record = talk.exchange(server)
    assert not record.interleaved
    assert format_tests(record.tests) == ALL_PASSED
    assert format_tests(talk.exchange(server).tests) == "111 111 0111"
    assert format_tests(talk.exchange(server).tests) == ALL_PASSED


def test_interleaved_on_a_path_longer_than_the_interval_uses_the_newer_request() -> None:
    talk = Talk(SourceOptions(minpoll=0, maxpoll=0, xleave=True))
    server = Server(xleave=True, delay=0.2)
    for _ in range(6):
        record = talk.exchange(server)
    assert record.interleaved
    assert record.sample is not None
    assert record.sample.peer_delay_s == pytest.approx(0.4, abs=1e-6)
    assert format_tests(record.tests) == ALL_PASSED


def test_transmit_timestamp_may_come_after_an_interleaved_response() -> None:
    talk, server = interleaving()
    talk.tx_source = StampSource.DAEMON
    for _ in range(4):
        talk.exchange(server)
    request = talk.request()
    sent = talk.ns
    server.answer(talk, request)
    talk.carry_out(talk.association.on_tx_stamp(request, Stamp(sent + 40_000, 0.0, StampSource.KERNEL), talk.now))
    record = talk.exchange(server)
    assert record.sample is not None
    assert record.tx_source is StampSource.KERNEL
    assert record.sample.peer_delay_s == pytest.approx(2e-3 - 40e-6, abs=5e-9)


def test_clock_changes_between_interleaved_exchanges() -> None:
    talk, server = interleaving()
    for _ in range(4):
        talk.exchange(server)
    talk.t += 1.0
    talk.change(ClockChange(0, talk.ns, 1e-4, 0.5, ChangeKind.ADJUST))
    server.theta += 0.5
    record = talk.exchange(server)
    assert record.interleaved
    assert record.sample is not None
    assert record.sample.offset_s == pytest.approx(0.5, abs=1e-3)
    assert record.sample.peer_delay_s == pytest.approx(2e-3, abs=1e-6)


def test_interleaved_needs_version_4_answers_only_where_asked() -> None:
    talk = Talk(SourceOptions(minpoll=4, maxpoll=4))
    server = Server(xleave=True)
    for _ in range(4):
        assert not talk.exchange(server).interleaved
        assert talk.last_header.origin_ts == 0


# hostile


@given(st.binary(max_size=300))
def test_garbage_changes_nothing(data: bytes) -> None:
    talk = Talk()
    talk.request()
    talk.receive(data)
    talk.receive(b"\x24" + data)
    talk.receive((b"\x24" + data)[:48].ljust(48, b"\0"))
    assert talk.association.report().last is None
    assert talk.source.reach_size == 0
    assert talk.source.stats.n_samples == 0


@given(
    st.integers(0, 255),
    st.integers(-128, 127),
    st.integers(-128, 127),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 3),
)
def test_any_answer_is_survived(
    stratum: int, poll: int, precision: int, delay: int, rx: int, tx: int, leap: int
) -> None:
    talk = Talk(SourceOptions(xleave=True))
    for _ in range(4):
        header = header_of(talk.request())
        talk.t += 1e-3
        talk.receive(
            replace(
                Server().header(header, talk.t),
                leap=Leap(leap),
                stratum=stratum,
                poll=poll,
                precision=precision,
                root_delay_s=delay / 65536,
                receive_ts=rx,
                transmit_ts=tx,
            ).pack()
        )
        rx = (rx + 3) % 2**64
    assert 6 <= talk.association.poll.poll <= 10
    assert talk.timers[Timer.TRANSMIT] > talk.t - 10.0


def forge(rng: random.Random, count: int, *, xleave: bool) -> None:
    """An attacker who sees nothing sends answers, kisses and crypto-NAKs."""
    talk = Talk(SourceOptions(xleave=xleave, minpoll=4, maxpoll=4))
    server = Server(xleave=xleave)
    for _ in range(5):
        talk.exchange(server)
    good = talk.association.report().counts.good
    request = talk.request()
    template = server.header(header_of(request), talk.t)
    poll, timers = talk.association.poll.poll, dict(talk.timers)
    for i in range(count):
        forged = replace(
            template,
            origin_ts=rng.getrandbits(64),
            receive_ts=rng.getrandbits(64) | 1,
            transmit_ts=rng.getrandbits(64) | 1,
        )
        if i % 3 == 1:
            forged = replace(forged, leap=Leap.UNSYNCHRONISED, stratum=0, refid=KOD_RATE)
        data = forged.pack()
        if i % 3 == 2:
            data += bytes(4)
        talk.records.clear()
        talk.seen.clear()
        talk.receive(data)
        assert talk.association.report().counts.good == good
    assert talk.association.poll.poll == poll
    assert talk.timers == timers
    # and the real answer is still taken
    server.answer(talk, request)
    assert talk.association.report().counts.good == good + 1


@pytest.mark.parametrize("xleave", [False, True])
def test_forged_answers_are_not_accepted(xleave: bool) -> None:
    forge(random.Random(11), 3000, xleave=xleave)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("xleave", [False, True])
def test_a_million_forged_answers_are_not_accepted(xleave: bool) -> None:
    forge(random.Random(12), 500_000, xleave=xleave)
