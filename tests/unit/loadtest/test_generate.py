"""The generator's loop: its arithmetic, and what it makes of every kind of answer."""

import ipaddress
import itertools
import socket
import struct
import time

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from loadtest import _generate, _numbers
from loadtest.client import Load, Result, client
from loadtest.nts import Session, templates
from loadtest.requests import bank
from loadtest.targets import target
from tests.unit.loadtest.scripted import Script, answer, ntp_now, scripted

SEEDS = st.integers(0, 2**64 - 1)


@given(st.integers(0, 2**63 - 1), st.integers(0, 1), SEEDS)
def test_a_nonce_leads_back_to_its_request(sequence: int, kind: int, seed: int) -> None:
    assert _numbers.from_nonce(_numbers.nonce(sequence, kind, seed), seed) == (sequence, kind)


@given(SEEDS)
def test_nonces_of_one_request_differ(seed: int) -> None:
    assert _numbers.nonce(5, 0, seed) != _numbers.nonce(5, 1, seed)


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert _numbers.due_times(100_000, 4) == [0, 10_000, 20_000, 30_000]


def test_bursts_keep_the_mean_rate() -> None:
    assert _numbers.due_times(1000, 5, burst=2) == [0, 0, 2e6, 2e6, 4e6]


def test_random_arrivals_have_the_mean_and_spread_of_a_poisson_process() -> None:
    times = _numbers.due_times(1000, 20_001, poisson=True, seed=7)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1e6, rel=0.03)
    assert spread == pytest.approx(mean, rel=0.05)
    assert min(gaps) >= 0


def test_a_schedule_asks_for_what_became_due() -> None:
    assert _numbers.paced(1000, [0, 500_000, 1_000_000, 3_100_000], lag_ns=10**9) == ([1, 0, 1, 2], 0)


def test_a_schedule_asks_for_no_more_than_a_batch() -> None:
    assert _numbers.paced(1e6, [200_000, 200_000], lag_ns=10**9, limit=64) == ([64, 64], 0)


def test_a_schedule_too_far_behind_skips_instead_of_bursting() -> None:
    due, skipped = _numbers.paced(1000, [0, 10_000_000, 10_000_001], lag_ns=2_000_000)
    assert skipped == 9
    assert due == [1, 1, 0]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_schedule_needs_a_rate(rate: float) -> None:
    with pytest.raises(ValueError):
        _numbers.due_times(rate, 1)


def test_buckets_grow_with_the_value_and_end_in_the_last_one() -> None:
    indexes = [_numbers.bucket(1 << bit) for bit in range(64)]
    assert indexes[:42] == sorted(set(indexes[:42]))
    assert set(indexes[42:]) == {_numbers.BUCKETS - 1}


def run(script: Script, load: Load | None = None, **arguments: float) -> Result:
    """Twenty requests, the next one only when its predecessor was answered or given up."""
    options: dict[str, float] = {"window": 1, "limit": 20, "timeout_s": 5, **arguments}
    with scripted(script) as where, client(where, load or Load()) as sender:
        return sender.run(30.0, sleep=True, **options)  # type: ignore[arg-type]


def seen(result: Result) -> dict[str, int]:
    """Counters that are not 0, without those that only tell how the machine was."""
    return {name: n for name, n in result.counters.items() if n and name not in ("skipped", "unstamped")}


def test_right_answers_are_counted_and_timed() -> None:
    result = run(lambda request, _: [answer(request)])
    assert seen(result) == {"sent": 20, "answered": 20}
    assert result.loss == 0
    assert result.latency.count == result.tx_error.count == result.request_delay.count == 20
    assert 0 < result.latency.minimum <= result.latency.maximum < 100_000_000
    # both stamps are taken on this machine in this order: server's tx, kernel's rx
    assert result.tx_error.minimum > 0
    assert result.request_delay.minimum > 0


def test_the_kernel_stamps_answers_when_asked() -> None:
    with scripted(lambda request, _: [answer(request)]) as where, client(where, Load()) as sender:
        # the kernel begins to stamp some milliseconds after the first socket asked for it
        sender.run(5.0, rate=100, limit=20, timeout_s=5, sleep=True)
        assert sender.run(5.0, window=1, limit=20, timeout_s=5, sleep=True).counters["unstamped"] == 0


def test_requests_hide_the_clients_time() -> None:
    requests = []

    def script(request: bytes, _: int) -> list[bytes]:
        requests.append(request)
        return [answer(request)]

    run(script)
    assert {request[:40] for request in requests} == {bytes([0x23, 0, 0, 0x20]) + bytes(36)}
    assert len({request[40:] for request in requests}) == 20


def test_a_silent_server_loses_everything() -> None:
    result = run(lambda *_: [], timeout_s=0.01)
    assert seen(result) == {"sent": 20, "lost": 20}
    assert result.loss == 1


def test_every_second_answer_lost() -> None:
    result = run(lambda request, number: [answer(request)] if number % 2 else [], timeout_s=0.2)
    assert seen(result) == {"sent": 20, "answered": 10, "lost": 10}


def test_a_second_answer_is_a_duplicate() -> None:
    result = run(lambda request, _: [answer(request), answer(request)], rate=100)
    # the last duplicate may come after the end
    assert result.counters["answered"] == 20
    assert 19 <= result.counters["duplicate"] <= 20
    assert result.wrong


def test_an_answer_after_the_timeout_is_late() -> None:
    held: list[bytes] = []

    def script(request: bytes, number: int) -> list[bytes]:
        held.append(answer(request))
        return [] if number == 0 else held[-2:]

    result = run(script, limit=2, timeout_s=0.3)
    assert seen(result) == {"sent": 2, "answered": 1, "lost": 1, "late": 1}


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("wrong_length", lambda request: answer(request)[:-4]),
        ("wrong_length", lambda request: answer(request) + bytes(4)),
        ("wrong_length", lambda request: answer(request) + bytes(2000)),
        ("wrong_length", lambda request: b""),
        ("wrong_mode", lambda request: answer(request, first=0x23)),
        ("wrong_mode", lambda request: answer(request, first=0x1C)),
        ("unknown", lambda request: answer(request, origin=bytes(8))),
        ("unknown", lambda request: answer(request, origin=b"\xff" * 8)),
    ],
)
def test_garbage_is_counted_and_answers_nothing(name: str, spoil: object) -> None:
    result = run(lambda request, _: [spoil(request), answer(request)])  # type: ignore[operator]
    assert seen(result) == {"sent": 20, "answered": 20, name: 20}
    assert result.wrong == {name: 20}


def test_somebody_elses_answer_does_not_count() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        scripted(lambda *_: []) as where,
        client(where, Load()) as sender,
    ):
        stranger.sendto(bytes(48), ("127.0.0.1", sender.ports[0]))
        result = sender.run(1.0, rate=100, limit=1, timeout_s=0.05, sleep=True)
    assert seen(result) == {"sent": 1, "lost": 1, "foreign": 1}


def test_a_kiss_is_an_answer_without_time() -> None:
    result = run(lambda request, _: [answer(request, stratum=0, refid=b"RATE", first=0xE4)])
    assert seen(result) == {"sent": 20, "answered": 20, "kod": 20}
    assert result.tx_error.count == 0


def test_an_unsynchronised_answer_is_told_from_a_kiss() -> None:
    result = run(lambda request, _: [answer(request, stratum=0, refid=bytes(4), first=0xE4)])
    assert seen(result) == {"sent": 20, "answered": 20, "unsynchronised": 20}


def test_tx_before_rx_is_noticed() -> None:
    result = run(lambda request, _: [answer(request, tx=ntp_now() - (1 << 22))])
    assert result.counters["disordered"] == 20


def test_a_symmetric_request_is_answered_in_mode_2() -> None:
    result = run(lambda request, _: [answer(request, first=0x22)], Load(mode=1))
    assert seen(result) == {"sent": 20, "answered": 20}


def test_clients_ask_in_turn_from_addresses_of_their_own() -> None:
    seen_from = []

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(1)
        load = Load(clients=3, first=ipaddress.ip_address("127.9.0.254"), sockets=2)
        with client(target("127.0.0.1", sock.getsockname()[1]), load) as sender:
            sender.run(1.0, rate=200, limit=6, timeout_s=0.01, sleep=True)
            for _ in range(6):
                seen_from.append(sock.recvfrom(100)[1])
    assert [host for host, _ in seen_from] == ["127.9.0.254", "127.9.0.255", "127.9.1.0"] * 2
    assert len({port for _, port in seen_from}) == 2


def test_a_window_bounds_what_is_outstanding() -> None:
    arrivals = []

    def script(request: bytes, _: int) -> list[bytes]:
        arrivals.append(time.monotonic())
        return []

    result = run(script, window=8, limit=24, timeout_s=0.4)
    assert seen(result) == {"sent": 24, "lost": 24}
    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    assert [index for index, gap in enumerate(gaps) if gap > 0.2] == [7, 15]


def test_requests_outstanding_are_bounded() -> None:
    """With one more than may be outstanding the oldest is given up; its answer is late, however late it comes."""
    held: list[bytes] = []

    def script(request: bytes, number: int) -> list[bytes]:
        held.append(answer(request))
        return held if number == 39 else []

    with scripted(script) as where, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        generator = _generate.Generator(
            [sock.fileno()], where.address.packed, where.port, outstanding_max=16
        )
        generator.run(30.0, rate=1000, lag_s=30, limit=40, timeout_s=20, sleep=True)
        counters = generator.counters()
    assert (counters["sent"], counters["lost"], counters["late"], counters["answered"]) == (40, 24, 24, 16)
    assert counters["duplicate"] == counters["unknown"] == 0


BANKED = Load(bank=lambda seed: bank(8, seed, lambda _, plain: plain))
"""Requests come round after every eighth."""


def test_a_server_that_pauses_for_rounds_of_the_bank_loses_nothing() -> None:
    held: list[bytes] = []

    def script(request: bytes, number: int) -> list[bytes]:
        held.append(answer(request))
        return held if number == 19 else []

    result = run(script, BANKED, rate=1000, window=0, timeout_s=20)
    assert seen(result) == {"sent": 20, "answered": 20}


def test_what_a_pause_of_the_server_loses_and_repeats_is_told() -> None:
    """Of 20 requests, two and a half rounds of the bank, one is never answered and one is answered twice."""
    held: list[bytes] = []

    def script(request: bytes, number: int) -> list[bytes]:
        held.extend([answer(request)] * {3: 0, 5: 2}.get(number, 1))
        return held if number == 19 else []

    result = run(script, BANKED, rate=1000, window=0, timeout_s=2)
    assert seen(result) == {"sent": 20, "answered": 19, "lost": 1, "duplicate": 1}


def test_late_answers_to_a_bank_that_came_round_are_late_once() -> None:
    """Three of the first round come after they were given up, one of them twice."""
    held: list[bytes] = []

    def script(request: bytes, number: int) -> list[bytes]:
        made = answer(request)
        if number < 8:
            held.append(made)
            return []
        return [made, *held[:3], held[0]] if number == 17 else [made]

    with scripted(script) as where, client(where, BANKED) as sender:
        first = sender.run(30.0, window=8, limit=8, timeout_s=0.05, sleep=True)
        second = sender.run(30.0, window=1, limit=11, timeout_s=20, sleep=True)
    assert seen(first) == {"sent": 8, "lost": 8}
    assert seen(second) == {"sent": 11, "answered": 11, "late": 3, "duplicate": 1}


def test_a_server_that_is_silent_loses_every_round_of_a_bank() -> None:
    result = run(lambda *_: [], BANKED, rate=1000, window=0, timeout_s=0.5)
    assert seen(result) == {"sent": 20, "lost": 20}


class InterleavedServer:
    """RFC 9769 as a server keeps it: TX timestamps by the RX timestamp they belong to, each used once."""

    def __init__(self) -> None:
        self.saved: dict[int, int] = {}

    def __call__(self, request: bytes, _: int) -> list[bytes]:
        origin, rx_nonce, tx_nonce = struct.unpack("!QQQ", request[24:48])
        tx = self.saved.pop(origin, 0) if origin & 1 and rx_nonce != tx_nonce else 0
        rx = ntp_now() | 1
        made = answer(request, rx=rx, tx=tx or None, origin=request[32:40] if tx else None)
        if origin & 1:
            self.saved[rx] = self.stamp(struct.unpack("!Q", made[40:48])[0])
        return [made]

    def stamp(self, _: int) -> int:
        return ntp_now()


def test_interleaved_clients_get_interleaved_answers_from_the_third_on() -> None:
    result = run(InterleavedServer(), Load(interleaved=True, clients=4), limit=40)
    assert seen(result) == {
        "sent": 40,
        "answered": 40,
        "interleaved": 32,
        "eligible": 32,
        "eligible_answered": 32,
        "eligible_interleaved": 32,
    }
    assert result.tx_error.count == 40


def test_sealed_requests_are_interleaved_and_each_sealed_anew() -> None:
    session = Session(bytes(range(32)), bytes(32), (b"c" * 100, b"d" * 100))
    server = InterleavedServer()
    requests: list[bytes] = []

    def script(request: bytes, number: int) -> list[bytes]:
        requests.append(request)
        plain, *_ = server(request, number)
        return [plain + request[48:]]

    load = Load(interleaved=True, clients=2, bank=lambda _: templates(4, session), seal_key=session.c2s)
    with scripted(script) as where, client(where, load) as sender:
        result = sender.run(30.0, sleep=True, window=1, limit=10, timeout_s=5)
        made_from = [sender.request(number) for number in range(10)]
    assert seen(result)["eligible_interleaved"] == seen(result)["eligible_answered"] == 6
    assert not result.wrong
    for request, template in zip(requests, made_from, strict=True):
        # unique identifier and cookie are the template's; what changes is authentic
        assert request[48:-40] == template[48:-40]
        assert AESSIV(session.c2s).decrypt(request[-16:], [request[:-40], request[-32:-16]]) == b""
    assert [request[24:32] != bytes(8) for request in requests] == [False] * 2 + [True] * 8
    assert len({request[-32:-16] for request in requests}) == len({request[40:48] for request in requests}) == 10


def test_an_interleaved_answer_with_the_basic_timestamp_is_noticed() -> None:
    class Lazy(InterleavedServer):
        def stamp(self, basic: int) -> int:
            return basic

    result = run(Lazy(), Load(interleaved=True, clients=1), limit=5)
    assert result.counters["interleaved"] == 3
    assert result.counters["repeated"] == 1


def test_an_interleaved_answer_with_another_times_stamp_is_bad() -> None:
    class Wrong(InterleavedServer):
        def stamp(self, _: int) -> int:
            return ntp_now() - (1 << 31)

    result = run(Wrong(), Load(interleaved=True, clients=1), limit=6)
    assert result.counters["bad_interleaved"] == result.counters["interleaved"] == 4


def test_a_server_without_interleaved_mode_gives_basic_answers() -> None:
    result = run(lambda request, _: [answer(request)], Load(interleaved=True, clients=2))
    assert result.counters["interleaved"] == 0
    assert result.counters["eligible_answered"] == 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"fds": []},
        {"fds": [0] * 1025},
        {"server": b"\x7f"},
        {"port": 0},
        {"port": 65536},
        {"clients": 0},
        {"clients": 2},
        {"base": bytes(16)},
        {"base": bytes(4), "clients": _generate.CLIENTS_MAX + 1},
        {"shift": 9},
        {"segments": 3},
        {"segments": 128},
        {"segments": 2, "interleaved": True},
        {"answer_size": 47},
        {"answer_size": 1281},
        {"request_size": 52},
        {"bank": bytes(48 * 3)},
        {"bank": bytes(49)},
        {"bank": bytes(48), "interleaved": True},
        {"bank": bytes(48 * 16), "outstanding_max": 8},
        {"outstanding_max": 24},
        {"outstanding_max": 1 << 19},
        {"bank": bytes(2048), "request_size": 2048},
        {"seal_key": bytes(32)},
        {"bank": bytes(96), "request_size": 96, "seal_key": bytes(31)},
        {"bank": bytes(84), "request_size": 84, "seal_key": bytes(32)},
        {"bank": bytes(96 * 3), "request_size": 96, "seal_key": bytes(32)},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"fds": [0], "server": bytes([127, 0, 0, 1]), "port": 123, **wrong}
    with pytest.raises(ValueError):
        _generate.Generator(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{}, {"rate": -1}, {"rate": 1, "burst": 0}, {"rate": 1, "timeout_s": 0}])
def test_a_run_needs_sane_arguments(wrong: dict[str, float]) -> None:
    with client(target("127.0.0.1", 9), Load()) as sender, pytest.raises(ValueError):
        sender.run(1.0, **wrong)  # type: ignore[arg-type]


def test_a_refused_send_is_told() -> None:
    """An IPv4 generator whose socket is of the other family."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        generator = _generate.Generator([sock.fileno()], bytes([127, 0, 0, 1]), 9)
        with pytest.raises(OSError):
            generator.run(0.1, rate=100)
