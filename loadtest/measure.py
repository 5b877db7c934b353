"""Single measurements of one running server: what an answer costs, and the highest rate it keeps up with.

Cost is the server's CPU time (`cpu`), taken from idle to idle around a run, divided by the answers of the run.
Strangers on the cores hardly change that, but they spoil rates, losses and latencies. So each run also tells how long
server and generator waited for their cores; one that was disturbed is repeated, a bounded number of times, and the
quietest counts.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtest import cpu
from loadtest.client import Result
from loadtest.cpu import MeasurementError
from loadtest.servers import Running

LOSS_LIMIT = 0.001
PROBE_S = 0.3
PROBE_TRIES = 3
PROBE_DISTURBED = 8
QUIET = 0.05  # share of a run that server and generator together may wait for their cores; waking up is some of it
QUIET_TRIES = 3
LOWEST_RATE = 20_000.0
HIGHEST_RATE = 2_000_000.0
RESOLUTION = 0.03
GENERATOR_SHORTFALL = 0.03  # share of the schedule a generator may miss before the probe is about itself
SETTLE_S = 0.02

Metrics = dict[str, float]


@dataclass(frozen=True)
class Peak:
    """The highest rate (requests/s) that was kept up with. generator_bound: the generator could not offer much more, so
    the server's own limit may be higher."""

    rate: float
    generator_bound: bool


@dataclass(frozen=True)
class Cost:
    """A run and what the server spent on it. The waiting times are ns ready to run without a core."""

    result: Result
    busy_ns: int
    server_waiting_ns: int
    generator_waiting_ns: int

    @property
    def cpu_us(self) -> float:
        """µs of CPU time an answer; run() insists on answers."""
        return self.busy_ns / 1000 / self.result.counters["answered"]

    @property
    def waiting(self) -> float:
        """How long server and generator waited for their cores, as share of the run: how disturbed it was."""
        return (self.server_waiting_ns + self.generator_waiting_ns) / 1e9 / self.result.elapsed_s


def run(server: Running, send: Callable[[], Result]) -> Cost:
    """Measure the server's CPU time around one run. MeasurementError when nothing was answered."""
    time.sleep(SETTLE_S)
    own_before = cpu.read([os.getpid()])
    before = server.cpu()
    result = send()
    time.sleep(SETTLE_S)
    busy_ns, waiting_ns = server.cpu().since(before)
    own_waiting_ns = cpu.read([os.getpid()]).since(own_before)[1]
    if not result.counters["answered"]:
        raise MeasurementError(f"{server.name} answered nothing:\n{server.log()}")
    return Cost(result, busy_ns, waiting_ns, own_waiting_ns)


def quietest(measured: Callable[[], Cost]) -> Cost:
    """The first undisturbed run, or the least disturbed of QUIET_TRIES."""
    best = measured()
    for _ in range(QUIET_TRIES - 1):
        if best.waiting <= QUIET:
            break
        best = min(best, measured(), key=lambda cost: cost.waiting)
    return best


def highest_passing(
    passes: Callable[[float], bool],
    low: float = LOWEST_RATE,
    high: float = HIGHEST_RATE,
    resolution: float = RESOLUTION,
) -> float:
    """The highest rate that passes, by doubling, then bisection to a relative `resolution`.

    0 when not even `low` passes; `high` when everything does.
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


def peak(probe: Callable[[float], Cost]) -> Peak:
    """The highest offered rate of which less than LOSS_LIMIT is lost. probe: a run at a rate.

    A rate fails when PROBE_TRIES runs lost too much; disturbed ones do not count, up to PROBE_DISTURBED of them.
    MeasurementError when even the lowest rate is too much.
    """
    short_at = HIGHEST_RATE * 2

    def passes(rate: float) -> bool:
        nonlocal short_at
        failed = disturbed = 0
        short = True
        while failed < PROBE_TRIES and disturbed < PROBE_DISTURBED:
            cost = probe(rate)
            offered = cost.result.offered_per_s >= rate * (1 - GENERATOR_SHORTFALL)
            if offered and cost.result.loss < LOSS_LIMIT:
                return True
            if cost.waiting > QUIET:
                disturbed += 1
            else:
                failed += 1
                short = short and not offered
        if failed and short:
            short_at = min(short_at, rate)
        return False

    highest = highest_passing(passes)
    if not highest:
        raise MeasurementError(f"more than {LOSS_LIMIT:.1%} was lost even at {LOWEST_RATE:.0f} requests/s")
    # Where the generator falls short far above, the server was still found out below.
    return Peak(highest, generator_bound=short_at <= highest * (1 + 2 * RESOLUTION))


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
