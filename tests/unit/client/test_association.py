"""The association as a client: when it asks, what it asks, what it makes of the answers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ntpd_fast.client.actions import (
    Action,
    CloseSocket,
    KissRate,
    Select,
    SetTimer,
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
    pack_mono_root,
    pack_net_correction,
    refid_of,
)
from ntpd_fast.client.stamps import Now, Stamp, StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.config.model import ExtField, SourceOptions
from tests.unit.client.talk import (
    ALL_PASSED,
    KEY,
    OUR_ADDRESS,
    OWN,
    Around,
    Server,
    Talk,
    header_of,
    packet_of,
    with_history,
)


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


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


def test_requests_tell_nothing() -> None:
    talk = Talk()
    requests = [header_of(talk.request()) for _ in range(3)]
    for header in requests:
        assert (header.mode, header.version, header.poll, header.precision) == (Mode.CLIENT, 4, 6, 32)
        assert (header.stratum, header.refid, header.reference_ts, header.origin_ts, header.receive_ts) == (0,) * 5
        assert header.leap is Leap.NORMAL
        assert header.root_delay_s == header.root_dispersion_s == 0.0
    assert len({header.transmit_ts for header in requests}) == 3


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
