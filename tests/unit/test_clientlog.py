"""The client log: what it counts, whom it forgets, and whom it limits."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._clientlog import (
    ClientLogReader,
    ClientLogWriter,
    ClientRecord,
    bucket_parameters,
    init_shard,
    shard_size,
)

SEED = bytes(range(20))
# No phase: a tick starts on every sixteenth of a second.
SEED_WITHOUT_PHASE = bytes(range(16)) + bytes(4)
NTP, NTSKE, CMD = range(3)
PASS, DROP, KOD = range(3)
SECOND = 1 << 32
NEVER = -1
UNKNOWN = 127
A = bytes([192, 0, 2, 1])
B = bytes([192, 0, 2, 2])


def shard(blocks: int = 4, *, seed: bytes = SEED_WITHOUT_PHASE, ipv6_prefix: int = 128) -> mmap.mmap:
    memory = mmap.mmap(-1, shard_size(blocks))
    init_shard(memory, blocks, seed, ipv6_prefix)
    return memory


def contents(memory: mmap.mmap, *, reset_state: int = 0, now: int = 0) -> dict[bytes, ClientRecord]:
    reader = ClientLogReader(memory)
    records = [reader.read(index, reset_state, now) for index in range(reader.capacity)]
    found = {record.address: record for record in records if record is not None}
    assert len(found) == sum(record is not None for record in records)
    return found


@pytest.mark.parametrize(
    ("interval", "burst", "expected"),
    [
        (3, 8, (0, 128, 1024)),
        (-4, 8, (0, 1, 8)),
        (12, 255, (8, 256, 65280)),
        (-5, 8, (-1, 1, 8)),
        (-19, 1, (-15, 1, 32768)),
        (12, 1, (1, 32768, 32768)),
    ],
)
def test_bucket_parameters(interval: int, burst: int, expected: tuple[int, int, int]) -> None:
    assert bucket_parameters(interval, burst) == expected


def test_every_bucket_fits_its_record() -> None:
    for interval in range(-19, 13):
        for burst in range(1, 256):
            _, cost, capacity = bucket_parameters(interval, burst)
            assert 1 <= cost <= capacity < 65536


@pytest.mark.parametrize(
    ("interval", "burst", "low", "high"), [(3, 8, 1750, 2050), (4, 8, 1300, 1600), (6, 4, 1100, 1400)]
)
def test_ten_thousand_requests_a_second_apart(interval: int, burst: int, low: int, high: int) -> None:
    log = ClientLogWriter(shard())
    log.set_limit(NTP, interval, burst, 3)
    answers = [log.limit(log.hit(A, NTP, (5000 + i) * SECOND), NTP) for i in range(10000)]
    assert low <= answers.count(PASS) <= high
    assert answers.count(KOD) == 0


def test_kod_2_tells_a_quarter_of_the_limited() -> None:
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 6, 4, 3, 2)
    answers = [log.limit(log.hit(A, NTP, (5000 + i) * SECOND), NTP) for i in range(10000)]
    assert answers.count(DROP) / 3 == pytest.approx(answers.count(KOD), rel=0.1)


def test_a_burst_passes_then_a_quarter_leaks() -> None:
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 3, 4, 2)
    answers = [log.limit(log.hit(A, NTP, 5000 * SECOND), NTP) for _ in range(1000)]
    assert answers[:4] == [PASS] * 4
    assert 180 <= answers[4:].count(PASS) <= 320


def test_a_neighbour_is_not_limited() -> None:
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 3, 4, 2)
    for i in range(500):
        log.limit(log.hit(A, NTP, 5000 * SECOND + i), NTP)
        if i % 125 == 0:
            assert log.limit(log.hit(B, NTP, 5000 * SECOND + i), NTP) == PASS


def test_services_have_buckets_of_their_own() -> None:
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 6, 1, 1)
    log.set_limit(CMD, -4, 8, 2)
    log.feed_random(b"\xff" * 100)
    assert log.limit(log.hit(A, NTP, SECOND), NTP) == PASS
    assert log.limit(log.hit(A, NTP, SECOND), NTP) == DROP
    assert [log.limit(log.hit(A, CMD, SECOND), CMD) for _ in range(9)] == [PASS] * 8 + [DROP]
    assert log.limit(log.hit(A, NTSKE, SECOND), NTSKE) == PASS


def test_without_random_bytes_left_nothing_leaks_and_no_kod_is_sent() -> None:
    """All-ones stands for an empty buffer: the limiter must not treat it as permission."""
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 3, 1, 1, 1)
    log.feed_random(b"\xff" * 64)
    answers = [log.limit(log.hit(A, NTP, SECOND), NTP) for _ in range(64)]
    assert answers == [PASS] + [DROP] * 63


def test_a_client_that_speeds_up_when_unanswered_is_answered() -> None:
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 6, 1, 4)
    log.feed_random(b"\xff" * 4096)
    now = 5000 * SECOND
    last = PASS
    passed = 0
    for _ in range(2000):
        now += SECOND * 4 if last == PASS else SECOND // 4
        last = log.limit(log.hit(A, NTP, now), NTP)
        passed += last == PASS
    # The bucket alone passes one in 64 s; the drop decision turned round passes almost every retry.
    assert passed > 500


class LimiterModel:
    """One client of one limited service, as the description of chrony's limiter has it, without regard to speed."""

    def __init__(self, interval: int, burst: int, leak: int, kod: int) -> None:
        self.shift, self.cost, self.capacity = bucket_parameters(interval, burst)
        self.leak, self.kod = leak, kod
        self.tokens = self.capacity
        self.last: int | None = None
        self.rates: dict[str, int | None] = {"rate": None, "timeout": None}
        self.dropped = False
        self.drops = 0

    def hit(self, ticks: int) -> None:
        previous, self.last = self.last, ticks
        if previous is None or ticks < previous:
            return
        since = ticks - previous
        if self.shift >= 0:
            self.tokens += (ticks >> self.shift) - (previous >> self.shift)
        else:
            self.tokens += since << -self.shift
        self.tokens = min(self.tokens, self.capacity)
        interval = -20
        if since > 0:
            interval, rest = -16, since + since // 2
            while rest > 1 and interval < 56:
                interval, rest = interval + 4, rest >> 1
        name = "timeout" if self.dropped else "rate"
        rate = self.rates[name]
        if rate is None:
            rate = -interval
        elif rate < -interval:
            rate += 1
        elif rate > 10 - interval:
            rate = 10 - interval
        elif rate > -interval:
            rate = int((rate - interval - 1) / 2)
        self.rates[name] = rate

    def limit(self, random_byte: int) -> tuple[int, bool]:
        """The outcome, and whether the random byte was needed."""
        self.dropped = False
        if self.tokens >= self.cost:
            self.tokens -= self.cost
            return PASS, False
        drop = random_byte % (1 << self.leak) != 0
        rate, timeout = self.rates["rate"], self.rates["timeout"]
        if timeout is not None and timeout > (127 if rate is None else rate) + 4:
            drop = not drop
        if not drop:
            self.tokens = 0
            return PASS, True
        if self.kod and (random_byte >> 4) % (1 << self.kod) == 0:
            return KOD, True
        self.dropped = True
        self.drops += 1
        return DROP, True

    def interval_log2(self, name: str) -> int:
        rate = self.rates[name]
        return UNKNOWN if rate is None else int((rate + (rate > 0) * 2 - (rate < 0) * 2) / -4)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.integers(-19, 12), st.integers(1, 255), st.integers(1, 4), st.integers(0, 4)),
    st.lists(st.one_of(st.integers(0, 3), st.integers(-40, 400), st.integers(0, 1 << 20)), max_size=200),
    st.randoms(use_true_random=False),
)
def test_every_outcome_is_that_of_the_description(
    limit: tuple[int, int, int, int], pauses: list[int], generator: random.Random
) -> None:
    memory = shard(1)
    log = ClientLogWriter(memory)
    log.set_limit(NTP, *limit)
    model = LimiterModel(*limit)
    random_bytes = bytes(generator.randrange(256) for _ in range(len(pauses) + 1))
    log.feed_random(random_bytes)
    used = 0
    ticks = 1 << 20
    for pause in pauses:
        ticks += pause
        index = log.hit(A, NTP, ticks << 28)
        model.hit(ticks)
        outcome, took_one = model.limit(random_bytes[used])
        used += took_one
        assert log.limit(index, NTP) == outcome
        assert log.tokens(index, NTP) == model.tokens
    if pauses:
        record = contents(memory, now=ticks << 28)[A]
        assert record.drops[NTP] == model.drops
        assert record.interval_log2[NTP] == model.interval_log2("rate")
        assert record.timeout_interval_log2 == model.interval_log2("timeout")


def test_a_victim_is_still_answered_while_its_address_is_spoofed() -> None:
    """100,000 requests a second in its name for 20 s: about every fourth of its own still passes."""
    log = ClientLogWriter(shard())
    log.set_limit(NTP, 3, 8, 2)
    spoofed = A * 100
    passed = 0
    for i in range(20_000):
        now = 5000 * SECOND + i * (SECOND // 1000)
        log.hit_many(spoofed, 4, NTP, now, SECOND // 100_000)
        passed += log.limit(log.hit(A, NTP, now), NTP) == PASS
    assert 0.15 < passed / 20_000 < 0.35


def test_no_limit_without_a_directive() -> None:
    log = ClientLogWriter(shard())
    assert all(log.limit(log.hit(A, NTP, SECOND), NTP) == PASS for _ in range(1000))


def test_noclientlog_keeps_and_limits_nobody() -> None:
    log = ClientLogWriter(None)
    log.set_limit(NTP, 3, 1, 1)
    assert log.hit(A, NTP, SECOND) == -1
    assert log.limit(-1, NTP) == PASS


def test_hits_and_last_times_are_kept_by_service() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    log.hit(A, NTP, 1000 * SECOND)
    log.hit(A, NTP, 1008 * SECOND)
    log.hit(A, CMD, 1010 * SECOND)
    assert contents(memory, now=1011 * SECOND)[A] == ClientRecord(
        address=A,
        hits=(2, 0, 1),
        drops=(0, 0, 0),
        interval_log2=(3, UNKNOWN, UNKNOWN),
        timeout_interval_log2=UNKNOWN,
        last_s=(3, NEVER, 1),
    )


@pytest.mark.parametrize("log2_s", range(-4, 11))
def test_reported_interval_is_log2_of_the_polling_interval(log2_s: int) -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    step = SECOND << log2_s if log2_s >= 0 else SECOND >> -log2_s
    for i in range(50):
        log.hit(A, NTP, 5000 * SECOND + i * step)
    assert contents(memory)[A].interval_log2[NTP] == log2_s


def test_timeout_interval_is_of_requests_after_a_drop() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    log.set_limit(NTP, 6, 1, 4)
    log.feed_random(b"\xff" * 4096)
    now = 5000 * SECOND
    for i in range(60):
        now += SECOND * (64 if i % 2 else 2)
        log.limit(log.hit(A, NTP, now), NTP)
    record = contents(memory)[A]
    assert record.timeout_interval_log2 != UNKNOWN
    assert record.drops[NTP] > 0


def test_a_backward_clock_step_neither_fills_the_bucket_nor_sets_an_interval() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    log.set_limit(NTP, 3, 8, 2)
    index = log.hit(A, NTP, 9000 * SECOND)
    log.limit(index, NTP)
    before = log.tokens(index, NTP)
    log.hit(A, NTP, 1000 * SECOND)
    assert log.tokens(index, NTP) == before
    assert contents(memory)[A].interval_log2[NTP] == UNKNOWN
    log.hit(A, NTP, 1004 * SECOND)
    assert log.tokens(index, NTP) == before + 64


def test_drops_stay_at_their_highest_count() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    log.set_limit(NTP, 12, 1, 1)
    for _ in range(3):
        log.feed_random(b"\xff" * 30000)
        for _ in range(30000):
            log.limit(log.hit(A, NTP, SECOND), NTP)
    assert contents(memory)[A].drops[NTP] == 65535


def reset_state(new: int, before: int, boundary: int) -> int:
    return new << 48 | before << 32 | boundary


def test_a_reset_is_seen_by_reader_and_writer() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    log.set_limit(NTP, 3, 1, 1)
    log.feed_random(b"\xff" * 10)
    for i in range(4):
        log.limit(log.hit(A, NTP, (100 + 4 * i) * SECOND), NTP)
    log.hit(B, NTP, 100 * SECOND)
    before = contents(memory)[A]
    assert before.hits[NTP] == 4
    assert before.drops[NTP] > 0
    # The reader knows of the reset at once, whether or not the writer has touched the record since.
    state = reset_state(1, 0, 64)
    after = contents(memory, reset_state=state)
    assert after[A].hits == after[A].drops == (0, 0, 0)
    assert after[A].interval_log2 == before.interval_log2
    log.set_reset(state)
    log.hit(A, NTP, 200 * SECOND)
    after = contents(memory, reset_state=state)
    assert after[A].hits == (1, 0, 0)
    assert after[B].hits == (0, 0, 0)


def test_a_reset_reaches_up_to_its_boundary() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    addresses = [bytes([10, 0, 0, i]) for i in range(30)]
    indexes = {address: log.hit(address, NTP, SECOND) for address in addresses}
    boundary = sorted(indexes.values())[15]
    base = 1000
    state = reset_state(1, 0, base + boundary)
    log.set_reset(state, base)
    for address in addresses:
        log.hit(address, NTP, SECOND)
    reader = ClientLogReader(memory, base)
    for index in indexes.values():
        record = reader.read(index, state, SECOND)
        assert record is not None
        assert record.hits[NTP] == (1 if index < boundary else 2)
    # What the writer has already counted anew is not reset again when the boundary moves on.
    for index in indexes.values():
        record = reader.read(index, reset_state(1, 0, base + 64), SECOND)
        assert record is not None
        assert record.hits[NTP] == (1 if index < boundary else 0)


def test_reset_generations_wrap() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    for generation in (0x7000, 0xE000, 0x0010):
        state = reset_state(generation, generation, 0)
        log.set_reset(state)
        log.hit(A, NTP, SECOND)
        assert contents(memory, reset_state=state)[A].hits[NTP] == 1


def test_the_reader_finds_records_by_hits_and_by_address() -> None:
    memory = shard()
    log = ClientLogWriter(memory)
    indexes = {}
    for i in range(20):
        address = bytes([10, 0, 0, i])
        for _ in range(i + 1):
            indexes[address] = log.hit(address, i % 3, SECOND)
    reader = ClientLogReader(memory)
    assert all(reader.find(address) == index for address, index in indexes.items())
    assert reader.find(A) is None
    for hits_min in (0, 1, 10, 20, 21):
        found = []
        index = reader.next(0, hits_min, 0)
        while index < reader.capacity:
            found.append(index)
            index = reader.next(index + 1, hits_min, 0)
        assert found == sorted(indexes[bytes([10, 0, 0, i])] for i in range(20) if i + 1 >= hits_min)


def test_ipv6_addresses_are_aggregated_by_prefix() -> None:
    memory = shard(ipv6_prefix=56)
    log = ClientLogWriter(memory)
    first = log.hit(IPv6Address("2001:db8:0:1200::1").packed, NTP, SECOND)
    assert log.hit(IPv6Address("2001:db8:0:12ff::2").packed, NTP, SECOND) == first
    assert log.hit(IPv6Address("2001:db8:0:1300::1").packed, NTP, SECOND) != first
    assert log.hit(A, NTP, SECOND) != log.hit(B, NTP, SECOND)
    assert IPv6Address("2001:db8:0:1200::").packed in contents(memory)


def test_families_do_not_mix() -> None:
    log = ClientLogWriter(shard())
    assert log.hit(A, NTP, SECOND) != log.hit(A + bytes(12), NTP, SECOND)


def test_the_default_size_really_holds_4096_clients() -> None:
    memory = shard(290)
    log = ClientLogWriter(memory)
    addresses = struct.pack(">4096I", *range(0x0A000000, 0x0A000000 + 4096))
    assert log.hit_many(addresses, 4, NTP, SECOND, 0) == 4096
    reader = ClientLogReader(memory)
    assert (reader.used, reader.evictions) == (4096, 0)
    assert len(contents(memory)) == 4096


def test_a_full_table_replaces_the_oldest_and_counts_it() -> None:
    memory = shard(1)
    log = ClientLogWriter(memory)
    addresses = [bytes([10, 0, 0, i]) for i in range(17)]
    for i, address in enumerate(addresses[:16]):
        log.hit(address, NTP, (100 + i) * SECOND)
    log.hit(addresses[0], NTP, 200 * SECOND)
    assert ClientLogReader(memory).evictions == 0
    log.hit(addresses[16], NTP, 201 * SECOND)
    assert ClientLogReader(memory).evictions == 1
    assert set(contents(memory)) == set(addresses) - {addresses[1]}


def test_a_replaced_client_starts_afresh() -> None:
    memory = shard(1)
    log = ClientLogWriter(memory)
    log.set_limit(NTP, 6, 1, 1)
    log.feed_random(b"\xff" * 10)
    for _ in range(3):
        log.limit(log.hit(A, NTP, 100 * SECOND), NTP)
    for i in range(16):
        log.hit(bytes([10, 0, 0, i]), NTP, 101 * SECOND)
    assert log.limit(log.hit(A, NTP, 102 * SECOND), NTP) == PASS
    record = contents(memory, now=102 * SECOND)[A]
    assert (record.hits, record.drops) == ((1, 0, 0), (0, 0, 0))


@pytest.mark.parametrize("count", [100_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_random_addresses_in_one_network_stay_within_the_shard(count: int) -> None:
    memory = shard(290, seed=SEED)
    log = ClientLogWriter(memory)
    generator = random.Random(1)
    network = IPv6Address("2001:db8::").packed[:8]
    done = 0
    while done < count:
        n = min(100_000, count - done)
        addresses = b"".join(network + generator.randbytes(8) for _ in range(n))
        assert log.hit_many(addresses, 16, NTP, done << 12, 1 << 12) == n
        done += n
    reader = ClientLogReader(memory)
    assert reader.used <= reader.capacity == 290 * 16
    assert reader.used + reader.evictions == count


class Model:
    """What the log must know of each address, as long as it has room."""

    def __init__(self) -> None:
        self.hits: dict[bytes, list[int]] = {}
        self.last: dict[bytes, list[int]] = {}

    def hit(self, address: bytes, service: int, now: int) -> None:
        self.hits.setdefault(address, [0, 0, 0])[service] += 1
        self.last.setdefault(address, [0, 0, 0])[service] = now


v4 = st.integers(0, 40).map(lambda n: bytes([10, 0, n & 1, n >> 1]))
v6 = st.integers(0, 40).map(lambda n: bytes([0x20, 1, n & 1]) + bytes(12) + bytes([n >> 1]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(v4, v6), st.integers(0, 2), st.integers(0, 40)), max_size=150),
    st.binary(min_size=20, max_size=20),
)
def test_against_a_dictionary(events: list[tuple[bytes, int, int]], seed: bytes) -> None:
    memory = shard(16, seed=seed)
    log = ClientLogWriter(memory)
    model = Model()
    indexes: dict[bytes, int] = {}
    now = 1000
    for address, service, pause in events:
        now += pause
        index = log.hit(address, service, now * SECOND)
        assert indexes.setdefault(address, index) == index
        model.hit(address, service, now)
    assert ClientLogReader(memory).evictions == 0
    assert len(set(indexes.values())) == len(indexes)
    records = contents(memory, now=now * SECOND)
    assert set(records) == set(model.hits)
    for address, record in records.items():
        assert list(record.hits) == model.hits[address]
        for last, seen in zip(record.last_s, model.last[address], strict=True):
            assert last == (now - seen if seen else NEVER)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=300), st.binary(min_size=20, max_size=20))
def test_one_block_is_a_least_recently_used_list(order: list[int], seed: bytes) -> None:
    memory = shard(1, seed=seed)
    log = ClientLogWriter(memory)
    recent: list[int] = []
    evictions = 0
    for i, n in enumerate(order):
        log.hit(bytes([10, 0, 0, n]), NTP, (100 + i) * SECOND)
        if n in recent:
            recent.remove(n)
        elif len(recent) == 16:
            recent.pop()
            evictions += 1
        recent.insert(0, n)
    assert set(contents(memory)) == {bytes([10, 0, 0, n]) for n in recent}
    assert ClientLogReader(memory).evictions == evictions


def test_a_new_writer_goes_on_where_the_old_one_stopped() -> None:
    memory = shard(8, seed=SEED)
    log = ClientLogWriter(memory)
    index = log.hit(A, NTP, 100 * SECOND)
    del log
    again = ClientLogWriter(memory)
    assert again.hit(A, NTP, 101 * SECOND) == index
    assert contents(memory)[A].hits == (2, 0, 0)


def test_a_record_that_is_changing_hands_is_not_reported() -> None:
    memory = shard(1)
    log = ClientLogWriter(memory)
    index = log.hit(A, NTP, SECOND)
    reader = ClientLogReader(memory)
    occupancy = 128 + 64 + 64 * index + 54
    (value,) = struct.unpack_from("=H", memory, occupancy)
    assert value % 2 == 0
    struct.pack_into("=H", memory, occupancy, value + 1)
    assert reader.read(index, 0, SECOND) is None
    assert reader.next(0, 0, 0) == reader.capacity
    struct.pack_into("=H", memory, occupancy, value + 2)
    assert reader.read(index, 0, SECOND) is not None


def replace_records(memory: mmap.mmap) -> None:
    """Hit ever new addresses; each uses the service that its last byte tells. Ends by itself at last."""
    log = ClientLogWriter(memory)
    by_service = [
        b"".join(struct.pack(">I", i << 8)[:3] + bytes([service]) for i in range(1 << 16)) for service in range(3)
    ]
    for turn in range(3_000_000):
        at = turn * 4 % ((1 << 18) - 40)
        log.hit_many(by_service[turn % 3][at : at + 40], 4, turn % 3, SECOND, 0)


def test_a_reader_in_another_process_never_sees_two_addresses_mixed() -> None:
    """A record of two addresses would show hits of a service that its own address does not use."""
    memory = shard(2)
    writer = os.fork()
    if writer == 0:
        try:
            replace_records(memory)
        finally:
            os._exit(0)
    try:
        reader = ClientLogReader(memory)
        seen = 0
        deadline = time.monotonic() + 20
        while seen < 100_000 and time.monotonic() < deadline:
            for index in range(reader.capacity):
                record = reader.read(index, 0, 2 * SECOND)
                if record is not None:
                    service = record.address[3]
                    assert record.hits[(service + 1) % 3] == record.hits[(service + 2) % 3] == 0
                    seen += 1
        assert seen >= 100_000
        assert reader.evictions > 1000
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 0), (4, 99), (8, 1), (8, 1 << 40), (16, 0), (16, 5), (16, 0xFFFFFFFF), (20, 0), (20, 129)],
)
def test_memory_that_is_no_shard_is_refused(offset: int, value: int) -> None:
    memory = shard(4)
    struct.pack_into("=Q" if offset == 8 else "=I", memory, offset, value)
    with pytest.raises(ValueError):
        ClientLogReader(memory)
    with pytest.raises(ValueError):
        ClientLogWriter(memory)


def test_sizes_are_checked() -> None:
    memory = mmap.mmap(-1, shard_size(4))
    with pytest.raises(ValueError):
        init_shard(memory, 5, SEED)
    with pytest.raises(ValueError):
        init_shard(memory, 0, SEED)
    with pytest.raises(ValueError):
        init_shard(memory, 4, SEED, 0)
    with pytest.raises(ValueError):
        ClientLogReader(bytes(64))


def test_a_table_of_garbage_is_harmless() -> None:
    """Whatever a dead writer left below the header: no access outside, and every address gets a record."""
    memory = shard(4)
    memory[128:] = os.urandom(len(memory) - 128)
    log = ClientLogWriter(memory)
    for i in range(2000):
        index = log.hit(struct.pack(">I", i), NTP, i * SECOND)
        assert 0 <= index < 64
        assert log.limit(index, NTP) == PASS
    assert len(contents(memory)) <= 64
