"""Symmetric associations: two of ours talking to each other."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ntpd_fast.client.actions import Timer
from ntpd_fast.client.auth import SymmetricAuthenticator
from ntpd_fast.client.logs import format_tests
from ntpd_fast.client.ntpsource import TRANSMIT_RANDOMNESS
from ntpd_fast.client.packet import Mode, ntp64_to_ns
from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.served import Served
from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from ntpd_fast.config.model import SourceOptions
from tests.unit.client.talk import BASE, Around, S, Talk, header_of

ALL_PASSED = "111 111 1111"
KEY = SymmetricKey(7, KeyType.SHA1, b"0123456789abcdef")


def around(seed: int, stratum: int) -> Around:
    own = Served(Leap.NORMAL, stratum, 0x0A000000 + seed, BASE, 1e-3, 2e-3)
    return Around(random=random.Random(seed), own=own)


class Pair:
    """Two peers and the path between them; `theta` is how far the second clock is ahead."""

    def __init__(
        self,
        options: SourceOptions,
        *,
        other: SourceOptions | None = None,
        theta: float = 0.0,
        delay: float = 1e-3,
        later: float = 0.0,
        strata: tuple[int, int] = (2, 3),
        keyed: bool = False,
    ) -> None:
        def make(seed: int, options: SourceOptions, stratum: int, t: float) -> Talk:
            auth = SymmetricAuthenticator({7: KEY}, 7) if keyed else None
            talk = Talk(options, around=around(seed, stratum), auth=auth, symmetric=True, start=False, t=t)
            # without it two peers that send in step would never hear an answer
            talk.randomness = TRANSMIT_RANDOMNESS
            return talk

        self.make = make
        self.theta = theta
        self.delay = delay
        self.options = (options, other or options)
        self.strata = strata
        self.one = make(1, options, strata[0], 0.0)
        self.two = make(2, self.options[1], strata[1], theta)
        self.one.carry_out(self.one.association.start(self.one.now))
        self.two.t += later
        self.two.carry_out(self.two.association.start(self.two.now))
        self.flying: list[tuple[float, Talk, bytes]] = []
        self.dropped = 0

    def true_time(self, talk: Talk, local: float) -> float:
        return local - self.theta if talk is self.two else local

    def run(self, until: float) -> None:
        """Let both talk up to a true time."""
        while True:
            events = [
                (self.true_time(talk, t), 1, i, timer)
                for i, talk in enumerate((self.one, self.two))
                for timer, t in talk.timers.items()
            ]
            events += [(t, 0, i, None) for i, (t, _, _) in enumerate(self.flying)]
            if not events:
                return
            when, _, index, timer = min(events, key=lambda event: event[:3])
            if when > until:
                return
            if timer is None:
                _, receiver, data = self.flying.pop(index)
                receiver.t = when + (self.theta if receiver is self.two else 0.0)
                receiver.receive(data)
                continue
            talk = (self.one, self.two)[index]
            count = len(talk.sent)
            talk.fire(timer)
            for data in talk.sent[count:]:
                self.flying.append((when + self.delay, self.two if talk is self.one else self.one, data))


def good_records(talk: Talk, *, interleaved: bool = False) -> int:
    return sum(
        format_tests(record.tests) == ALL_PASSED and record.interleaved is interleaved for record in talk.records
    )


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("later", [0.0, 3.0, 9.0])
def test_peers_measure_each_other(later: float, keyed: bool) -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4), theta=0.25, later=later, keyed=keyed)
    pair.run(400.0)
    for talk, theta in ((pair.one, 0.25), (pair.two, -0.25)):
        assert good_records(talk) >= 10
        sample = talk.records[-1].sample
        assert sample is not None
        assert sample.offset_s == pytest.approx(theta, abs=1e-6)
        assert sample.peer_delay_s == pytest.approx(2e-3, abs=1e-6)
        assert talk.source.reachable
        header = header_of(talk.sent[-1])
        assert header.mode is Mode.SYMMETRIC_ACTIVE
        # the time a peer is asked at is not a secret: it is what the other measures with
        assert header.precision == -30


def test_packets_tell_what_we_serve() -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4))
    pair.run(40.0)
    header = header_of(pair.one.sent[-1])
    assert (header.stratum, header.refid, header.leap) == (2, 0x0A000001, Leap.NORMAL)
    assert header.root_delay_s == pytest.approx(1e-3, abs=2e-5)
    assert pair.two.source.stratum == 2
    assert pair.one.source.stratum == 3


def test_interleaved_peers() -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4, xleave=True), theta=0.25, later=8.0)
    pair.run(1000.0)
    for talk, theta in ((pair.one, 0.25), (pair.two, -0.25)):
        assert good_records(talk, interleaved=True) >= 20
        sample = talk.records[-1].sample
        assert sample is not None
        assert sample.offset_s == pytest.approx(theta, abs=1e-5)


def test_restarted_peer_is_heard_again() -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4), keyed=True)
    pair.run(300.0)
    old = good_records(pair.one)
    pair.two = pair.make(3, pair.options[1], 3, 300.0)
    pair.two.carry_out(pair.two.association.start(pair.two.now))
    pair.run(600.0)
    assert good_records(pair.two) >= 10
    assert good_records(pair.one) >= old + 10


def test_peer_that_sends_more_often_is_followed() -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4), other=SourceOptions(minpoll=2, maxpoll=2))
    pair.run(300.0)
    # we may go down to our own minpoll only; the other one keeps to its own
    assert len(pair.two.sent) > 2 * len(pair.one.sent)
    assert good_records(pair.one) >= 10
    assert good_records(pair.two) >= 10
    slow = Pair(SourceOptions(minpoll=2, maxpoll=6), other=SourceOptions(minpoll=2, maxpoll=2))
    slow.one.association.poll.poll = 6
    slow.run(300.0)
    assert len(slow.one.sent) > 40


def test_equal_peers_do_not_send_at_the_same_time() -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4), strata=(2, 2), later=15.0)
    pair.run(2000.0)
    ones, twos = pair.one.sent_at[-5:], pair.two.sent_at[-5:]
    distance = min(abs(a - b) for a in ones for b in twos)
    assert distance > 3.0


def test_replayed_packets_of_a_peer_are_not_measured() -> None:
    pair = Pair(SourceOptions(minpoll=4, maxpoll=4), keyed=True)
    pair.run(300.0)
    captured = list(pair.two.sent)
    counts = replace(pair.one.association.report().counts)
    for data in captured:
        pair.one.receive(data)
    assert pair.one.association.report().counts.good == counts.good
    pair.run(600.0)
    assert pair.one.association.report().counts.good >= counts.good + 10


def test_basic_packets_tell_when_they_really_leave() -> None:
    """Between reading the clock and the wire lies our own code; what the kernel saw of it is added."""
    talk = Talk(SourceOptions(minpoll=4, maxpoll=4), symmetric=True)
    talk.tx_source = StampSource.DAEMON
    for late_ns in (90_000, 5_000_000, 100_000, 110_000, 100_000):
        request = talk.request()
        stamp = Stamp(talk.ns + late_ns, 0.0, StampSource.KERNEL)
        talk.carry_out(talk.association.on_tx_stamp(request, stamp, talk.now))
    told_ns = ntp64_to_ns(header_of(talk.request()).transmit_ts, talk.around.era_start_s)
    assert told_ns - talk.ns == pytest.approx(100_000, abs=2)


def test_burst_and_presend_are_for_clients() -> None:
    talk = Talk(SourceOptions(iburst=True, presend=4), symmetric=True)
    assert not talk.association.burst.bursting
    assert talk.association.start_burst(talk.now, 1, 4) == []
    talk.request()
    assert talk.timers[Timer.TRANSMIT] - talk.t >= 1.0


def test_server_packets_are_not_from_a_peer() -> None:
    talk = Talk(symmetric=True)
    request = header_of(talk.request())
    talk.receive(replace(request, mode=Mode.SERVER, origin_ts=request.transmit_ts).pack())
    assert talk.records == []
    assert talk.t < S
