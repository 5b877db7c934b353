"""The search for the highest rate, and how disturbed runs are told and repeated."""

import pytest

from loadtest import measure
from loadtest.client import Result
from loadtest.histogram import Histogram
from loadtest.measure import Cost


def cost(*, sent: int = 1000, answered: int = 1000, elapsed_s: float = 1.0, waiting_ns: int = 0) -> Cost:
    empty = Histogram.empty()
    counters = {"sent": sent, "answered": answered, "eligible_answered": 0}
    return Cost(Result(elapsed_s, counters, empty, empty, empty), 5_000_000, waiting_ns, 0)


@pytest.mark.parametrize("capacity", [25_000, 123_456, 199_999, 1_900_000])
def test_the_highest_passing_rate_is_found_within_the_resolution(capacity: float) -> None:
    tried = []

    def passes(rate: float) -> bool:
        tried.append(rate)
        return rate <= capacity

    found = measure.highest_passing(passes)
    assert capacity / (1 + measure.RESOLUTION) <= found <= capacity
    assert len(tried) <= 16


def test_a_server_that_cannot_do_the_lowest_rate_has_no_peak() -> None:
    assert measure.highest_passing(lambda _: False) == 0


def test_the_search_ends_at_the_highest_rate() -> None:
    assert measure.highest_passing(lambda _: True) == measure.HIGHEST_RATE


def test_cost_is_cpu_time_by_answers() -> None:
    assert cost(answered=500).cpu_us == 10


def test_an_undisturbed_run_is_not_repeated() -> None:
    runs = [cost()]
    assert measure.quietest(runs.pop) == cost()


def test_of_disturbed_runs_the_quietest_counts() -> None:
    runs = [cost(waiting_ns=int(share * 1e9)) for share in (0.3, 0.2, 0.5, 0.4)]
    assert measure.quietest(iter(runs).__next__) is runs[1]


def test_repeating_ends_with_the_first_quiet_run() -> None:
    runs = [cost(waiting_ns=10**8), cost(waiting_ns=10**6), cost(waiting_ns=0)]
    assert measure.quietest(iter(runs).__next__) is runs[1]


def probed(capacity: float, *, offered_most: float = 1e9, disturbed: int = 0) -> tuple[measure.Peak, int]:
    """The peak found, and how many probes it took, when the first `disturbed` tries of a rate are spoilt."""
    tries: dict[float, int] = {}

    def probe(rate: float) -> Cost:
        tries[rate] = tries.get(rate, 0) + 1
        if tries[rate] <= disturbed:
            return cost(sent=int(rate), answered=int(rate * 0.9), waiting_ns=10**8)
        sent = min(rate, offered_most)
        return cost(sent=int(sent), answered=int(min(sent, capacity)))

    return measure.peak(probe), sum(tries.values())


def test_the_peak_is_where_loss_begins() -> None:
    peak, _ = probed(150_000)
    assert 150_000 / 1.03 <= peak.rate <= 150_000 * 1.001
    assert not peak.generator_bound


def test_disturbed_probes_cost_tries_not_rate() -> None:
    quiet, _ = probed(150_000)
    assert probed(150_000, disturbed=measure.PROBE_DISTURBED - 1)[0] == quiet


def test_a_machine_that_is_never_quiet_ends_the_search() -> None:
    with pytest.raises(measure.MeasurementError, match="20000 requests/s"):
        probed(150_000, disturbed=100)


def test_a_server_without_any_peak_is_a_failed_measurement() -> None:
    with pytest.raises(measure.MeasurementError, match="20000 requests/s"):
        probed(10_000)


def test_a_generator_that_is_the_slower_one_is_told_from_a_slow_server() -> None:
    peak, _ = probed(1e9, offered_most=100_000)
    assert 100_000 / 1.03 <= peak.rate <= 100_000 * 1.035
    assert peak.generator_bound


def test_a_generator_that_falls_short_far_above_the_peak_does_not_hide_it() -> None:
    peak, _ = probed(200_000, offered_most=250_000)
    assert 200_000 / 1.03 <= peak.rate <= 200_000 * 1.001
    assert not peak.generator_bound
