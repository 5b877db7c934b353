"""The association as a client: better timestamps, interleaved mode, and whatever else may arrive."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.actions import (
    Timer,
)
from ntpd_fast.client.logs import format_tests
from ntpd_fast.client.packet import (
    KOD_RATE,
)
from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.config.model import SourceOptions
from tests.unit.client.talk import (
    ALL_PASSED,
    BASE,
    Around,
    S,
    Server,
    Talk,
    header_of,
)


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
