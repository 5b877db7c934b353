"""Hostile answers to a client and hostile packets from a peer: real ones with a few bits changed, cut off, or longer.

Whatever comes: nothing raises; a change of an authenticated packet is noticed; the association goes on asking at an
interval inside its limits; statistics stay finite; and the next honest answer is still taken.
"""

from __future__ import annotations

import math
import random

import pytest

from ntpd_fast.client.actions import Timer
from ntpd_fast.client.auth import SymmetricAuthenticator
from ntpd_fast.client.packet import MonoRoot, pack_mono_root
from ntpd_fast.client.response import PassedTests
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.served import Served
from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from ntpd_fast.config.model import ExtField, SourceOptions
from tests.unit.client.talk import BASE, Around, S, Server, Talk

SEED = 20261121
ROUNDS = 4_000
KEY = SymmetricKey(7, KeyType.SHA1, b"a secret of the two of us")
AUTH = SymmetricAuthenticator({7: KEY}, 7)


def mutate(wire: bytes, rng: random.Random) -> bytes:
    """A few bits flipped or bytes set to telling values, cut off, or added to."""
    data = bytearray(wire)
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(data))
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1 << rng.randrange(8)))
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) & ~3 :]
    if rng.random() < 0.2:
        data += rng.randbytes(4 * rng.randrange(40))
    return bytes(data)


def check(talk: Talk) -> None:
    """What holds after any packet."""
    poll = talk.association.poll
    assert poll.minpoll <= poll.poll <= poll.maxpoll
    assert talk.timers[Timer.TRANSMIT] <= talk.t + 6.0 * 2.0**poll.maxpoll
    stats = talk.source.stats
    if stats.n_samples:
        tracking = stats.tracking_data()
        assert math.isfinite(tracking.offset_s)
        assert math.isfinite(tracking.frequency)
        data = stats.selection_data(talk.ns, 1.0)
        assert data.offset_lo_s <= data.offset_hi_s


@pytest.mark.parametrize("xleave", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_mutated_answers(keyed: bool, xleave: bool) -> None:
    rng = random.Random(f"{SEED}/{keyed}/{xleave}")
    options = SourceOptions(
        minpoll=4, maxpoll=6, xleave=xleave, filter_length=2, extfields=frozenset({ExtField.EXP_MONO_ROOT})
    )
    talk = Talk(options, auth=AUTH if keyed else None)
    server = Server(xleave=xleave, extra=lambda rx: pack_mono_root(MonoRoot(1e-3, 1e-3, rx, 1)))
    for round_ in range(ROUNDS):
        honest = server.response(talk, talk.request())
        if keyed:
            sealed = AUTH.seal(honest)
            assert sealed is not None
            honest = sealed
        hostile = mutate(honest, rng)
        good = talk.association.report().counts.good
        talk.receive(hostile)
        check(talk)
        if keyed and hostile != honest:
            assert talk.association.report().counts.good == good
        if round_ % 50 == 0:
            talk.t = max(talk.t, (round_ + 1) * 100.0)
        talk.records.clear()
        talk.seen.clear()
        talk.sent.clear()
        talk.sent_at.clear()
    for _ in range(6):
        server.answer(talk, talk.request()) if not keyed else talk.receive(
            AUTH.seal(server.response(talk, talk.request())) or b""
        )
    assert PassedTests.SYNCED in talk.records[-1].tests


@pytest.mark.parametrize("xleave", [False, True])
def test_mutated_packets_of_a_peer(xleave: bool) -> None:
    rng = random.Random(f"{SEED}/peer/{xleave}")
    options = SourceOptions(minpoll=4, maxpoll=6, xleave=xleave)
    own = Served(Leap.NORMAL, 2, 0x0A000001, BASE, 1e-3, 1e-3)
    ours = Talk(options, auth=AUTH, symmetric=True)
    theirs = Talk(options, auth=AUTH, symmetric=True, t=3.0, around=Around(random=random.Random(2), own=own))
    for _ in range(ROUNDS // 4):
        theirs.t = max(theirs.t, ours.t)
        ours_sent = ours.request()
        theirs.t = ours.t + 1e-3
        theirs.receive(ours_sent)
        honest = theirs.request()
        ours.t = theirs.t + 1e-3
        hostile = mutate(honest, rng)
        good = ours.association.report().counts.good
        ours.receive(hostile)
        check(ours)
        if hostile != honest:
            assert ours.association.report().counts.good == good
        ours.receive(honest)
        check(ours)
    assert ours.association.report().counts.good > ROUNDS // 10
    assert abs(ours.source.stats.offset_s) < 1e-3
    assert ours.ns > BASE + S
