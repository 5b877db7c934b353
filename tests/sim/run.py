"""Run scenarios and the accuracy table with many seeds: `python -m tests.sim.run [--help]`.

Prints a line for each scenario and each row; of failures the command that repeats them; and at last what failed.
The exit status is 1 if a scenario failed, 4 if the accuracy table was missed, 5 for both.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor

import tests.sim.scenarios  # noqa: F401  (fills the registry)
from tests.sim.accuracy import ROWS, Result, Verdict, judge, run_row
from tests.sim.report import write_page
from tests.sim.scenario import SCENARIOS

JOBS = 2
ACCURACY_SEEDS = 16
ACCURACY_SEEDS_OF_SHORT_ROWS = 64
"""Rows with long polling intervals see few samples: their medians scatter more and cost less."""

FAILED_SCENARIOS, FAILED_ACCURACY = 1, 4


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


def report_accuracy(verdicts: Sequence[Verdict]) -> list[str]:
    """Print the accuracy table; returns the rows that are not as they must be."""
    missed = []
    if verdicts:
        print("     row   seeds  offset RMS of chrony's  frequency RMS of chrony's  worst seed of the bounds")
    for verdict in verdicts:
        row, failures = verdict.row, verdict.failures()
        worst_offset = max(result.offset_rms_s for result in verdict.results) / row.bound_offset_rms_s
        worst_frequency = max(result.frequency_rms for result in verdict.results) / row.bound_frequency_rms
        print(
            f"{'FAIL' if failures else 'ok':4} {row.number:5} {len(verdict.results):5}"
            f"  {verdict.offset_rms_s:10.2e} {verdict.offset_rms_s / row.chrony_offset_rms_s:12.2f}"
            f" {verdict.frequency_rms:14.2e} {verdict.frequency_rms / row.chrony_frequency_rms:12.2f}"
            f"  {worst_offset:11.2f} {worst_frequency:5.2f}"
        )
        for failure in failures:
            print(f"     {failure}")
        if failures:
            missed.append(f"accuracy:{row.number}")
    return missed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description="Run the simulator's scenarios.")
    parser.add_argument("--seeds", type=int, help="number of seeds of everything (default: its own)")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--only", default="*", help="name or pattern of names; accuracy:ROW are rows of the table")
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes")
    parser.add_argument("--list", action="store_true", help="list the names")
    parser.add_argument("--report", metavar="FILE", help="write the page on accuracy")
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
    if not names and not rows:
        parser.error(f"nothing is called {options.only}")
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
        verdicts = judge(future.result() for future in accuracy)
        missed = report_accuracy(verdicts)
        failed = [name for name in names if not report_scenario(name, runs[name])]
    if options.report:
        write_page(options.report, verdicts)
    print(
        f"\n{len(names) - len(failed)} of {len(names)} scenarios held, {len(rows) - len(missed)} of {len(rows)} rows"
        f" of the accuracy table are as they must be; {time.monotonic() - started:.0f} s"
    )
    for name in (*failed, *missed):
        print(f"FAIL {name}")
    return (FAILED_SCENARIOS if failed else 0) | (FAILED_ACCURACY if missed else 0)


if __name__ == "__main__":
    sys.exit(main())
