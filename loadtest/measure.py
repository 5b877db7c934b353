"""Single measurements of one running server: what an answer costs at a given rate, what it can answer at
most, and what is left of that when more is offered.

Cost is the server's CPU time (`cpu`), taken from idle to idle around a run, divided by the answers of the
run. The core may be shared with strangers: that makes a run last longer but hardly changes this figure,
while rates and losses suffer; `waiting` tells how long the server was kept from its core.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.client import Client, Result
from loadtest.servers import Running

LOSS_LIMIT = 0.001
PROBE_S = 0.4
PROBE_TRIES = 3
LOWEST_RATE = 20_000.0
HIGHEST_RATE = 2_000_000.0
RESOLUTION = 0.03
GENERATOR_SHORTFALL = 0.03  # share of the schedule a generator may miss before the probe is about itself
SETTLE_S = 0.02

Metrics = dict[str, float]


class GeneratorLimitError(RuntimeError):
    """The generator could not offer what was asked for."""


@dataclass(frozen=True)
class Cost:
    """A run and what the server spent on it."""

    result: Result
    busy_ns: int
    waiting_ns: int

    @property
    def cpu_us(self) -> float:
        """µs of CPU time an answer. ZeroDivisionError is avoided by run(): it insists on answers."""
        return self.busy_ns / 1000 / self.result.counters["answered"]

    @property
    def waiting(self) -> float:
        """How long the server waited for its core, as share of the run."""
        return self.waiting_ns / 1e9 / self.result.elapsed_s


def run(server: Running, send: Callable[[], Result]) -> Cost:
    """Measure the server's CPU time around one run. RuntimeError when nothing was answered."""
    time.sleep(SETTLE_S)
    before = server.cpu()
    result = send()
    time.sleep(SETTLE_S)
    busy_ns, waiting_ns = server.cpu().since(before)
    if not result.counters["answered"]:
        raise RuntimeError(f"{server.name} answered nothing:\n{server.log()}")
    return Cost(result, busy_ns, waiting_ns)


def highest_passing(
    passes: Callable[[float], bool],
    low: float = LOWEST_RATE,
    high: float = HIGHEST_RATE,
    resolution: float = RESOLUTION,
) -> float:
    """The highest rate that passes, by doubling and bisection to a relative `resolution`; 0 when not even
    `low` does.
    """
    if not passes(low):
        return 0.0
    good, bad = low, 0.0
    while not bad:
        if good >= high:
            return good
        candidate = min(good * 2, high)
        if passes(candidate):
            good = candidate
        else:
            bad = candidate
    while bad / good > 1 + resolution:
        middle = (good * bad) ** 0.5
        if passes(middle):
            good = middle
        else:
            bad = middle
    return good


def peak(client: Client) -> float:
    """The highest offered rate (requests/s, random arrivals) of which less than LOSS_LIMIT is lost.

    A rate passes when one of PROBE_TRIES short runs does: strangers on the core cost a try, not the result.
    GeneratorLimitError when the generator is the slower one.
    """

    def passes(rate: float) -> bool:
        offered = 0.0
        for _ in range(PROBE_TRIES):
            result = client.run(PROBE_S, rate=rate, poisson=True, timeout_s=0.1)
            offered = max(offered, result.offered_per_s)
            if result.offered_per_s >= rate * (1 - GENERATOR_SHORTFALL) and result.loss < LOSS_LIMIT:
                return True
        if offered < rate * (1 - GENERATOR_SHORTFALL):
            raise GeneratorLimitError(f"{rate:.0f} requests/s wanted, {offered:.0f} offered")
        return False

    return highest_passing(passes)


def distribution_metrics(result: Result) -> Metrics:
    """The figures of a run that describe its answers rather than their cost."""
    error = result.tx_error.magnitudes()
    asked = result.counters["eligible_answered"]
    metrics = {
        "latency_p50_us": result.latency.percentile(50) / 1e3,
        "latency_p99_us": result.latency.percentile(99) / 1e3,
        "latency_max_us": result.latency.maximum / 1e3,
        "tx_error_mean_ns": error.mean,
        "tx_error_p50_ns": error.percentile(50),
        "tx_error_p99_ns": error.percentile(99),
        "loss": result.loss,
    }
    if asked:
        metrics["interleaved_share"] = result.counters["eligible_interleaved"] / asked
    return metrics
