"""The order of checks, permissions and replies, against recordings of chronyd and against hostile input."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast.config.model import OPENCOMMANDS_DEFAULT, OpenCommand
from ntpd_fast.monitor.backend import Backends, CommandFailed
from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import COMMANDS, Access, Number, Status
from ntpd_fast.monitor.dispatch import Dispatcher, Outcome, Peer
from ntpd_fast.monitor.handlers.table import ROWS
from ntpd_fast.monitor.permissions import open_commands
from ntpd_fast.monitor.sockets import Origin
from tests.cmdmon_vectors import runs
from tests.unit.monitor.fakes import (
    CountingPart,
    FakeCommandAccess,
    FakeCommandLog,
    ScriptedPart,
    full_backends,
)

UNIX = Peer(Origin.UNIX)
GROUP = Peer(Origin.UNIX_REPORTS)
LOOPBACK = Peer(Origin.UDP, Address.parse("127.0.0.1"))
NEIGHBOUR = Peer(Origin.UDP, Address.parse("127.0.0.2"))
NOW_NS = 1_795_288_875 * 10**9
DEFAULT_OPEN = open_commands(OPENCOMMANDS_DEFAULT)

# Recordings where we differ from that version of chronyd on purpose: one server for every client version.
DIFFERENT = {
    "v191": "4.3's serverstats against 4.8: answered with the reply 4.3 reads",
    "v192": "4.3's ntpdata against 4.8: likewise",
    "v193": "4.3's local against 4.8: accepted",
    "v194": "4.8's serverstats against 4.3: answered with the reply 4.8 reads",
    "v195": "4.8's ntpdata against 4.3: likewise",
    "v196": "4.8's local against 4.3: accepted",
    "v197": "4.8's selectopts against 4.3: accepted",
    "v216": "NULL was open to everybody up to 4.6",
    "v217": "LOGON likewise",
    "v219": "command 72 is known here, so it is unauthorised instead of unknown",
    "v248": "LOCAL2 is known here, so it is unauthorised instead of unknown",
}  # fmt: skip


def dispatcher(backends: Backends, opened: frozenset[Number] = DEFAULT_OPEN) -> Dispatcher:
    return Dispatcher(backends, opened)


def request(number: Number, payload: tuple[Any, ...] | None = None, sequence: int = 1) -> bytes:
    command = COMMANDS[number]
    return pk.encode_request(command, blank(number) if payload is None else payload, sequence)


def blank(number: Number) -> tuple[Any, ...]:
    return pk.decode_request(COMMANDS[number], bytes(COMMANDS[number].length))


def status(reply: bytes | None) -> int | None:
    return None if reply is None else pk.decode_reply_header(reply).status


# Statuses our own code must come to by itself: the scripted back end never raises these.
OWN_STATUSES = {
    Status.UNAUTHORISED,
    Status.INVALID,
    Status.BAD_SUBNET,
    Status.ACCESS_ALLOWED,
    Status.ACCESS_DENIED,
    Status.INVALID_ADDRESS_FAMILY,
    Status.BAD_PACKET_VERSION,
    Status.BAD_PACKET_LENGTH,
    Status.INVALID_NAME,
}


@pytest.mark.parametrize("run", [r for r in runs() if r["id"] not in DIFFERENT], ids=lambda r: r["id"])
def test_recorded_requests_get_the_recorded_replies(run):
    """What chronyd answered goes in through the back end and must come out of the dispatcher byte for byte."""
    for exchange in run["exchanges"]:
        wire = bytes.fromhex(exchange["request_hex"])
        recorded = None if exchange["reply_hex"] is None else bytes.fromhex(exchange["reply_hex"])
        peer = LOOPBACK if run["transport"] == "udp" else UNIX
        part = ScriptedPart(recorded, never=OWN_STATUSES)
        reply = dispatcher(full_backends(part)).handle(wire, peer, NOW_NS)
        if recorded is None:
            assert reply is None
            continue
        assert reply is not None
        assert len(reply) <= len(wire)
        payload = pk.decode_reply(recorded)
        if isinstance(payload, rep.ClientAccesses | rep.ManualList | rep.ServerStats3 | rep.NtpData1):
            assert pk.decode_reply(reply) == payload  # unused slots and reserved bytes of old versions
            assert len(reply) == len(recorded)
        else:
            assert reply == recorded


@pytest.mark.parametrize("run", [r for r in runs() if r["id"] in DIFFERENT], ids=lambda r: r["id"])
def test_where_versions_of_chronyd_differ_every_client_is_served(run):
    expected = {"v216": Status.INVALID, "v217": Status.INVALID, "v219": Status.UNAUTHORISED,
                "v248": Status.UNAUTHORISED}  # fmt: skip
    wire = bytes.fromhex(run["exchanges"][0]["request_hex"])
    peer = LOOPBACK if run["transport"] == "udp" else UNIX
    part = ScriptedPart(None, never=set())
    reply = dispatcher(full_backends(part)).handle(wire, peer, NOW_NS)
    assert status(reply) == expected.get(run["id"], Status.SUCCESS)


def test_there_is_a_handler_for_every_command_and_no_other():
    assert set(ROWS) == set(COMMANDS)


@pytest.mark.parametrize("length", [0, 1, 19, 20, 27, 861, 2000])
def test_lengths_no_request_can_have_are_dropped(length):
    server = dispatcher(full_backends(CountingPart()))
    wire = request(Number.TRACKING).ljust(length, b"\0")[:length]
    assert server.handle(wire, UNIX, NOW_NS) is None
    assert server.outcomes == {Outcome.DROPPED_LENGTH: 1}


def test_only_exact_loopback_has_access_without_a_rule():
    for text, answered in [("127.0.0.1", True), ("::1", True), ("127.0.0.2", False), ("192.0.2.1", False)]:
        server = dispatcher(full_backends_with(command_access=FakeCommandAccess()))
        peer = Peer(Origin.UDP, Address.parse(text))
        assert (server.handle(request(Number.TRACKING), peer, NOW_NS) is not None) == answered
    assert server.outcomes == {Outcome.DROPPED_ACCESS: 1}


def full_backends_with(**parts: Any) -> Backends:
    fields = dict.fromkeys(Backends.__dataclass_fields__, CountingPart())
    return Backends(**{**fields, **parts})


def test_access_is_checked_before_anything_is_counted():
    log = FakeCommandLog()
    server = dispatcher(full_backends_with(command_access=FakeCommandAccess(), command_log=log))
    server.handle(request(Number.TRACKING), NEIGHBOUR, NOW_NS)
    server.handle(b"short", UNIX, NOW_NS)
    server.handle(b"\6\2" + bytes(100), UNIX, NOW_NS)
    assert log.seen == []


def test_what_has_the_form_of_a_request_is_counted_whatever_becomes_of_it():
    log = FakeCommandLog()
    server = dispatcher(full_backends_with(command_log=log))
    for wire in (request(Number.TRACKING), b"\4\1" + bytes(100), b"\6\1\0\0\0\x63" + bytes(100)):
        server.handle(wire, LOOPBACK, NOW_NS)
    assert log.seen == [(LOOPBACK.address, True, NOW_NS)] * 3


def test_the_rate_limit_drops_remote_hosts_and_spares_loopback_and_unix():
    log = FakeCommandLog(admit=False)
    access = FakeCommandAccess({"127.0.0.2"})
    server = dispatcher(full_backends_with(command_log=log, command_access=access))
    for peer, answered in [(NEIGHBOUR, False), (LOOPBACK, True), (UNIX, True)]:
        assert (server.handle(request(Number.TRACKING), peer, NOW_NS) is not None) == answered
    assert server.outcomes[Outcome.DROPPED_RATE] == 1


@pytest.mark.parametrize(("version", "expected"), [(4, None), (0, None), (5, 18), (6, 0), (7, 18), (255, 18)])
def test_other_versions_are_told_unless_too_old(version, expected):
    wire = bytes([version]) + request(Number.TRACKING)[1:]
    assert status(dispatcher(full_backends(CountingPart())).handle(wire, UNIX, NOW_NS)) == expected


@pytest.mark.parametrize("number", [*sorted(set(range(80)) - set(COMMANDS)), 255, 65535])
@pytest.mark.parametrize("peer", [UNIX, GROUP, LOOPBACK], ids=lambda p: p.origin.name)
def test_unknown_and_obsolete_commands_are_invalid_for_everybody(number, peer):
    wire = b"\6\1\0\0" + number.to_bytes(2, "big") + bytes(520)
    assert status(dispatcher(full_backends(CountingPart())).handle(wire, peer, NOW_NS)) == Status.INVALID


@pytest.mark.parametrize("number", list(COMMANDS), ids=lambda n: n.name)
def test_one_byte_less_than_the_command_needs_is_a_length_mismatch(number):
    server = dispatcher(full_backends(CountingPart()))
    shortest = COMMANDS[number].length_min
    wire = request(number)[: shortest - 1]
    expected = None if shortest == 28 else Status.BAD_PACKET_LENGTH
    assert status(server.handle(wire, LOOPBACK, NOW_NS)) == expected


@pytest.mark.parametrize("number", list(COMMANDS), ids=lambda n: n.name)
def test_over_udp_only_monitoring_succeeds_and_changes_nothing(number):
    for opened in (DEFAULT_OPEN, open_commands(set(OpenCommand)), frozenset[Number]()):
        part = CountingPart()
        reply = dispatcher(full_backends(part), opened).handle(request(number), LOOPBACK, NOW_NS)
        if number in opened:
            assert status(reply) == Status.SUCCESS
            assert COMMANDS[number].access is not Access.MODIFY
        else:
            assert status(reply) == Status.UNAUTHORISED
        assert not part.changes


def test_what_was_carried_out_is_told_with_its_payload_and_can_be_repeated():
    part = CountingPart()
    one = dispatcher(full_backends_with(access=part))
    told: list[tuple[Number, bytes]] = []
    one.done = lambda number, payload: told.append((number, payload))
    subnet = req.AccessSubnet(Address.parse("192.0.2.0"), 24)
    assert status(one.handle(request(Number.ALLOW, subnet), UNIX, NOW_NS)) == Status.SUCCESS
    # not what was refused, by its form, its origin or the part it was for
    one.handle(request(Number.ALLOW, subnet), NEIGHBOUR, NOW_NS)
    one.handle(request(Number.ALLOW, subnet)[:-1], UNIX, NOW_NS)
    one.handle(request(Number.DENY, req.AccessSubnet(Address.parse("192.0.2.0"), 99)), UNIX, NOW_NS)
    [(number, payload)] = told
    assert number is Number.ALLOW
    assert pk.decode_request(COMMANDS[number], bytes(20) + payload) == subnet
    counted = one.outcomes.copy()
    assert one.repeat(number, payload)
    assert not one.repeat(Number.DENY, payload[:-4] + b"\0\0\0\x63")
    assert len(told) == 1
    assert part.changes == {"set_rule": 2}
    assert one.outcomes == counted
    assert not dispatcher(full_backends_with(access=None)).repeat(number, payload)


def test_a_command_there_is_no_memory_for_fails_and_is_logged(caplog):
    class Short(CountingPart):
        def tracking(self):
            raise MemoryError

    server = dispatcher(full_backends(Short()))
    assert status(server.handle(request(Number.TRACKING), UNIX, NOW_NS)) == Status.FAILED
    assert caplog.messages == ["Not enough memory for the command TRACKING"]
    assert server.outcomes == {Outcome.REFUSED: 1}


@pytest.mark.parametrize("number", list(COMMANDS), ids=lambda n: n.name)
def test_the_monitoring_group_gets_every_report_and_changes_nothing(number):
    part = CountingPart()
    reply = dispatcher(full_backends(part), frozenset()).handle(request(number), GROUP, NOW_NS)
    if COMMANDS[number].access is Access.MODIFY:
        assert status(reply) == Status.UNAUTHORISED
    else:
        assert status(reply) in (Status.SUCCESS, Status.ACCESS_ALLOWED, Status.ACCESS_DENIED)
    assert not part.changes


def test_the_default_of_opencommands_is_what_chrony_opens():
    assert {number for number, command in COMMANDS.items() if command.access is Access.READ} == DEFAULT_OPEN


def test_resetting_the_client_list_is_a_change_and_not_a_report():
    reset = request(Number.CLIENT_ACCESSES_BY_INDEX3, req.ClientAccesses(0, 8, 0, 1))
    for peer, expected in [(UNIX, Status.SUCCESS), (GROUP, Status.UNAUTHORISED), (LOOPBACK, Status.UNAUTHORISED)]:
        part = CountingPart()
        server = dispatcher(full_backends(part), open_commands(set(OpenCommand)))
        assert status(server.handle(reset, peer, NOW_NS)) == expected
        assert part.changes == Counter({"client_accesses": 1} if peer is UNIX else {})


@pytest.mark.parametrize("number", list(COMMANDS), ids=lambda n: n.name)
def test_a_daemon_without_optional_parts_answers_everything(number):
    needed = {"tracking", "statistics", "command_log", "command_access"}
    part = CountingPart()
    bare = Backends(**dict.fromkeys(needed, part))
    reply = dispatcher(bare).handle(request(number), UNIX, NOW_NS)
    expected = {
        Number.SOURCE_DATA: Status.NO_SUCH_SOURCE,
        Number.SMOOTHING: Status.NOT_ENABLED,
        Number.SMOOTHTIME: Status.NOT_ENABLED,
        Number.SETTIME: Status.NOT_ENABLED,
        Number.RTCREPORT: Status.NO_RTC,
        Number.WRITERTC: Status.NO_RTC,
        Number.CLIENT_ACCESSES_BY_INDEX3: Status.INACTIVE,
        Number.MANUAL_DELETE: Status.BAD_SAMPLE,
        Number.N_SOURCES: Status.SUCCESS,
        Number.ACTIVITY: Status.SUCCESS,
        Number.TRACKING: Status.SUCCESS,
        Number.ACCHECK: Status.ACCESS_DENIED,
        Number.ONLINE: Status.NO_SUCH_SOURCE,
        Number.FAULTS: Status.INVALID,
    }
    if number in expected:
        assert status(reply) == expected[number]
    assert reply is not None


@pytest.mark.parametrize(("length", "reply_type"), [(71, 1), (72, 24), (195, 24), (196, 25), (860, 25)])
def test_server_statistics_fit_the_request(length, reply_type):
    wire = request(Number.SERVER_STATS).ljust(length, b"\0")[:length]
    reply = dispatcher(full_backends(CountingPart())).handle(wire, UNIX, NOW_NS)
    assert reply is not None
    assert pk.decode_reply_header(reply).reply == reply_type
    payload = pk.decode_reply(reply)
    if isinstance(payload, rep.ServerStats3):
        assert payload[:3] == (2**32 - 1, 0, 0)  # 64-bit counters modulo 2^32
    if isinstance(payload, rep.ServerStats):
        assert payload[:3] == (2**64 - 1, 2**40, 0)


@pytest.mark.parametrize(("length", "reply_type"), [(151, 1), (152, 16), (171, 16), (172, 26)])
def test_ntpdata_fits_the_request(length, reply_type):
    wire = request(Number.NTP_DATA)[:length]
    reply = dispatcher(full_backends(CountingPart())).handle(wire, UNIX, NOW_NS)
    assert reply is not None
    assert pk.decode_reply_header(reply).reply == reply_type


def test_a_client_is_asked_for_at_most_the_slots_of_a_reply():
    part = CountingPart()
    wire = request(Number.CLIENT_ACCESSES_BY_INDEX3, req.ClientAccesses(0, 0xFFFFFFFF, 0, 0))
    reply = dispatcher(full_backends(part)).handle(wire, UNIX, NOW_NS)
    assert reply is not None
    payload = pk.decode_reply(reply)
    assert isinstance(payload, rep.ClientAccesses)
    assert len(payload.clients) == 8


def test_a_bug_in_a_report_is_not_hidden():
    class Broken(CountingPart):
        def tracking(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dispatcher(full_backends(Broken())).handle(request(Number.TRACKING), UNIX, NOW_NS)


packets = st.one_of(
    st.binary(max_size=900),
    st.builds(
        lambda head, number, rest: head + number.to_bytes(2, "big") + rest,
        st.sampled_from([b"\6\1\0\0", b"\5\1\0\0", b"\6\2\0\0", b"\7\1\0\0", b"\6\1\0\1"]),
        st.integers(0, 90),
        st.binary(min_size=14, max_size=890),
    ),
)
peers = st.sampled_from([UNIX, GROUP, LOOPBACK, NEIGHBOUR])


@settings(max_examples=1500, deadline=None)
@given(packets, peers, st.sampled_from([DEFAULT_OPEN, open_commands(set(OpenCommand))]))
def test_any_datagram_is_answered_no_longer_than_itself_and_changes_only_what_it_may(wire, peer, opened):
    part = CountingPart()
    backends = full_backends_with(
        **{name: part for name in Backends.__dataclass_fields__ if name != "command_access"},
        command_access=FakeCommandAccess(),
    )
    try:
        reply = dispatcher(backends, opened).handle(wire, peer, NOW_NS)
    except CommandFailed:
        raise AssertionError("a status escaped") from None
    if reply is not None:
        assert 28 <= len(reply) <= len(wire)
        assert reply[8:10] != b"\0\0" or wire[4:6] == reply[4:6]
        assert reply[16:20] == wire[8:12]
    if peer is NEIGHBOUR:
        assert reply is None
    if peer is not UNIX:
        assert not part.changes
