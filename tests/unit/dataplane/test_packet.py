"""The server's packet core against the recorded behaviour of the wire, and against garbage."""

import ipaddress
import json
import math
import mmap
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._aead import Aead
from ntpd_fast._auth import KeyTable, build_key_table
from ntpd_fast._clientlog import init_shard, shard_size
from ntpd_fast._nts import KeyRing
from ntpd_fast._packet import OUTCOMES, PacketServer, format_28, ntp64, parse, short_format
from ntpd_fast._tsmap import init_map, map_size
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.shared import ReferencePage, Shared, SharedPlan
from tests import nts_packets

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text())
T0 = 1_700_000_000 * 10**9
LOOPBACK = bytes([127, 0, 0, 1])
TABLES = {"access": 65536, "keys": 65536, "peers": 4096, "serving": 4096}


def make(page: ReferencePage | None = None, **options: Any) -> PacketServer:
    shared = Shared.create(SharedPlan(1, table_bytes=TABLES))
    shared.publish_reference(
        page
        or ReferencePage(
            local=True, local_activated=True, local_stratum=5, precision=-25, local_ref_time_ns=T0 - 3 * 10**9
        )
    )
    rules = AccessTable()
    rules.set(ipaddress.ip_network("127.0.0.0/8"), True)
    rules.set(ipaddress.ip_network("::1"), True)
    return PacketServer(shared.control, rules.compile(), **options)


def ask(server: PacketServer, request: bytes, *, rx_ns: int = T0, tx_ns: int = T0 + 1000, port: int = 4000) -> bytes:
    outcome, _, answer = server.answer(request, LOOPBACK, port, rx_ns, tx_ns)
    assert answer is not None, outcome
    return answer


FIELDS = (
    "first",
    "stratum",
    "poll",
    "precision",
    "root_delay",
    "root_dispersion",
    "refid",
    "reference",
    "origin",
    "receive",
    "transmit",
)


def fields(packet: bytes) -> dict[str, int]:
    return dict(zip(FIELDS, struct.unpack("!BBbbIIIQQQQ", packet[:48]), strict=True))


CLIENT = bytes.fromhex(VECTORS["packets_fixed"]["client_v4_minimal"])


@pytest.mark.parametrize("vector", VECTORS["timestamps"]["vectors"])
def test_timestamps(vector: dict[str, Any]) -> None:
    assert f"{ntp64(vector['unix_sec'] * 10**9 + vector['unix_nsec']):016x}" == vector["ntp64"]


@pytest.mark.parametrize("vector", VECTORS["short_formats"])
def test_short_formats(vector: dict[str, Any]) -> None:
    assert f"{short_format(vector['value']):08x}" == vector["ntp32_16_16"]
    assert f"{format_28(vector['value']):08x}" == vector["f4_28"]


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e300])
def test_durations_that_do_not_fit_saturate(value: float) -> None:
    assert short_format(value) == 0xFFFFFFFF
    assert format_28(value) == 0xFFFFFFFF


def test_the_fields_of_a_basic_answer() -> None:
    answer = fields(ask(make(), CLIENT))
    assert answer["first"] == 4 << 3 | 4
    assert (answer["stratum"], answer["poll"], answer["precision"], answer["refid"]) == (5, 6, -25, 0x7F7F0101)
    assert answer["origin"] == 0x0123456789ABCDEF
    assert answer["reference"] == ntp64(T0 - 3 * 10**9)
    assert (answer["root_delay"], answer["root_dispersion"]) == (0, 0)


def test_stamps_are_fuzzed_below_the_precision_only_and_keep_their_low_bits() -> None:
    server = make()
    seen = set()
    for _ in range(300):
        answer = fields(ask(server, CLIENT))
        assert abs(answer["receive"] - ntp64(T0)) < 1 << 7
        assert abs(answer["transmit"] - ntp64(T0 + 1000)) < 1 << 7
        assert answer["receive"] & 1 == 1
        assert answer["transmit"] & 1 == 0
        seen.add(answer["receive"])
    assert len(seen) > 32


def test_consecutive_answers_never_share_a_stamp() -> None:
    server = make(ReferencePage(local=True, local_activated=True, precision=-32))
    previous = (0, 0)
    for _ in range(100):
        answer = fields(ask(server, CLIENT))
        assert answer["receive"] != previous[0]
        assert answer["transmit"] != previous[1]
        previous = answer["receive"], answer["transmit"]


def test_a_request_that_carries_our_stamp_does_not_get_it_back() -> None:
    server = make(ReferencePage(local=True, local_activated=True, precision=-32))
    for stamp in (ntp64(T0) | 1, ntp64(T0 + 1000) & ~1):
        answer = fields(ask(server, CLIENT[:40] + struct.pack("!Q", stamp)))
        assert answer["origin"] == stamp
        assert stamp not in (answer["receive"], answer["transmit"])


@pytest.mark.parametrize("poll", range(-128, 128, 17))
def test_poll_is_the_larger_of_request_and_limit(poll: int) -> None:
    request = CLIENT[:2] + struct.pack("b", poll) + CLIENT[3:]
    assert fields(ask(make(), request))["poll"] == max(poll, -19)
    assert fields(ask(make(min_poll=3), request))["poll"] == max(poll, 3)


def test_unsynchronised_answers_say_so() -> None:
    answer = fields(ask(make(ReferencePage(precision=-20)), CLIENT))
    assert answer["first"] >> 6 == 3
    assert (answer["stratum"], answer["refid"], answer["reference"]) == (0, 0, 0)
    assert (answer["root_delay"], answer["root_dispersion"]) == (1 << 16, 1 << 16)


SYNCED = ReferencePage(
    synchronised=True,
    leap=1,
    stratum=3,
    refid=0xC0000201,
    ref_time_ns=T0 - 100 * 10**9,
    root_delay_s=0.01,
    root_dispersion_s=0.001,
    dispersion_rate=2e-6,
    precision=-25,
    local_stratum=8,
)


def replaced(**changes: Any) -> ReferencePage:
    from dataclasses import replace

    return replace(SYNCED, **changes)


def test_root_dispersion_grows_with_the_age_of_the_reference() -> None:
    server = make(SYNCED)
    for age_s in (0, 1, 1000, 100000):
        answer = fields(ask(server, CLIENT, rx_ns=T0 - 100 * 10**9 + age_s * 10**9))
        expected = 0.001 + age_s * 2e-6
        assert answer["root_dispersion"] == pytest.approx(expected * 65536, abs=1.01)
        assert (answer["first"] >> 6, answer["stratum"], answer["refid"]) == (1, 3, 0xC0000201)
        assert answer["root_delay"] == math.ceil(0.01 * 65536)


def is_local(page: ReferencePage, rx_ns: int = T0) -> bool:
    answer = fields(ask(make(page), CLIENT, rx_ns=rx_ns))
    return answer["refid"] == 0x7F7F0101


def test_local_mode_waits_for_its_conditions() -> None:
    local = {"local": True, "local_activated": True}
    assert not is_local(replaced(**local))
    assert is_local(replaced(**local, root_delay_s=2.1))  # distance above 1 s
    assert not is_local(replaced(local=True, root_delay_s=2.1))  # not activated
    assert not is_local(replaced(**local, root_delay_s=2.1, local_distance_s=5.0))
    assert not is_local(replaced(**local, root_delay_s=2.1, local_wait_sync_s=101.0))
    assert is_local(replaced(**local, root_delay_s=2.1, local_wait_sync_s=99.0))
    unsynced = {**local, "synchronised": False, "unsync_since_ns": T0 - 50 * 10**9}
    assert is_local(replaced(**unsynced))
    assert not is_local(replaced(**unsynced, local_wait_unsync_s=51.0))
    assert is_local(replaced(**unsynced, local_wait_unsync_s=49.0))


def test_a_leap_second_in_progress_is_unsynchronised() -> None:
    assert fields(ask(make(replaced(leap_lock=True)), CLIENT))["first"] >> 6 == 3


def test_nobody_is_answered_during_a_clock_step() -> None:
    outcome, _, answer = make(replaced(stepping=True)).answer(CLIENT, LOOPBACK, 4000, T0, T0)
    assert (outcome, answer) == ("drop_stepping", None)


def test_smoothing_moves_all_stamps_of_clients_and_none_of_peers() -> None:
    page = replaced(smoothing=True, smooth_origin_ns=T0, smooth_offset_s=0.25)
    answer = fields(ask(make(page), CLIENT))
    shift = 1 << 30
    assert abs(answer["receive"] - ntp64(T0) - shift) < 1 << 8
    assert abs(answer["transmit"] - ntp64(T0 + 1000) - shift) < 1 << 8
    assert answer["refid"] == 0x7F7F01FF
    peer = fields(ask(make(page), bytes([4 << 3 | 1]) + CLIENT[1:]))
    assert abs(peer["receive"] - ntp64(T0)) < 1 << 8
    assert peer["refid"] == 0xC0000201


def test_the_mono_root_field_is_answered_with_fine_values() -> None:
    request = CLIENT + struct.pack("!HHI", 0xF323, 28, 0xF5BEDD9A) + bytes(20)
    page = replaced(mono_offset_s=0.5, mono_epoch=0xABCD1234)
    answer = ask(make(page), request)
    assert len(answer) == 76
    kind, size, magic, delay, dispersion, mono, epoch = struct.unpack("!HHIIIQI", answer[48:])
    assert (kind, size, magic, epoch) == (0xF323, 28, 0xF5BEDD9A, 0xABCD1234)
    assert delay == math.ceil(0.01 * 2**28)
    assert dispersion == pytest.approx((0.001 + 100 * 2e-6) * 2**28, abs=1.5)
    assert mono == ntp64(T0 + 500_000_000)
    smoothed = ask(make(replaced(smoothing=True)), request)
    assert smoothed[64:72] == bytes(8)


def test_the_network_correction_field_is_answered_only_with_ptp() -> None:
    request = CLIENT + struct.pack("!HH", 0x010A, 28) + bytes(24)
    server = make()
    assert len(ask(server, request)) == 48
    server.set_net_correction(True)
    assert ask(server, request)[48:] == struct.pack("!HH", 0x010A, 28) + bytes(24)


def test_access_decides_before_anything_is_counted() -> None:
    outcome, flags, answer = make().answer(CLIENT, bytes([192, 0, 2, 1]), 4000, T0, T0)
    assert (outcome, flags, answer) == ("drop_access", 0, None)
    assert make().answer(CLIENT, bytes(15) + b"\1", 4000, T0, T0)[2] is not None
    assert make().answer(CLIENT, bytes(15) + b"\2", 4000, T0, T0)[0] == "drop_access"


def test_without_random_bytes_nothing_is_sent() -> None:
    server = make()
    server.seed(bytes(3))
    assert server.answer(CLIENT, LOOPBACK, 4000, T0, T0, False)[0] == "drop_entropy"


def test_times_of_any_era_are_served() -> None:
    for year_s in (-3_000_000_000, -1, 2_085_978_496, 2_085_978_497, 9_000_000_000):
        rx_ns = year_s * 10**9
        page = ReferencePage(local=True, local_activated=True, precision=-25)
        answer = fields(ask(make(page), CLIENT, rx_ns=rx_ns, tx_ns=rx_ns))
        assert abs(answer["receive"] - ntp64(rx_ns)) < 1 << 8


def garbage(rng: random.Random, seeds: list[bytes]) -> bytes:
    choice = rng.random()
    if choice < 0.25:
        return rng.randbytes(rng.randrange(0, 1300))
    packet = bytearray(rng.choice(seeds))
    if choice < 0.5:
        packet[0] = rng.randrange(256)
    for _ in range(rng.randrange(0, 6)):
        packet[rng.randrange(len(packet))] = rng.randrange(256)
    if choice > 0.9:
        packet += rng.randbytes(4 * rng.randrange(0, 30))
    if choice > 0.97:
        del packet[rng.randrange(len(packet)) :]
    return bytes(packet)


def test_a_million_bad_datagrams_get_at_most_one_answer_each_and_never_a_longer_one() -> None:
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    server = make()
    seeds = [bytes.fromhex(case["request"]) for case in VECTORS["server_matrix"]["cases"]]
    seeds = [packet for packet in seeds if packet]
    pool = [garbage(rng, seeds) for _ in range(50_000)]
    counts = dict.fromkeys(OUTCOMES, 0)
    for turn in range(20):
        for packet in pool:
            outcome, _, answer = server.answer(packet, LOOPBACK, 123 if turn & 1 else 40000, T0, T0)
            counts[outcome] += 1
            assert answer is None or len(answer) <= len(packet), (seed, packet.hex())
        rng.shuffle(pool)
    assert sum(counts.values()) == 1_000_000
    for outcome in ("answered", "drop_length", "drop_version", "drop_format", "drop_mode", "drop_auth"):
        assert counts[outcome] > 100, (seed, counts)


@given(st.binary(max_size=1400))
@settings(max_examples=500)
def test_the_parser_accepts_only_what_fits(data: bytes) -> None:
    outcome, (version, _, auth, _, _, fields_end, mac_length) = parse(data)
    assert outcome in ("answered", "drop_length", "drop_version", "drop_format")
    if outcome == "answered":
        assert 1 <= version <= 4
        assert len(data) % 4 == 0
        assert fields_end + mac_length == len(data)
        assert (mac_length > 0) == (auth in (1, 2, 3))


def test_two_servers_wired_to_each_other_fall_silent() -> None:
    one, two = make(), make()
    for case in VECTORS["server_matrix"]["cases"]:
        packet: bytes | None = bytes.fromhex(case["request"])
        hops = 0
        while packet is not None:
            server = two if hops % 2 else one
            packet = server.answer(packet, LOOPBACK, 123, T0, T0)[2]
            hops += 1
            assert hops < 3, case["name"]


@pytest.mark.parametrize("case", VECTORS["server_matrix"]["cases"], ids=lambda case: case["name"])
def test_recorded_outcomes(case: dict[str, Any]) -> None:
    request = bytes.fromhex(case["request"])
    _, _, answer = matrix_server().answer(request, LOOPBACK, case.get("source_port", 4000), T0, T0 + 1000)
    assert (answer is not None) == case["respond"]
    if answer is None:
        return
    got = fields(answer)
    assert len(answer) == case["resp_len"]
    assert (got["first"] >> 6, got["first"] >> 3 & 7, got["first"] & 7) == (
        case["resp_leap"],
        case["resp_version"],
        case["resp_mode"],
    )
    assert got["stratum"] == case["resp_stratum"]
    assert got["poll"] == case["resp_poll"]
    assert (answer[24:32] == request[40:48]) == case["origin_equals_request_tx"]
    recorded = bytes.fromhex(case["sample_response"])
    # determined bytes: all but precision (the machine's) and the three times, key material and nonces behind 48
    assert answer[:3] == recorded[:3]
    assert answer[4:16] == recorded[4:16]
    assert answer[24:32] == recorded[24:32]
    prefix = bytes.fromhex(case["resp_ext_prefix"])
    assert answer[48:52] == prefix[:4]
    if prefix[:2] == b"\0\0":
        assert KeyTable(key_table()).check(answer, 48) == int.from_bytes(prefix[:4], "big")


LOG_BLOCKS, PAIRS = 64, 1024


def logging_server(**options: Any) -> PacketServer:
    """With a client log and a timestamp map."""
    log, stamps = mmap.mmap(-1, shard_size(LOG_BLOCKS)), mmap.mmap(-1, map_size(PAIRS))
    init_shard(log, LOG_BLOCKS, bytes(range(20)))
    init_map(stamps, PAIRS, 7)
    return make(log=log, stamps=stamps, **options)


class InterleavedClient:
    """Follows the server's stamps as RFC 9769 has it; `kind` of an answer: B basic, I interleaved."""

    def __init__(self, server: PacketServer, address: bytes = LOOPBACK, first: int = 0x23) -> None:
        self.server, self.address, self.first = server, address, first
        self.now_ns = T0
        self.nonce = 1 << 40
        self.sent: dict[int, int] = {}

    def ask(
        self, origin: int, *, receive: int | None = None, transmit: int | None = None
    ) -> tuple[str, dict[str, int]]:
        self.now_ns += 10**9
        self.nonce += 256
        receive = self.nonce if receive is None else receive
        transmit = self.nonce + 1 if transmit is None else transmit
        request = bytes([self.first, 0, 6, 32]) + bytes(20) + struct.pack("!QQQ", origin, receive, transmit)
        sent_ns = self.now_ns + 20_000
        answer = self.server.answer(request, self.address, 4000, self.now_ns, sent_ns)[2]
        assert answer is not None
        got = fields(answer)
        if got["origin"] == transmit:
            kind = "B"
        else:
            assert got["origin"] == receive
            # the stamp is that of the answer that carried the quoted receive stamp
            assert abs(got["transmit"] - ntp64(self.sent[origin])) < 1 << 8
            kind = "I"
        self.sent[got["receive"]] = sent_ns
        return kind, got


@pytest.mark.parametrize("first", [0x23, 0x21])
def test_the_recorded_interleaved_sequence(first: int) -> None:
    client = InterleavedClient(logging_server(), first=first)
    kind, r1 = client.ask(0)
    assert kind == "B"
    kind, r2 = client.ask(r1["receive"])
    assert kind == "B"  # what was not saved cannot be sent
    kind, r3 = client.ask(r2["receive"])
    assert kind == "I"
    assert client.ask(r2["receive"])[0] == "B"  # used up
    kind, r4 = client.ask(r3["receive"])
    assert kind == "I"
    assert client.ask(r4["receive"], receive=5, transmit=5)[0] == "B"
    assert client.ask(r4["receive"] & ~1)[0] == "B"


def test_version_3_is_never_interleaved() -> None:
    client = InterleavedClient(logging_server(), first=0x1B)
    receive = 0
    for _ in range(5):
        kind, answer = client.ask(receive)
        assert kind == "B"
        receive = answer["receive"]


def test_nobody_gets_the_stamp_of_another_client() -> None:
    server = logging_server()
    victim = InterleavedClient(server)
    thief = InterleavedClient(server, address=bytes([127, 0, 0, 2]))
    receive = victim.ask(victim.ask(0)[1]["receive"])[1]["receive"]
    thief.sent, thief.now_ns = victim.sent, victim.now_ns
    assert thief.ask(receive)[0] == "B"
    assert victim.ask(receive)[0] == "I"


def test_clients_behind_one_address_get_their_own_stamps() -> None:
    server = logging_server()
    one, other = InterleavedClient(server), InterleavedClient(server)
    other.nonce = 1 << 50
    of_one = of_other = 0
    for turn in range(6):
        kind_of_one, answer = one.ask(of_one)
        of_one = answer["receive"]
        kind_of_other, answer = other.ask(of_other)
        of_other = answer["receive"]
        assert kind_of_one + kind_of_other == ("BB" if turn < 2 else "II")


@pytest.mark.parametrize("address", [LOOPBACK, bytes([127, 0, 0, 2])])
def test_a_replayed_request_gets_no_stamp_and_costs_its_sender_none(address: bytes) -> None:
    server = logging_server()
    client, replayer = InterleavedClient(server), InterleavedClient(server, address=address)
    answer = client.ask(client.ask(0)[1]["receive"])[1]
    kind, after = client.ask(answer["receive"])
    assert kind == "I"
    replayer.now_ns = client.now_ns
    for _ in range(3):
        kind, _ = replayer.ask(answer["receive"], receive=client.nonce, transmit=client.nonce + 1)
        assert kind == "B"
    assert client.ask(after["receive"])[0] == "I"


def test_who_quotes_a_neighbours_stamp_costs_him_one_interleaved_answer_at_most() -> None:
    """Behind one address a stamp that was overheard can be used up; its owner falls back to basic mode once."""
    server = logging_server()
    owner, neighbour = InterleavedClient(server), InterleavedClient(server)
    answer = owner.ask(owner.ask(0)[1]["receive"])[1]
    neighbour.sent, neighbour.nonce, neighbour.now_ns = owner.sent, 1 << 50, owner.now_ns
    neighbour.ask(answer["receive"])
    kind, after = owner.ask(answer["receive"])
    assert kind == "B"
    assert owner.ask(after["receive"])[0] == "I"


def test_a_kernel_stamp_replaces_the_daemons() -> None:
    server = logging_server()
    client = InterleavedClient(server)
    answer = client.ask(client.ask(0)[1]["receive"])[1]
    later_ns = client.sent[answer["receive"]] + 3_000
    assert server.late_stamp(answer["receive"], later_ns)
    client.sent[answer["receive"]] = later_ns
    assert client.ask(answer["receive"])[0] == "I"
    assert not server.late_stamp(answer["receive"] + 2, later_ns)  # nobody's


def test_the_rate_limit_drops_and_kisses() -> None:
    server = logging_server()
    server.set_limit(3, 4, 2, 2)
    outcomes = dict.fromkeys(OUTCOMES, 0)
    for _ in range(2000):
        outcome, _, answer = server.answer(CLIENT, LOOPBACK, 4000, T0, T0)
        outcomes[outcome] += 1
        if outcome == "kod_rate":
            assert answer is not None
            got = fields(answer)
            assert (got["first"] >> 6, got["stratum"], got["refid"]) == (3, 0, 0x52415445)
    assert outcomes["answered"] + outcomes["drop_limit"] + outcomes["kod_rate"] == 2000
    assert 4 + 400 <= outcomes["answered"] <= 4 + 600
    assert outcomes["kod_rate"] == pytest.approx((2000 - outcomes["answered"]) / 4, abs=100)


def test_what_is_over_the_limit_is_shed_before_its_key_is_looked_at() -> None:
    server = logging_server(keys=key_table())
    server.set_limit(3, 4, 4, 0)
    forged = CLIENT[:48] + struct.pack("!I", 1) + bytes(16)
    outcomes = [server.answer(forged, LOOPBACK, 4000, T0, T0)[0] for _ in range(200)]
    assert outcomes[:4] == ["drop_auth"] * 4
    # a sixteenth gets through the limit by chance
    assert outcomes.count("drop_limit") > 140
    assert set(outcomes) == {"drop_auth", "drop_limit"}


def ms_sntp(mode: int) -> bytes:
    """What Windows asks: a key id and no digest."""
    return bytes([3 << 3 | mode]) + CLIENT[1:48] + bytes([1, 2, 3, 4]) + bytes(16)


@pytest.mark.parametrize("mode", [3, 1])
def test_a_domain_client_or_peer_is_answered_only_where_somebody_signs(mode: int) -> None:
    server = make()
    assert server.answer(ms_sntp(mode), LOOPBACK, 4000, T0, T0)[0] == "drop_auth"
    server.set_signd(True)
    assert server.answer(ms_sntp(mode), LOOPBACK, 4000, T0, T0)[0] == "signd"
    assert server.answer(ms_sntp(mode)[:-1] + b"1", LOOPBACK, 4000, T0, T0)[0] == "drop_auth"
    assert server.answer(ms_sntp(mode)[:48] + bytes(20), LOOPBACK, 4000, T0, T0)[0] == "drop_auth"


def test_a_kiss_to_a_domain_client_is_signed_too() -> None:
    server = logging_server()
    server.set_signd(True)
    server.set_limit(3, 4, 2, 1)
    outcomes = {server.answer(ms_sntp(3), LOOPBACK, 4000, T0, T0)[0] for _ in range(1000)}
    assert outcomes == {"signd", "drop_limit"}


def test_one_clients_limit_is_not_anothers() -> None:
    server = logging_server()
    server.set_limit(3, 4, 4)
    for _ in range(1000):
        server.answer(CLIENT, bytes([127, 0, 0, 3]), 4000, T0, T0)
    assert server.answer(CLIENT, bytes([127, 0, 0, 4]), 4000, T0, T0)[0] == "answered"


def test_a_spoofed_flood_leaves_its_victim_some_answers() -> None:
    """100,000 forged requests a second in the victim's name: the leak still lets its own through now and then."""
    server = logging_server()
    server.set_limit(3, 8, 2)
    own = 0
    for second in range(40):
        at_ns = T0 + second * 10**9
        for number in range(500):
            server.answer(CLIENT, LOOPBACK, 4000, at_ns + number * 10_000, at_ns)
        outcome, _, _ = server.answer(CLIENT, LOOPBACK, 4001, at_ns + 6_000_000, at_ns)
        own += outcome == "answered"
    assert own >= 3


@pytest.mark.parametrize("algorithm", [15, 30])
@pytest.mark.parametrize("placeholders", [0, 3, 7])
def test_an_nts_request_gets_a_sealed_answer_of_its_own_length(algorithm: int, placeholders: int) -> None:
    key_length = 32 if algorithm == 15 else 16
    c2s, s2c = bytes(range(key_length)), bytes(range(100, 100 + key_length))
    ring = KeyRing()
    ring.publish([(1, 15, bytes(32))], 1)
    server = logging_server(ring=ring)
    client, reader = Aead(algorithm, c2s), Aead(algorithm, s2c)
    request = nts_packets.request(client, ring.make_cookie(algorithm, c2s, s2c), placeholders=placeholders)
    outcome, flags, answer = server.answer(request, LOOPBACK, 4000, T0, T0 + 1000)
    assert (outcome, flags & 3) == ("answered", 3)
    assert answer is not None
    assert len(answer) == len(request)
    assert len(nts_packets.cookies(reader, answer)) == placeholders + 1
    assert abs(fields(answer)["transmit"] - ntp64(T0 + 1000)) < 1 << 8
    for position in range(len(request)):
        spoiled = bytearray(request)
        spoiled[position] ^= 1
        outcome, flags, answer = server.answer(bytes(spoiled), LOOPBACK, 4000, T0, T0)
        assert outcome != "answered"
        assert not flags & 2


def test_nts_and_interleaved_mode_go_together() -> None:
    c2s, s2c = bytes(range(32)), bytes(range(100, 132))
    ring = KeyRing()
    ring.publish([(1, 15, bytes(32))], 1)
    server = logging_server(ring=ring)
    client = Aead(15, c2s)
    receive = 0
    flags = []
    for turn in range(4):
        header = bytes([0x23, 0, 6, 32]) + bytes(20) + struct.pack("!QQQ", receive, 1000 + turn, 2000 + turn)
        request = nts_packets.request(client, ring.make_cookie(15, c2s, s2c), header=header)
        outcome, flag, answer = server.answer(request, LOOPBACK, 4000, T0 + turn * 10**9, T0 + turn * 10**9 + 1000)
        assert outcome == "answered"
        assert answer is not None
        receive = fields(answer)["receive"]
        flags.append(flag & 4)
    assert flags == [0, 0, 4, 4]


def key_table() -> bytes:
    keys = []
    for number, key in VECTORS["_about"]["keys"].items():
        secret = bytes.fromhex(key["key_hex"])
        names = {"aes": f"AES{len(secret) * 8}", "sha3_256": "SHA3-256"}
        keys.append((int(number), names.get(key["type"], key["type"].upper()), secret))
    return build_key_table(keys, 65536)


def matrix_server() -> PacketServer:
    ring = KeyRing()
    ring.publish([(1, 15, bytes(32))], 1)
    return make(keys=key_table(), ring=ring)
