"""The comparison: servers take turns under each scenario, on a core of their own beside the generator's.

A server that cannot do a scenario, or answers wrongly, is a problem of that scenario's report and of the exit
status; the other scenarios go on.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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


def measure_once(kind: Kind, scenario: Scenario, cores: Cores) -> Metrics:
    """One server started, warmed up, measured and stopped."""
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
            metrics: Metrics = {}
            for measure in scenario.measures:
                metrics.update(measure(bench))
            return metrics


def compare(
    scenario: Scenario,
    kinds: Sequence[Kind],
    rounds: int,
    cores: Cores,
    *,
    private: bool,
    progress: Callable[[str], None] = lambda _: None,
) -> ScenarioReport:
    """All rounds of one scenario. The order of the servers alternates from round to round.

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
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                if kind.name in report.problems:
                    continue
                progress(f"{scenario.key}: round {number + 1} of {rounds}, {kind.name}")
                try:
                    metrics = measure_once(kind, scenario, cores)
                except (ServerError, MeasurementError, KeyExchangeError, OSError) as error:
                    report.problems[kind.name] = f"{type(error).__name__}: {error}"
                else:
                    report.rounds.setdefault(kind.name, []).append(metrics)
    finally:
        os.sched_setaffinity(0, cores.all)
    return report
