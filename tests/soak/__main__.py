"""`python -m tests.soak`: serve under load for an hour (or `--duration`), and say whether anything grew or got lost.

Exit status 1 when something did. The table and every sample go into a JSON file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.cli import bounded, write_json
from tests.soak.load import RATE_MAX, Clients
from tests.soak.run import Outcome, soak
from tests.soak.samples import Sample

DURATION_MAX_S = 7 * 86400.0
_PROGRESS_S = 60.0


def print_outcome(outcome: Outcome) -> None:
    """The table, the losses, the verdict."""
    print(f"{outcome.elapsed_s:.0f} s at {outcome.rate:g} requests/s, {outcome.reports} reports")
    print(
        f"{'process':<12} {'started':>7} {'samples':>7} {'RSS':>8} {'PSS':>8}"
        f" {'own':>8} {'growth':>8} {'shared':>8} {'fds':>9}"
    )
    for trend in outcome.trends:
        descriptors = f"{trend.descriptors_first}→{trend.descriptors_last}"
        print(
            f"{trend.role:<12} {trend.processes:7} {trend.samples:7} {trend.rss_kib:8} {trend.pss_kib:8}"
            f" {trend.own_last_kib:8.0f} {trend.growth_kib:+8.0f} {trend.shared_kib:8} {descriptors:>9}   (KiB)"
        )
    for name, counters in outcome.kinds.items():
        print(f"{name}: " + ", ".join(f"{key} {value:,}" for key, value in counters.items()))
    print("disturbances: " + ", ".join(f"{name} {count}" for name, count in outcome.disturbances.items()))
    print("faults: " + (", ".join(f"{name} {n}" for name, n in outcome.faults._asdict().items() if n) or "none"))
    print(f"pauses of the machine: {outcome.pauses}, the longest {outcome.pause_max_s * 1e3:.0f} ms")
    print(f"lost: {outcome.lost}; " + ", ".join(f"{name} {count}" for name, count in outcome.explained.items()))
    for problem in outcome.problems:
        print(f"PROBLEM  {problem}")
    print("failed" if outcome.problems else "passed")


class Progress:
    """A line a minute, so that a log of an hour can be read."""

    def __init__(self) -> None:
        self._next_s = _PROGRESS_S

    def __call__(self, now_s: float, samples: Sequence[Sample], clients: Sequence[Clients]) -> None:
        if now_s < self._next_s:
            return
        self._next_s += _PROGRESS_S
        last = [sample for sample in samples if sample.at_s == samples[-1].at_s]
        memory = ", ".join(f"{sample.role} {sample.own_kib} KiB {sample.descriptors} fds" for sample in last)
        answered, lost = (sum(one.counters[name] for one in clients) for name in ("answered", "lost"))
        print(f"{now_s:6.0f} s: {memory}; {answered:,} answers, {lost} lost", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--duration", metavar="S", type=bounded(5.0, DURATION_MAX_S), default=3600.0)
    parser.add_argument("--rate", metavar="PER_S", type=bounded(100.0, RATE_MAX), default=50_000.0)
    parser.add_argument(
        "--realtime", action="store_true", help="take precedence over whatever else the machine does (needs root)"
    )
    parser.add_argument(
        "--stop-workers", action="store_true", help="stop a worker now and then for a quarter of a second"
    )
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"))
    options = parser.parse_args()
    outcome = soak(
        options.duration,
        options.rate,
        progress=Progress(),
        realtime=options.realtime,
        stop_workers=options.stop_workers,
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.json, outcome.as_json())
    print_outcome(outcome)
    return 1 if outcome.problems else 0


sys.exit(main())
