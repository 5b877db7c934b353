"""Sizes of the client log, and its reports over several shards."""

from __future__ import annotations

import mmap
import random
import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._clientlog import ClientLogReader, ClientLogWriter, ClientRecord, init_shard, shard_size
from ntpd_fast._tsmap import TimestampMap, init_map, map_size
from ntpd_fast.server.clientlog import (
    EXAMINED_MAX,
    READ_COST,
    RECORDS_MAX,
    RECORDS_PER_BLOCK,
    ClientReports,
    ResetState,
    clientlog_plan,
)

SECOND = 1 << 32
NTP, NTSKE, CMD = range(3)
UNKNOWN = 127
NEVER = -1


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
def test_the_default_limit_holds_4096_clients(workers: int) -> None:
    plan = clientlog_plan(524288, workers)
    assert plan.reason is None
    assert plan.records >= 4096
    assert plan.workers * plan.pairs >= 4096
    assert plan.total_bytes <= 524288


@given(st.integers(10_000, 10_000_000), st.integers(1, 16), st.integers(1, 256))
def test_workers_that_come_later_share_the_same_limit(limit: int, workers: int, later: int) -> None:
    plan = clientlog_plan(limit, workers, side_shards=2)
    blocks = plan.blocks_for(later)
    shard = shard_size(blocks) + map_size(blocks * RECORDS_PER_BLOCK)
    assert 1 <= blocks <= plan.blocks
    assert blocks == 1 or later * shard + plan.side_shards * plan.side_bytes <= plan.total_bytes
    assert plan.blocks_for(workers) == plan.blocks
    assert later > workers or blocks == plan.blocks


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_hundred_megabytes_hold_a_million_clients(workers: int) -> None:
    plan = clientlog_plan(100_000_000, workers, side_shards=3)
    assert plan.records >= 1_050_000
    assert plan.workers * plan.pairs >= 1_050_000
    assert plan.total_bytes <= 100_000_000


@settings(deadline=None)
@given(
    st.one_of(st.integers(0, 10_000_000), st.integers(0, 2**64 - 1)),
    st.integers(1, 256),
    st.integers(0, 20),
    st.one_of(st.none(), st.integers(1 << 28, 1 << 40)),
)
def test_the_limit_bounds_everything(limit: int, workers: int, side_shards: int, memory: int | None) -> None:
    plan = clientlog_plan(limit, workers, side_shards=side_shards, memory_bytes=memory)
    if plan.reason is None:
        assert plan.total_bytes <= limit
        # what is left over is less than a block for each worker
        assert limit - plan.total_bytes < workers * (shard_size(2) + 1000)
    else:
        assert "clientloglimit" in plan.reason
        assert str(limit) in plan.reason
    assert plan.blocks >= 1
    assert (plan.side_blocks >= 1) == (side_shards > 0)
    assert plan.records <= RECORDS_MAX
    assert plan.log_bytes % 64 == 0
    if memory is not None:
        assert plan.total_bytes <= memory // 2


@pytest.mark.parametrize(
    ("limit", "memory", "reason"),
    [
        (0, None, r"clientloglimit 0 is too small for 2 workers, using \d+"),
        (2**64 - 1, None, r"clientloglimit 18446744073709551615 is more than 16777216 clients need, using \d+"),
        (1 << 30, 1 << 30, r"clientloglimit 1073741824 is more than half of the memory, using 536870912"),
    ],
)
def test_a_clamped_limit_says_why(limit: int, memory: int | None, reason: str) -> None:
    given_reason = clientlog_plan(limit, 2, memory_bytes=memory).reason
    assert given_reason is not None
    assert re.fullmatch(reason, given_reason)
    too_small = clientlog_plan(0, 1).reason
    assert too_small is not None
    assert "for 1 worker," in too_small


def test_log_and_map_share_a_workers_memory() -> None:
    plan = clientlog_plan(524288, 2)
    memory = mmap.mmap(-1, plan.log_bytes + plan.map_bytes)
    view = memoryview(memory)
    init_shard(view[: plan.log_bytes], plan.blocks, bytes(20))
    init_map(view[plan.log_bytes :], plan.pairs, 5)
    log = ClientLogWriter(view[: plan.log_bytes])
    saved = TimestampMap(view[plan.log_bytes :])
    addresses = struct.pack(f">{plan.pairs}I", *range(plan.pairs))
    for i in range(plan.pairs):
        saved.save((i + 1) * SECOND, (i + 1) * SECOND + 8, 0, 0, 0)
    log.hit_many(addresses, 4, NTP, SECOND, 0)
    assert saved.held()[0] == plan.pairs
    assert all(saved.get((i + 1) * SECOND, 0) is not None for i in range(plan.pairs))


class Shards:
    """Two workers' shards and control's."""

    def __init__(self, blocks: int = 2) -> None:
        self.memories = [mmap.mmap(-1, shard_size(blocks)) for _ in range(3)]
        for number, memory in enumerate(self.memories):
            init_shard(memory, blocks, bytes([number]) * 16 + bytes(4))
        self.writers = [ClientLogWriter(memory) for memory in self.memories]
        self.bases = [number * blocks * 16 for number in range(3)]
        self.reports = ClientReports(
            [ClientLogReader(memory, base) for memory, base in zip(self.memories, self.bases, strict=True)]
        )
        self.state = ResetState()

    def listing(self, *, rows_max: int = 8, hits_min: int = 1, reset: bool = False, now: int = 0) -> list[ClientRecord]:
        """What a client of the command protocol gets, page by page."""
        rows: list[ClientRecord] = []
        index = 0
        while index < self.reports.indices:
            index = self.page(rows, index, rows_max, hits_min, reset, now)
        return rows

    def page(self, rows: list[ClientRecord], first: int, rows_max: int, hits_min: int, reset: bool, now: int) -> int:
        index, page = self.reports.page(first, rows_max, hits_min, self.state.value, now)
        assert index > first
        assert len(page) == rows_max or index == self.reports.indices
        rows += page
        if reset:
            state = self.state.reset(first, index, self.reports.indices)
            for writer, base in zip(self.writers, self.bases, strict=True):
                writer.set_reset(state, base)
        return index


def address(n: int) -> bytes:
    return bytes([10, 0, n >> 8, n & 255])


def test_all_shards_make_one_list() -> None:
    shards = Shards()
    for n in range(40):
        shards.writers[n % 2].hit(address(n), NTP, SECOND)
    for n in range(40, 50):
        shards.writers[2].hit(address(n), CMD, SECOND)
    for rows_max in (1, 7, 8, 100):
        rows = shards.listing(rows_max=rows_max)
        assert sorted(row.address for row in rows) == [address(n) for n in range(50)]
        assert all(sum(row.hits) == 1 for row in rows)


def test_an_address_in_several_shards_is_one_row() -> None:
    shards = Shards()
    for t in (100, 116):
        shards.writers[0].hit(address(1), NTP, t * SECOND)
    for t in (140, 144, 148):
        shards.writers[1].hit(address(1), NTP, t * SECOND)
    shards.writers[2].hit(address(1), CMD, 130 * SECOND)
    assert shards.listing(now=150 * SECOND) == [
        ClientRecord(
            address=address(1),
            hits=(5, 0, 1),
            drops=(0, 0, 0),
            interval_log2=(2, UNKNOWN, UNKNOWN),
            timeout_interval_log2=UNKNOWN,
            last_s=(2, NEVER, 20),
        )
    ]


def test_a_row_that_qualifies_in_a_later_shard_only_is_shown_once_with_everything() -> None:
    shards = Shards()
    shards.writers[0].hit(address(1), NTP, SECOND)
    for _ in range(5):
        shards.writers[2].hit(address(1), CMD, SECOND)
    assert [row.hits for row in shards.listing(hits_min=5)] == [(1, 0, 5)]
    assert [row.hits for row in shards.listing(hits_min=1)] == [(1, 0, 5)]
    assert shards.listing(hits_min=6) == []


@pytest.mark.parametrize("rows_max", [1, 8])
def test_a_reset_list_shows_every_count_once(rows_max: int) -> None:
    """Counting goes on while the list is fetched: no hit is lost and none is shown twice."""
    shards = Shards(4)
    hits = 0
    shown = 0

    def hit_all() -> int:
        for n in range(30):
            shards.writers[n % 3].hit(address(n), NTP, SECOND)
        return 30

    for _ in range(4):
        hits += hit_all()
        index = 0
        rows: list[ClientRecord] = []
        while index < shards.reports.indices:
            index = shards.page(rows, index, rows_max, 1, True, 0)
            hits += hit_all()
        shown += sum(row.hits[NTP] for row in rows)
    shown += sum(row.hits[NTP] for row in shards.listing())
    assert shown == hits


def test_a_first_page_asked_for_again_leaves_the_rest_to_be_shown() -> None:
    shards = Shards(4)
    for n in range(60):
        shards.writers[n % 3].hit(address(n), NTP, SECOND)
    first: list[ClientRecord] = []
    shards.page(first, 0, 8, 0, True, 0)
    rows = shards.listing(reset=True, hits_min=0)
    lost = {row.address for row in first}
    assert len(lost) == 8
    for row in rows:
        assert row.hits[NTP] == (0 if row.address in lost else 1)
    assert shards.listing() == []


def test_reset_generations_go_round() -> None:
    shards = Shards()
    shards.state = ResetState(0xFFFF << 48 | 0xFFFF << 32 | shards.reports.indices)
    for writer, base in zip(shards.writers, shards.bases, strict=True):
        writer.set_reset(shards.state.value, base)
    for _ in range(3):
        shards.writers[0].hit(address(1), NTP, SECOND)
        assert [row.hits[NTP] for row in shards.listing(reset=True)] == [1]
        assert shards.listing() == []


def test_evictions_are_added_up() -> None:
    shards = Shards(1)
    for writer in shards.writers[:2]:
        for n in range(20):
            writer.hit(address(n), NTP, SECOND)
    assert shards.reports.evictions == 8


class CountingShard(ClientLogReader):
    """Counts what one page looks at."""

    looked_at = reads = finds = 0

    def next(self, index: int, hits_min: int, reset_state: int, end: int = 0xFFFFFFFF) -> int:
        found = super().next(index, hits_min, reset_state, end)
        self.looked_at += found - index + 1
        return found

    def read(self, index: int, reset_state: int, ntp_time: int) -> ClientRecord | None:
        self.reads += 1
        return super().read(index, reset_state, ntp_time)

    def find(self, address: bytes) -> int | None:
        self.finds += 1
        return super().find(address)


def pages_of(shards: list[CountingShard], hits_min: int) -> tuple[int, int]:
    """(requests it takes, clients listed), each request within its bound of work."""
    reports = ClientReports(shards)
    index = pages = count = 0
    while index < reports.indices:
        for shard in shards:
            shard.looked_at = shard.reads = shard.finds = 0
        index, rows = reports.page(index, 8, hits_min, 0, 0)
        pages += 1
        count += len(rows)
        reads = sum(shard.reads for shard in shards)
        # each record read is looked for in every other shard, and may be read there, too
        assert sum(shard.looked_at for shard in shards) <= EXAMINED_MAX + len(shards) * (reads + 2)
        assert reads <= len(shards) * (EXAMINED_MAX // READ_COST + 8)
        assert sum(shard.finds for shard in shards) <= 2 * len(shards) * (EXAMINED_MAX // READ_COST + 8)
    return pages, count


@pytest.mark.parametrize("both", [False, True], ids=["each client in one shard", "each client in both"])
def test_the_work_of_a_page_is_bounded_whatever_is_asked_for(both: bool) -> None:
    shards = []
    for number in range(2):
        memory = mmap.mmap(-1, shard_size(8192))
        init_shard(memory, 8192, random.Random(number).randbytes(20))
        writer = ClientLogWriter(memory)
        first = 0 if both else number * 60_000
        writer.hit_many(struct.pack(">60000I", *range(first, first + 60_000)), 4, NTP, SECOND, 1)
        shards.append(CountingShard(memory, number * 8192 * 16))
    pages, count = pages_of(shards, 0)
    assert count == (60_000 if both else 120_000)
    assert pages <= count // 8 + 2 * 8192 * 16 * READ_COST // EXAMINED_MAX + 2
    pages, count = pages_of(shards, 2)
    assert count == 0
    assert pages == 2 * 8192 * 16 // EXAMINED_MAX
