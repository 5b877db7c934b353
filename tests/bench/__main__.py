"""`python -m tests.bench [--quick]`: measure against chronyd and judge the budgets.

Exit status 1 when a budget is missed, a server failed or an answer was wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import cpu, report
from loadtest.cli import chosen, compare_all, write_json
from loadtest.scenarios import QUICK, WINDOW
from loadtest.servers import chronyd, ntpd_fast
from tests.bench.budgets import BASELINE, BUDGETS, OURS


def judge(reports: Sequence[report.ScenarioReport]) -> bool:
    """Print each budget of the scenarios that were run; true when all are kept."""
    kept = True
    done = {one.key: one for one in reports}
    for budget in BUDGETS:
        if budget.scenario not in done:
            continue
        figure = budget.figure(done[budget.scenario])
        good = budget.kept(figure)
        kept = kept and good
        print(f"{'kept  ' if good else 'MISSED'}  {budget}: {'not measured' if figure is None else f'{figure:.3f}'}")
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="default: all")
    parser.add_argument("--quick", action="store_true", help="a few scenarios, one round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--nice", type=int, default=-15 if os.geteuid() == 0 else 0, help="priority of the measurement")
    parser.add_argument(
        "--realtime",
        action=argparse.BooleanOptionalAction,
        default=cpu.may_realtime(),
        help="keep all others off the cores (SCHED_FIFO)",
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    scenarios = chosen(options.scenarios or (QUICK if options.quick else ()))
    rounds = options.rounds or (1 if options.quick else None)
    reports = compare_all(
        scenarios, [chronyd(), ntpd_fast()], rounds, private=True, nice=options.nice, realtime=options.realtime
    )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.json, report.as_json(reports, [BASELINE, OURS], WINDOW, {"rounds": rounds}))
    print()
    kept = judge(reports)
    return 0 if kept and not any(one.problems for one in reports) else 1


sys.exit(main())
