"""Command line of the load generator: `run` puts a server under load, `compare` measures servers side by side.

Exit status: 0 when all answers were right, 1 when some were wrong or a server failed, 2 for a wrong command line.
"""

import argparse
import ipaddress
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loadtest import cpu, network, report
from loadtest.client import Load, Result, client
from loadtest.compare import Cores, CoresError, compare
from loadtest.nts import KeyExchangeError, answer_holds, exchange_keys
from loadtest.requests import Key, mac_holds, signed_bank
from loadtest.scenarios import BANK, QUICK, SCENARIOS, WINDOW, Scenario, Verify, sealed_load
from loadtest.servers import Kind, chronyd, ntpd_fast
from loadtest.targets import Target, TargetRefusedError, target

# What one command may ask of a server: a test, not a siege.
DURATION_MAX_S = 600.0
RATE_MAX = 2_000_000.0
ROUNDS_MAX = 50


def bounded(low: float, high: float) -> "type[float]":
    """An argument type: a number within bounds."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return parse  # type: ignore[return-value]


def key_argument(text: str) -> Key:
    """`ID:TYPE:HEX`"""
    try:
        number, kind, secret = text.split(":")
        return Key(int(number), kind, bytes.fromhex(secret))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="ntpd-fast-loadtest", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="put one server under load and check its answers")
    run.add_argument("address", help="loopback, or within --allow-target")
    run.add_argument("port", type=int, nargs="?", default=123)
    run.add_argument("--allow-target", metavar="NETWORK", type=ipaddress.ip_network, action="append", default=[])
    run.add_argument("--duration", metavar="S", type=bounded(0.01, DURATION_MAX_S), default=5.0)
    run.add_argument("--rate", metavar="PER_S", type=bounded(0, RATE_MAX), default=1000.0, help="0: only --window")
    run.add_argument("--window", metavar="N", type=int, default=0, help="most requests outstanding")
    run.add_argument("--arrivals", choices=("even", "random"), default="random")
    run.add_argument("--burst", metavar="N", type=int, default=1, help="messages sent at a time")
    run.add_argument("--segments", metavar="N", type=int, default=1, help="requests in a message (UDP_SEGMENT)")
    run.add_argument("--clients", metavar="N", type=int, default=1)
    run.add_argument("--first", metavar="ADDRESS", type=ipaddress.ip_address, help="address of the first client")
    run.add_argument("--shift", metavar="BITS", type=int, default=0, help="clients' addresses are 2^BITS apart")
    run.add_argument("--sockets", metavar="N", type=int, default=1, help="source ports")
    run.add_argument("--interleaved", action="store_true")
    run.add_argument("--key", metavar="ID:TYPE:HEX", type=key_argument)
    run.add_argument(
        "--nts", metavar="PORT", type=int, help="keys are established on this port of the address, requests sealed"
    )
    run.add_argument("--ntp-version", type=int, choices=(1, 2, 3, 4), default=4)
    run.add_argument("--timeout", metavar="S", type=bounded(0.001, 60), default=0.2)
    run.add_argument("--spin", action="store_true", help="never sleep: exact pacing at the price of a core")
    run.add_argument("--core", metavar="N", type=int, help="run on this core")
    run.add_argument("--no-stamps", action="store_true", help="no kernel RX timestamps: cheaper, less exact")
    run.add_argument("--json", metavar="FILE", type=Path)

    versus = commands.add_parser("compare", help="measure servers side by side on this machine")
    versus.add_argument("scenarios", metavar="SCENARIO", nargs="*", help="default: all")
    versus.add_argument("--list", action="store_true", help="list the scenarios")
    versus.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, one round")
    versus.add_argument("--rounds", metavar="N", type=int, choices=range(1, ROUNDS_MAX + 1))
    versus.add_argument(
        "--server",
        metavar="NAME=COMMAND",
        type=Kind.parse,
        action="append",
        help="a server to start, {conf} standing for its configuration file; the first is the baseline"
        " (default: chronyd, then ntpd-fast)",
    )
    versus.add_argument(
        "--nice",
        metavar="N",
        type=int,
        choices=range(-20, 1),
        default=0,
        help="priority of servers and generator: below 0 keeps strangers off their cores (root only)",
    )
    versus.add_argument(
        "--realtime", action="store_true", help="run servers and generator under SCHED_FIFO (root only)"
    )
    versus.add_argument("--host-network", action="store_true", help="use the machine's own loopback device")
    versus.add_argument("--json", metavar="FILE", type=Path)
    return top


def summary(result: Result) -> dict[str, object]:
    return {
        "elapsed_s": round(result.elapsed_s, 3),
        "offered_per_s": round(result.offered_per_s),
        "answered_per_s": round(result.answered_per_s),
        "loss": result.loss,
        "counters": {name: value for name, value in result.counters.items() if value},
        "latency_ns": result.latency.summary(),
        "tx_error_ns": result.tx_error.summary(),
        "request_delay_ns": result.request_delay.summary(),
    }


def print_summary(where: Target, result: Result) -> None:
    print(
        f"{where}: {result.offered_per_s:,.0f} requests/s for {result.elapsed_s:.2f} s,"
        f" {result.answered_per_s:,.0f} answers/s, {result.loss:.3%} lost"
    )
    print("  " + ", ".join(f"{name} {value:,}" for name, value in result.counters.items() if value))
    for name, histogram in (
        ("latency", result.latency),
        ("TX timestamp error", result.tx_error),
        ("request delay", result.request_delay),
    ):
        print(
            f"  {name + ' µs':<22} mean {histogram.mean / 1e3:9.2f}  p50 {histogram.percentile(50) / 1e3:9.2f}"
            f"  p99 {histogram.percentile(99) / 1e3:9.2f}  max {histogram.maximum / 1e3:9.2f}"
        )


def authenticated(options: argparse.Namespace, load: Load) -> tuple[Load, Verify | None]:
    """The load with a key's or a session's requests, and what tells whether an answer is authentic.

    ValueError for both at once, KeyExchangeError when there is no session to be had.
    """
    key: Key | None = options.key
    if options.nts is not None:
        if key or options.ntp_version != 4:
            raise ValueError("NTS is for NTP version 4, without another key")
        session = exchange_keys(target(options.address, options.nts, options.allow_target))
        return sealed_load(load, session), lambda request, datagram: answer_holds(session, request, datagram)
    if key is None:
        return load, None
    if load.interleaved:
        raise ValueError("requests with a symmetric key cannot be interleaved")
    signed = replace(load, bank=lambda seed: signed_bank(BANK, seed, key, options.ntp_version))
    return signed, lambda _, datagram: mac_holds(key, datagram)


def run_command(options: argparse.Namespace) -> int:
    """`run`: ValueError and OSError for what cannot be done."""
    where = target(options.address, options.port, options.allow_target)
    load, verify = authenticated(
        options,
        Load(
            clients=options.clients,
            first=options.first,
            shift=options.shift,
            sockets=options.sockets,
            interleaved=options.interleaved,
            version=options.ntp_version,
            segments=options.segments,
            stamps=not options.no_stamps,
        ),
    )
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    with client(where, load) as sender:
        result = sender.run(
            options.duration,
            rate=options.rate,
            window=options.window,
            burst=options.burst,
            poisson=options.arrivals == "random",
            sleep=not options.spin,
            timeout_s=options.timeout,
        )
        forged = sum(not verify(sender.request(number), datagram) for number, datagram in result.samples if verify)
    print_summary(where, result)
    if forged:
        print(f"  {forged} of {len(result.samples)} sampled answers fail authentication")
    if options.json:
        write_json(options.json, summary(result))
    return 1 if result.wrong or forged or not result.counters["answered"] else 0


def write_json(path: Path, content: object) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(path.suffix + ".tmp")
    fresh.write_text(json.dumps(content, indent=1) + "\n")
    fresh.replace(path)


def chosen(names: Sequence[str]) -> list[Scenario]:
    """Scenarios by name, in the table's order. ValueError for a name that is not there."""
    known = {scenario.key for scenario in SCENARIOS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no scenario {', '.join(unknown)}; --list shows them")
    return [scenario for scenario in SCENARIOS if not names or scenario.key in names]


def compare_all(
    scenarios: Sequence[Scenario],
    kinds: Sequence[Kind],
    rounds: int | None,
    *,
    private: bool,
    nice: int = 0,
    realtime: bool = False,
) -> list[report.ScenarioReport]:
    """Run scenarios one after the other and print each table as it is done.

    rounds: instead of the scenarios' own. private: in a network namespace. nice, realtime: priority,
    which servers inherit.
    """
    if private:
        network.private_network()
    cores = Cores.available()
    names = [kind.name for kind in kinds]
    reports = []
    with cpu.priority(nice), cpu.realtime(realtime):
        for scenario in scenarios:
            done = compare(scenario, kinds, rounds or scenario.rounds, cores, private=private, progress=progress)
            progress("")
            print(report.table(done, names), flush=True)
            reports.append(done)
    print(report.METHOD.format(window=WINDOW, receive=report.RECEIVE_MOVED if private else ""))
    return reports


def progress(text: str) -> None:
    """One line that the next one overwrites, for who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def compare_command(options: argparse.Namespace) -> int:
    """`compare`"""
    if options.list:
        for scenario in SCENARIOS:
            print(f"{scenario.key:<20} {scenario.title}")
        return 0
    scenarios = chosen(options.scenarios or (QUICK if options.quick else ()))
    rounds = options.rounds or (1 if options.quick else None)
    kinds = options.server or [chronyd(), ntpd_fast()]
    reports = compare_all(
        scenarios, kinds, rounds, private=not options.host_network, nice=options.nice, realtime=options.realtime
    )
    if options.json:
        names = [kind.name for kind in kinds]
        write_json(options.json, report.as_json(reports, names, WINDOW, {"rounds": rounds}))
    return 1 if any(done.problems for done in reports) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return run_command(options) if options.command == "run" else compare_command(options)
    except (TargetRefusedError, KeyExchangeError, ValueError, CoresError, OSError) as error:
        print(f"ntpd-fast-loadtest: {error}", file=sys.stderr)
        return 2
