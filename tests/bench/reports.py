"""`python -m tests.bench.reports`: what it costs the clients when people and monitoring systems ask for reports.

The whole daemon on one core, the generator on another; with `--receive-on-server` the server's core also does the
receive processing, as with a network card (then few machines serve 200,000 requests/s with one core). Turns with and
without reports alternate. Reports are asked for from a process on the generator's core that is already running: what
is measured is the daemon, not the start of a command line. Cases: a monitoring system that reads every report by Unix
socket and by UDP once a second, and 70 clients a second that each open a socket for one report.

Exit status 1 when answers/s fall by 10 % or p99 rises by 1 ms.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

from loadtest import cpu, network
from loadtest.cli import write_json
from loadtest.client import Client, Load, Result, client
from loadtest.compare import Cores
from loadtest.servers import Running, ntpd_fast, running
from ntpd_fast.cli.ntpc.connection import Endpoint
from tests.processes import children_of, status_of
from tests.scrape import PLAIN, Scraper

RATE = 200_000.0
WINDOW = 256
FALL_MAX = 0.10
RISE_MAX_NS = 1_000_000
SOURCES = 4
SMALL_CLIENTS_PER_S = 70

Asker = Callable[[Sequence[Endpoint], Event], None]


def every_second(endpoints: Sequence[Endpoint], ends: Event) -> None:
    """Everything, by every way, once a second."""
    scrapers = [Scraper(endpoint) for endpoint in endpoints]
    while not ends.is_set():
        started_s = time.monotonic()
        for scraper in scrapers:
            scraper.everything()
        ends.wait(max(0.0, started_s + 1.0 - time.monotonic()))
    for scraper in scrapers:
        scraper.close()


def one_each(endpoints: Sequence[Endpoint], ends: Event) -> None:
    """Many clients, one report each."""
    turn = 0
    while not ends.wait(1.0 / SMALL_CLIENTS_PER_S):
        scraper = Scraper(endpoints[turn % len(endpoints)])
        scraper.ask(PLAIN[turn % len(PLAIN)])
        scraper.close()
        turn += 1


CASES: dict[str, Asker] = {"every report every second": every_second, "70 clients/s": one_each}


@contextmanager
def asking(asker: Asker | None, endpoints: Sequence[Endpoint]) -> Iterator[None]:
    """Have reports asked for meanwhile; None: nobody asks."""
    if asker is None:
        yield
        return
    context = multiprocessing.get_context("fork")
    ends = context.Event()
    process = context.Process(target=asker, args=(endpoints, ends), daemon=True)
    process.start()
    try:
        yield
    finally:
        ends.set()
        process.join()


@dataclass
class Figures:
    """Of the turns of one case under one load."""

    answers_per_s: list[float] = field(default_factory=list)
    p99_ns: list[float] = field(default_factory=list)
    control_ms_per_s: list[float] = field(default_factory=list)

    def take(self, result: Result, control_ns: int, asked_s: float) -> None:
        self.answers_per_s.append(result.answered_per_s)
        self.p99_ns.append(result.latency.percentile(99))
        self.control_ms_per_s.append(control_ns / 1e6 / asked_s)


def measure(
    server: Running, sender: Client, endpoints: Sequence[Endpoint], turns: int, turn_s: float
) -> dict[str, dict[str, Figures]]:
    """By load, then by case ("nobody asks" among them)."""
    loads: dict[str, Callable[[], Result]] = {
        f"{RATE:,.0f} requests/s": partial(sender.run, turn_s, rate=RATE, poisson=True),
        "as many as it can": partial(sender.run, turn_s, window=WINDOW),
    }
    cases: dict[str, Asker | None] = {"nobody asks": None, **CASES}
    [control] = [pid for pid in children_of(server.pid) if status_of(pid, "Name")[0] == "ntpd-control"]
    found = {load: {case: Figures() for case in cases} for load in loads}
    for _ in range(turns):
        for load, send in loads.items():
            for case, asker in cases.items():
                before, started_s = cpu.read([control]), time.monotonic()
                with asking(asker, endpoints):
                    result = send()
                found[load][case].take(result, cpu.read([control]).since(before)[0], time.monotonic() - started_s)
    return found


def judge(found: dict[str, dict[str, Figures]]) -> bool:
    """Print the table; whether both bounds are kept."""
    kept = True
    for load, cases in found.items():
        quiet = cases["nobody asks"]
        answers, p99_ns = median(quiet.answers_per_s), median(quiet.p99_ns)
        print(load)
        for case, figures in cases.items():
            fall = 1 - median(figures.answers_per_s) / answers
            rise_ns = median(figures.p99_ns) - p99_ns
            good = fall < FALL_MAX and rise_ns < RISE_MAX_NS
            kept = kept and good
            print(
                f"  {'kept  ' if good else 'MISSED'} {case:<27} {median(figures.answers_per_s):10,.0f} answers/s"
                f" ({-fall:+.1%})  p99 {median(figures.p99_ns) / 1e3:8.1f} µs ({rise_ns / 1e3:+.1f})"
                f"  control {median(figures.control_ms_per_s):.2f} ms/s"
            )
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reports", description=__doc__)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--turn-s", type=float, default=3.0)
    parser.add_argument("--receive-on-server", action="store_true")
    parser.add_argument("--nice", type=int, default=-15 if os.geteuid() == 0 else 0, help="priority of the measurement")
    parser.add_argument("--json", type=Path, default=Path("build/bench-reports.json"))
    options = parser.parse_args()
    cores = Cores.available()
    network.private_network()
    network.steer_receive_processing(cores.server if options.receive_on_server else None)
    os.sched_setaffinity(0, {cores.generator})
    port = network.free_port()
    lines = [f"server 127.0.0.{2 + number} port 9 offline" for number in range(SOURCES)]
    # the later line counts: commands by UDP as well
    lines += [f"cmdport {port}", "bindcmdaddress 127.0.0.1"]
    load = Load(clients=4096, first=IPv4Address("127.1.0.0"))
    with cpu.priority(options.nice), running(ntpd_fast(), "127.0.0.1", lines, cores={cores.server}) as server:
        endpoints = [Endpoint(f"{server.directory}/cmd.sock"), Endpoint(None, "127.0.0.1", port)]
        with client(server.target, load) as sender:
            sender.run(1.0, rate=RATE)
            found = measure(server, sender, endpoints, options.turns, options.turn_s)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.json, {load: {case: vars(one) for case, one in cases.items()} for load, cases in found.items()})
    return 0 if judge(found) else 1


if __name__ == "__main__":
    sys.exit(main())
