"""Hostile datagrams on both ends of the command protocol.

Daemon: whatever comes, there is at most one answer, it is no longer than the request, and nothing is changed by who may
not change it. Command line: whatever a daemon answers is printed or refused, in every format; nothing raises, and no
control character reaches the terminal.
"""

import json
import random
from typing import Any

import pytest

from ntpd_fast.cli.ntpc.connection import Answer, Endpoint
from ntpd_fast.cli.ntpc.options import Options
from ntpd_fast.config.model import OPENCOMMANDS_DEFAULT, OpenCommand
from ntpd_fast.monitor.backend import Backends
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import COMMANDS, REPLIES, Access, Number
from ntpd_fast.monitor.codec.layout import Message
from ntpd_fast.monitor.codec.packet import decode_reply, decode_reply_header
from ntpd_fast.monitor.dispatch import Dispatcher, Peer
from ntpd_fast.monitor.permissions import open_commands
from ntpd_fast.monitor.sockets import Origin
from tests.cmdmon_vectors import runs, synthetic
from tests.unit.cli.ntpc.scripted import Run
from tests.unit.monitor.fakes import CountingPart, FakeCommandAccess, full_backends

SEED = 20261121
ROUNDS = 40_000
REQUESTS = sorted({bytes.fromhex(e["request_hex"]) for run in runs() + synthetic() for e in run["exchanges"]})
PEERS = [
    Peer(Origin.UNIX),
    Peer(Origin.UNIX_REPORTS),
    Peer(Origin.UDP, Address.parse("127.0.0.1")),
    Peer(Origin.UDP, Address.parse("::1")),
    Peer(Origin.UDP, Address.parse("192.0.2.1")),
]


def mutate(wire: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut off, or added; or any command number."""
    data = bytearray(wire)
    for _ in range(rng.randrange(6)):
        if data:
            data[rng.randrange(min(len(data), 80))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.4 and len(data) >= 6:
        data[4:6] = rng.choice((*range(80), 0x4E01)).to_bytes(2, "big")
    if rng.random() < 0.3:
        del data[rng.randrange(len(data) + 1) :]
    if rng.random() < 0.3:
        data += rng.randbytes(rng.randrange(900))
    return bytes(data)


def test_mutated_requests_get_at_most_an_answer_of_their_length_and_change_only_what_they_may():
    rng = random.Random(SEED)
    part = CountingPart()
    fields: dict[str, Any] = dict.fromkeys(Backends.__dataclass_fields__, part)
    backends = Backends(**{**fields, "command_access": FakeCommandAccess()})
    dispatchers = [Dispatcher(backends, open_commands(opened)) for opened in (OPENCOMMANDS_DEFAULT, set(OpenCommand))]
    answered = 0
    for _ in range(ROUNDS):
        wire = mutate(rng.choice(REQUESTS), rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(900))
        peer = rng.choice(PEERS)
        part.changes.clear()
        reply = rng.choice(dispatchers).handle(wire, peer, 0)
        if reply is not None:
            answered += 1
            assert 28 <= len(reply) <= len(wire)
            assert reply[16:20] == wire[8:12]
        if peer.origin is not Origin.UNIX:
            assert not part.changes, (peer, wire.hex())
        if peer.address is not None and str(peer.address) == "192.0.2.1":
            assert reply is None
    assert answered > ROUNDS / 4


def test_every_number_over_the_network_with_every_length():
    for number in (*range(90), 255, 256, *range(0x4E00, 0x4E04), 65535):
        part = CountingPart()
        dispatcher = Dispatcher(full_backends(part), open_commands(set(OpenCommand)))
        for length in (*range(0, 560, 7), 860, 861):
            wire = (b"\6\1\0\0" + number.to_bytes(2, "big")).ljust(length, b"\0")[:length]
            reply = dispatcher.handle(wire, PEERS[2], 0)
            if reply is not None and reply[8:10] == b"\0\0":
                assert COMMANDS[Number(number)].access is not Access.MODIFY
        assert not part.changes


class HostileConnection:
    """Answers every request with the reply it expects, filled with anything."""

    endpoint = Endpoint("/hostile")
    failures: tuple[()] = ()

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.retries = 0
        self.timeout_ms = 0

    def exchange(self, number: Number, _: Message) -> Answer | None:
        rng = self._rng
        if rng.random() < 0.02:
            return None
        reply = rng.choice(COMMANDS[number].replies) if rng.random() < 0.97 else rng.choice(list(REPLIES.values()))
        payload = self._anything(reply.length - 28)
        if reply.number == 2:
            payload = rng.randrange(5).to_bytes(4, "big")
        if reply.number == 21:
            payload = payload[:4] + b"\xff\xff\xff\xff" + payload[8:]  # the last page
        status = 0 if rng.random() < 0.97 else rng.randrange(30)
        header = bytes((6, 2, 0, 0)) + number.to_bytes(2, "big") + reply.number.to_bytes(2, "big")
        wire = header + status.to_bytes(2, "big") + bytes(18) + payload
        return Answer(decode_reply_header(wire), decode_reply(wire))

    def _anything(self, size: int) -> bytes:
        """Runs of extremes and of noise: times, counts and floats at their ends."""
        data = bytearray()
        while len(data) < size:
            extremes = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0")
            data += self._rng.choice((*extremes, self._rng.randbytes(4)))
        return bytes(data[:size])


REPORTS = [
    "tracking", "sources -a -v", "sourcestats -a", "selectdata -a", "authdata -a", "ntpdata", "ntpdata 127.0.0.1",
    "activity", "serverstats", "clients", "clients --top 5 --by rate --prefix 0/0", "smoothing", "rtcdata",
    "manual list", "sourcename 127.0.0.1", "waitsync 1", "settime 12:00", "accheck 127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("form", ["text", "csv", "json"])
@pytest.mark.parametrize("report", REPORTS)
def test_whatever_a_daemon_answers_is_printed_or_refused(report, form):
    rng = random.Random(f"{SEED} {report} {form}")
    for _ in range(60):
        options = Options(numeric=True, source_names=rng.random() < 0.3, csv=form == "csv", json=form == "json")
        run = Run(HostileConnection(rng), options, extended=True)
        succeeded = run.session.run_line(report)
        assert isinstance(succeeded, bool)
        assert all(character.isprintable() or character == "\n" for character in run.stdout), run.stdout
        if form == "json":
            for line in run.stdout.splitlines():
                json.loads(line)
