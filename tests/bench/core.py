"""`python -m tests.bench.core`: what the parts of the packet path cost by themselves, in ns an operation.

CPU time, the least of several runs: the machine's other work only ever adds. Nothing is judged here; the budgets of
whole answers are in `budgets.py`.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network

import numpy as np

from ntpd_fast._access import AccessView
from ntpd_fast._aead import Aead
from ntpd_fast._auth import ALGORITHMS, KeyTable, build_key_table
from ntpd_fast._clientlog import ClientLogReader, ClientLogWriter, init_shard
from ntpd_fast._nts import KeyRing, Responder
from ntpd_fast._tsmap import TimestampMap, init_map
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.clientlog import ClientLogPlan, clientlog_plan
from tests import nts_packets

RUNS = 5
SECOND = 1 << 32
HEADER = b"\x23" + bytes(47)


def least_ns(operations: int, run: Callable[[], object]) -> float:
    """Nanoseconds of CPU time an operation, of the fastest of a few runs."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.thread_time_ns()
        run()
        best = min(best, (time.thread_time_ns() - start) / operations)
    return best


def access() -> Iterator[tuple[str, float]]:
    generator = random.Random(1)
    rules = {
        "all": ["0.0.0.0/0"],
        "the private networks": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
        "1,000 scattered /24": [f"{generator.randrange(1, 224)}.{i % 256}.{i // 4}.0/24" for i in range(1000)],
        "10,000 scattered /32": [str(IPv4Network(generator.randrange(2**32))) for _ in range(10000)],
    }
    addresses = generator.randbytes(4 * 16384)
    for name, networks in rules.items():
        table = AccessTable()
        for network in networks:
            table.set(IPv4Network(network), True)
        view = AccessView(table.compile())
        yield f"access, {name}", least_ns(16384, lambda view=view: view.check_rate(addresses, 1))


def client_log() -> Iterator[tuple[str, float]]:
    for clients, limit in ((4096, 524288), (16384, 2_000_000), (1_000_000, 100_000_000)):
        plan = clientlog_plan(limit, 1)
        memory = new_log(plan)
        log = ClientLogWriter(memory)
        log.set_limit(0, 3, 8, 2)
        addresses = random.Random(1).randbytes(4 * clients)
        for batch in (1, 64):
            yield (
                f"client log, {clients} clients in turn, batches of {batch}",
                least_ns(clients, lambda log=log, a=addresses, b=batch: log.hit_many(a, 4, 0, SECOND, 4096, b)),
            )
        print(f"    {ClientLogReader(memory).evictions} records replaced")
    memory = new_log(clientlog_plan(524288, 1))
    log = ClientLogWriter(memory)
    flood = random.Random(2).randbytes(16 * 500_000)
    yield (
        "client log, every source a new one",
        least_ns(500_000, lambda: log.hit_many(flood, 16, 0, SECOND, 4096)),
    )


def new_log(plan: ClientLogPlan) -> mmap.mmap:
    memory = mmap.mmap(-1, plan.log_bytes)
    init_shard(memory, plan.blocks, os.urandom(20))
    return memory


def timestamp_map() -> Iterator[tuple[str, float]]:
    for clients in (4096, 1_000_000):
        plan = clientlog_plan(524288 if clients == 4096 else 100_000_000, 1)
        memory = mmap.mmap(-1, plan.map_bytes)
        init_map(memory, plan.pairs, 1)
        saved = TimestampMap(memory)
        last_rx = np.zeros(clients, dtype=np.uint64)
        generator = np.random.default_rng(1)
        now = SECOND << 20
        saved.poll_in_turn(last_rx, now, 40_000)
        now += clients * 40_000
        for batch in (1, 64):
            best = float("inf")
            found = 0
            for _ in range(RUNS):
                generator.shuffle(last_rx)
                start = time.thread_time_ns()
                found = saved.poll_in_turn(last_rx, now, 40_000, batch)
                best = min(best, (time.thread_time_ns() - start) / clients)
                now += clients * 40_000
            yield f"find, use up and save, {clients} clients in any order, batches of {batch}", best
            print(f"    {found / clients:.2%} found")


def macs() -> Iterator[tuple[str, float]]:
    rows = [(i + 1, name, bytes(range(32 if name == "AES256" else 16))) for i, name in enumerate(ALGORITHMS)]
    rows += [(i, "AES128", bytes(16)) for i in range(100, 1100)]
    keys = KeyTable(build_key_table(rows, 1 << 20))
    for i, name in enumerate(ALGORITHMS):
        packet = keys.sign(HEADER, i + 1)
        yield (
            f"check and sign with {name}, one of {len(keys)} keys",
            least_ns(20_000, lambda packet=packet: keys.check_rate(packet, len(HEADER), 20_000)),
        )


def nts() -> Iterator[tuple[str, float]]:
    sizes = {15: 32, 30: 16}
    for server, client in ((15, 15), (15, 30), (30, 15), (30, 30)):
        ring = KeyRing()
        ring.publish([(4, server, os.urandom(sizes[server]))], 4)
        c2s, s2c = os.urandom(sizes[client]), os.urandom(sizes[client])
        responder = Responder(ring)
        for placeholders in (0, 7):
            cookie = ring.make_cookie(client, c2s, s2c)
            request = nts_packets.request(Aead(client, c2s), cookie, placeholders=placeholders)
            yield (
                f"check and answer NTS, server keys AEAD {server}, client AEAD {client}, {placeholders + 1} cookies",
                least_ns(20_000, lambda r=responder, q=request: r.repeat(q, HEADER, 20_000)),
            )


def main() -> None:
    for part in (access, client_log, timestamp_map, macs, nts):
        for name, ns in part():
            print(f"{ns:8.1f} ns  {name}")


if __name__ == "__main__":
    main()
