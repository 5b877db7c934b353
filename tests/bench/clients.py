"""`python -m tests.bench.clients`: reports on a client log with a million clients of two workers.

The log is filled by hand, then served by control's own code in a process of its own; nothing else of a daemon runs.
Told are the longest and the mean time of one request in the server, what its memory grows by, and how long whole
listings take, by ntpc-fast and by chronyc. CPU time, but for the listings. Nothing is judged here: the bound on the
work of one request is a unit test.
"""

import asyncio
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from loadtest import cpu
from ntpd_fast._clientlog import ClientLogWriter
from ntpd_fast._packet import ntp64
from ntpd_fast.cli.ntpc.connection import Endpoint
from ntpd_fast.control.dataplane import ClientAccounts
from ntpd_fast.control.reports import Statistics
from ntpd_fast.monitor.backend import Backends
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.dispatch import Dispatcher
from ntpd_fast.monitor.sockets import open_unix
from ntpd_fast.monitor.transport import CommandServer
from ntpd_fast.server.clientlog import clientlog_plan
from ntpd_fast.server.shared import Shared, SharedPlan
from tests.processes import is_running, status_of, wait_until
from tests.scrape import Scraper

CLIENTS = 1_000_000
WORKERS = 2
LIMIT_BYTES = 120_000_000
# Every client asked once, and some much more often.
BUSY = 50_000
BUSY_MAX = 64


def filled() -> tuple[Shared, int]:
    """Shared memory with the clients in it, and the size of control's own part."""
    plan = clientlog_plan(LIMIT_BYTES, WORKERS)
    shared = Shared.create(SharedPlan(WORKERS, log_blocks=plan.blocks, map_pairs=plan.pairs))
    generator = random.Random(1)
    now = ntp64(time.time_ns())
    for worker in range(WORKERS):
        addresses = [generator.randrange(1 << 24, 224 << 24) & ~1 | worker for _ in range(CLIENTS // WORKERS)]
        log = ClientLogWriter(shared.worker(worker).log_memory())
        busy = [address for address in addresses[: BUSY // WORKERS] for _ in range(generator.randrange(1, BUSY_MAX))]
        for chosen in (addresses, busy):
            log.hit_many(struct.pack(f">{len(chosen)}I", *chosen), 4, 0, now, 4)
    return shared, plan.side_blocks


@contextmanager
def serving(path: str) -> Iterator[int]:
    """A process that answers `clients` on a Unix socket: control without its other parts; its pid."""
    shared, side_blocks = filled()
    command_socket = open_unix(path, os.getuid(), os.getgid())
    pid = os.fork()
    if pid == 0:
        statistics = Statistics(shared, ClientAccounts(shared, side_blocks, None), time.time_ns)
        part: Any = statistics
        backends = Backends(
            tracking=part, statistics=part, command_log=statistics, command_access=part, clients=statistics
        )
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        CommandServer(loop, Dispatcher(backends, frozenset()), [command_socket], time.time_ns).start()
        loop.run_forever()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        command_socket.close()


def requests(path: str, server: int, min_hits: int) -> None:
    """The list page by page, by hand: what each costs the server."""
    scraper = Scraper(Endpoint(path))
    first = count = pages = 0
    longest_ns = 0
    before = start = cpu.read([server])
    while True:
        page = scraper.ask(
            Number.CLIENT_ACCESSES_BY_INDEX3, req.ClientAccesses(first, rep.CLIENTS_PER_REPLY, min_hits, 0)
        )
        assert isinstance(page, rep.ClientAccesses)
        pages += 1
        count += sum(bool(one.ip.packed) for one in page.clients)
        now = cpu.read([server])
        longest_ns = max(longest_ns, now.since(before)[0])
        before = now
        if page.next_index >= page.n_indices or len(page.clients) < rep.CLIENTS_PER_REPLY:
            break
        first = page.next_index
    scraper.close()
    busy_ns = before.since(start)[0]
    print(
        f"min_hits {min_hits:>3}: {count:,} clients in {pages:,} requests, {busy_ns / 1e3 / pages:.1f} µs of the server"
        f" each, at most {longest_ns / 1e3:.0f} µs, {busy_ns / 1e9:.2f} s altogether"
    )


def listing(path: str, server: int, *command: str) -> None:
    """A whole command."""
    before, started = cpu.read([server]), time.monotonic()
    done = subprocess.run([*command[:-1], *command[-1].split()], stdout=subprocess.PIPE, check=False)
    wall_s = time.monotonic() - started
    busy_ns = cpu.read([server]).since(before)[0]
    program, lines = Path(command[0]).name, len(done.stdout.splitlines())
    print(f"{program} {command[-1]}: {lines:,} lines in {wall_s:.2f} s, {busy_ns / 1e9:.2f} s of the server")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ntpd-fast-") as name:
        directory = Path(name) / "run"
        directory.mkdir(mode=0o700)
        path = f"{directory}/s"
        with serving(path) as server:
            wait_until(lambda: is_running(server), "the server")
            before = int(status_of(server, "RssAnon")[0].split()[0])
            for min_hits in (0, 2, 60, 1000):
                requests(path, server, min_hits)
            ntpc = (sys.executable, "-m", "ntpd_fast.cli.control", "-h", path)
            for words in ("clients --top 10", "clients --top 10 --by rate", "clients --top 10 --by drops"):
                listing(path, server, *ntpc, words)
            listing(path, server, *ntpc, "-c", "clients")
            if chronyc := shutil.which("chronyc"):
                listing(path, server, chronyc, "-h", path, "-c", "clients")
            after = int(status_of(server, "RssAnon")[0].split()[0])
            print(f"own memory of the server: {before} KiB before, {after} KiB after")


if __name__ == "__main__":
    main()
