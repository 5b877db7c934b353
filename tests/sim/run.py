"""Run scenarios and the accuracy table with many seeds: `python -m tests.sim.run [--help]`.

Prints a line for each scenario; of failures the command that repeats them. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor

import tests.sim.scenarios  # noqa: F401  (fills the registry)
from tests.sim.accuracy import ROWS, Result, judge, run_row
from tests.sim.scenario import SCENARIOS

JOBS = 2
ACCURACY_SEEDS = 16
ACCURACY_SEEDS_OF_SHORT_ROWS = 48
"""Rows with long polling intervals see few samples: their medians scatter more and cost less."""


def accuracy_seeds(number: str) -> int:
    """How many seeds a row of the accuracy table takes."""
    row = next(row for row in ROWS if row.number == number)
    return ACCURACY_SEEDS if row.source.startswith("minpoll") else ACCURACY_SEEDS_OF_SHORT_ROWS


def run_scenario(name: str, seed: int) -> float:
    """CPU time of one run, s."""
    started = time.process_time()
    SCENARIOS[name].run(seed)
    return time.process_time() - started


def run_accuracy(number: str, seed: int) -> Result:
    """One run of a row of the accuracy table."""
    return run_row(next(row for row in ROWS if row.number == number), seed)


def report_scenario(name: str, runs: Sequence[tuple[int, Future[float]]]) -> bool:
    """Print what became of a scenario; whether it held with all seeds."""
    failures = [(seed, future.exception()) for seed, future in runs if future.exception() is not None]
    seconds = sum(future.result() for _, future in runs if future.exception() is None)
    print(f"{'FAIL' if failures else 'ok':4} {name}: {len(runs)} seeds, {seconds:.1f} s", flush=True)
    for seed, failure in failures:
        print(f"     python -m tests.sim.run --seed {seed} --only '{name}'")
        if failure is not None:
            lines = "".join(traceback.format_exception(failure)).splitlines()
            print("     " + "\n     ".join(line for line in lines[-12:] if line.strip('"')))
    return not failures


def report_accuracy(results: Iterable[Result]) -> bool:
    """Print the accuracy table; whether every row is as it must be."""
    good = True
    for verdict in judge(results):
        row, failures = verdict.row, verdict.failures()
        good = good and not failures
        print(
            f"{'FAIL' if failures else 'ok':4} accuracy:{row.number} {len(verdict.results)} seeds, offset "
            f"{verdict.offset_rms_s:.2e} ({verdict.offset_rms_s / row.chrony_offset_rms_s:.2f} of chrony's), "
            f"frequency {verdict.frequency_rms:.2e} "
            f"({verdict.frequency_rms / row.chrony_frequency_rms:.2f})"
        )
        for failure in failures:
            print(f"     {failure}")
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Run the simulator's scenarios.")
    parser.add_argument("--seeds", type=int, help="number of seeds of everything (default: its own)")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--only", default="*", help="name or pattern of names; accuracy:ROW are rows of the table")
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes")
    parser.add_argument("--list", action="store_true", help="list the names")
    options = parser.parse_args(arguments)

    def wanted(name: str) -> bool:
        return name == options.only or fnmatch.fnmatchcase(name, options.only)

    def seeds_of(own: int) -> Sequence[int]:
        return range(options.seeds or own) if options.seed is None else [options.seed]

    names = [name for name in SCENARIOS if wanted(name)]
    rows = [row.number for row in ROWS if wanted(f"accuracy:{row.number}")]
    if options.list:
        print(*names, *(f"accuracy:{number}" for number in rows), sep="\n")
        return 0
    started = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        accuracy = [
            pool.submit(run_accuracy, number, seed)
            for number in rows
            for seed in seeds_of(accuracy_seeds(number))
        ]
        runs = {
            name: [(seed, pool.submit(run_scenario, name, seed)) for seed in seeds_of(SCENARIOS[name].seeds)]
            for name in names
        }
        good = report_accuracy(future.result() for future in accuracy)
        for name in names:
            good &= report_scenario(name, runs[name])
    print(f"{time.monotonic() - started:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
