"""`python -m tests.bench.keyexchange`: 10,000 half-open NTS-KE connections, a slow client, and who is served meanwhile.

Three figures, each with its limit: memory of the key exchange process per connection (its own pages, RssAnon, so
without the kernel's socket buffers), how long a new client waits for its keys, and the 99th percentile of NTP's
round trips while the connections stand against that of the same client before them. Connections are opened as fast as
they can be; nine of ten have sent a few bytes of a handshake, the tenth a whole ClientHello. They end after the
server's two seconds, so the figures are taken in rounds. Exit status 1 when a limit is missed.
"""

import resource
import socket
import statistics
import struct
import sys
import threading
import time
from pathlib import Path

from loadtest import nts
from loadtest.cpu import process_tree
from loadtest.scenarios import NTS_LINES, certificate_files
from loadtest.servers import Running, ntpd_fast, running
from loadtest.targets import Target
from ntpd_fast._tls import Credentials, Session
from tests.pki import Authority

CONNECTIONS = 10_000
ROUNDS = 3
REQUESTS = 2_000
MEMORY_KIB_MAX = 26.0
WAIT_S_MAX = 5.0
# of two measurements of a percentile that lasts a second each
P99_RATIO_MAX = 1.25
REQUEST = struct.pack("!B39xQ", 4 << 3 | 3, 1)


def client_hello() -> bytes:
    """What a client begins with."""
    credentials = Credentials()
    credentials.add_trust(Authority().pem)
    session = Session(credentials, b"ntske/1", server_side=False, peer_name="localhost")
    session.handshake()
    return session.out()


def anonymous_kib(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1])


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def hold(where: Target, hello: bytes, count: int) -> list[socket.socket]:
    """Half-open connections."""
    held = []
    for number in range(count):
        sock = socket.create_connection((str(where.address), where.port), 30)
        # each ClientHello makes the server compute, and these are to stand at the same time
        sock.sendall(hello if number % 10 == 0 else hello[: number % 10])
        held.append(sock)
    return held


class SlowClient(threading.Thread):
    """Sends its ClientHello a byte at a time, and begins again when it is thrown out."""

    def __init__(self, where: Target, hello: bytes) -> None:
        super().__init__(daemon=True)
        self._where = where
        self._hello = hello
        self.running = True

    def run(self) -> None:
        while self.running:
            with socket.create_connection((str(self._where.address), self._where.port), 30) as sock:
                try:
                    for byte in self._hello:
                        sock.sendall(bytes([byte]))
                        time.sleep(0.05)
                        if not self.running:
                            return
                except OSError:
                    continue


def p99_us(where: Target) -> float:
    """Of NTP round trips, one after the other, in microseconds."""
    trips = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((str(where.address), where.port))
        for _ in range(REQUESTS):
            start = time.perf_counter_ns()
            sock.send(REQUEST)
            sock.recv(100)
            trips.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.quantiles(trips, n=100)[98]


def one_round(server: Running, pid: int, hello: bytes) -> tuple[float, float, float, float]:
    """Memory per connection (KiB), wait for keys (s), p99 (µs) without and with the connections."""
    where = server.key_exchange
    without = p99_us(server.target)
    memory, before = anonymous_kib(pid), descriptors(pid)
    held = hold(where, hello, CONNECTIONS)
    standing = descriptors(pid) - before
    grown = anonymous_kib(pid) - memory
    start = time.monotonic()
    nts.exchange_keys(where)
    wait = time.monotonic() - start
    with_them = p99_us(server.target)
    for sock in held:
        sock.close()
    print(f"  {standing} connections stood when the last of {CONNECTIONS} was open", flush=True)
    # the first round makes the heap grow; it is kept for the next ones, so memory counts against all of it
    return grown / max(standing, 1), wait, without, with_them


def main() -> int:
    limit = max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], CONNECTIONS + 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (CONNECTIONS + 100, limit))
    hello = client_hello()
    lines = (*NTS_LINES, "ntsprocesses 1", f"maxntsconnections {CONNECTIONS * 6 // 5}", "noclientlog")
    with running(ntpd_fast(), "127.0.0.1", lines, certificate_files()) as server:
        nts.exchange_keys(server.key_exchange)
        pids = process_tree(server.pid)
        pid = max(pids)  # the key exchange process is forked last
        slow = SlowClient(server.key_exchange, hello)
        slow.start()
        rounds = [one_round(server, pid, hello) for _ in range(ROUNDS)]
        slow.running = False
        alive = process_tree(server.pid) == pids
    memory = max(round_[0] for round_ in rounds)
    wait = max(round_[1] for round_ in rounds)
    ratio = statistics.median(round_[3] / round_[2] for round_ in rounds)
    kept = True
    for name, figure, most in (
        ("memory of a connection, KiB", memory, MEMORY_KIB_MAX),
        ("wait of a new client, s", wait, WAIT_S_MAX),
        ("p99 of NTP, ratio to that without connections", ratio, P99_RATIO_MAX),
    ):
        good = figure <= most
        kept = kept and good
        print(f"{'kept  ' if good else 'MISSED'}  key exchange: {name} ≤ {most:g}: {figure:.3f}")
    print(f"p99 of NTP without and with them, µs: {[(round(r[2]), round(r[3])) for r in rounds]}")
    if not alive:
        print("MISSED  key exchange: a process died")
    return 0 if kept and alive else 1


if __name__ == "__main__":
    sys.exit(main())
