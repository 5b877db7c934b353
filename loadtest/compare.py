"""The comparison: servers take turns under each scenario, on a core of their own beside the generator's.

A server that cannot do a scenario, or answers wrongly, is a problem of that scenario's report and of the exit
status; the other scenarios go on.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from loadtest import network
from loadtest.client import client
from loadtest.cpu import MeasurementError
from loadtest.measure import Metrics
from loadtest.nts import KeyExchangeError
from loadtest.report import ScenarioReport
from loadtest.scenarios import Bench, Scenario
from loadtest.servers import Kind, ServerError, running

WARM_UP_S = 0.3
WARM_UP_PASSES = 3  # requests of each client, so that tables are filled and interleaved answers flow
WARM_UP_CLIENTS_MAX = 100_000  # scenarios with more fill the tables in their measure


class CoresError(RuntimeError):
    """Fewer than two cores: server and generator would measure each other."""


@dataclass(frozen=True)
class Cores:
    """Who runs where."""

    server: int
    generator: int
    all: frozenset[int]

    @classmethod
    def available(cls) -> "Cores":
        """The first and the last core this process may use. CoresError when there is only one."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise CoresError("the comparison needs two cores, one for the server and one for the generator")
        return cls(allowed[0], allowed[-1], frozenset(allowed))


@contextmanager
def ready(kind: Kind, scenario: Scenario, cores: Cores) -> Iterator[Bench]:
    """A server started and warmed up."""
    if scenario.workers > 1:
        lines = tuple(line for line in kind.lines if not line.startswith("workers "))
        if lines != kind.lines:
            kind = replace(kind, lines=(*lines, f"workers {scenario.workers}"))
    server_cores = set(cores.all) if scenario.workers > 1 else {cores.server}
    with running(kind, scenario.address, scenario.lines, scenario.files(), server_cores) as server:
        load, verify = scenario.load(server)
        with client(server.target, load) as sender:
            bench = Bench(server, scenario, sender, verify)
            if load.clients <= WARM_UP_CLIENTS_MAX:
                at_least = WARM_UP_PASSES * load.clients / scenario.rate
                bench.check(sender.run(max(WARM_UP_S, at_least), rate=scenario.rate))
            yield bench


def measure_once(bench: Bench) -> Metrics:
    """Everything the scenario measures, once."""
    metrics: Metrics = {}
    for measure in bench.scenario.measures:
        metrics.update(measure(bench))
    return metrics


def one_round(report: ScenarioReport, scenario: Scenario, kinds: Sequence[Kind], cores: Cores, number: int) -> None:
    """Start those servers that had no problem so far, let them take turns, stop them."""
    benches: dict[str, Bench] = {}
    stacks: dict[str, ExitStack] = {}

    def attempt(name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except (ServerError, MeasurementError, KeyExchangeError, OSError) as error:
            report.problems.setdefault(name, f"{type(error).__name__}: {error}")

    def start(kind: Kind) -> None:
        stacks[kind.name] = ExitStack()
        benches[kind.name] = stacks[kind.name].enter_context(ready(kind, scenario, cores))

    def measured(name: str) -> None:
        report.rounds.setdefault(name, []).append(measure_once(benches[name]))

    try:
        for kind in kinds:
            if kind.name not in report.problems:
                attempt(kind.name, partial(start, kind))
        for turn in range(scenario.turns):
            for name in list(benches) if (number + turn) % 2 == 0 else list(reversed(benches)):
                if name not in report.problems:
                    attempt(name, partial(measured, name))
    finally:
        for name, stack in stacks.items():
            attempt(name, stack.close)


def compare(
    scenario: Scenario,
    kinds: Sequence[Kind],
    rounds: int,
    cores: Cores,
    *,
    private: bool,
    progress: Callable[[str], None] = lambda _: None,
) -> ScenarioReport:
    """All rounds of one scenario. In a round all servers run, started afresh, and take `turns` turns at being measured,
    short ones, so that what changes slowly on the machine meets all of them. Their order alternates.

    private: this process has a network namespace of its own (`network.private_network`).
    """
    report = ScenarioReport(scenario.key, scenario.title)
    if scenario.needs_private_network and not private:
        report.problems = {kind.name: "needs a private network" for kind in kinds}
        return report
    if private:
        network.steer_receive_processing(cores.server if scenario.receive_on_server else None)
    os.sched_setaffinity(0, {cores.generator})

    try:
        for number in range(rounds):
            progress(f"{scenario.key}: round {number + 1} of {rounds}")
            one_round(report, scenario, kinds, cores, number)
    finally:
        os.sched_setaffinity(0, cores.all)
    return report
