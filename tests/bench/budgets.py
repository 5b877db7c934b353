"""What the server must reach, one row a figure. `python -m tests.bench` measures and judges.

A ratio is ours to chronyd's in the same run; a share and a figure are our own. Where a row has no limit, the figure is
only reported.
"""

from dataclasses import dataclass

from loadtest.report import ScenarioReport

BASELINE = "chronyd"
OURS = "ntpd-fast"


@dataclass(frozen=True)
class Budget:
    """A bound on one metric of one scenario. of: `ratio` to the baseline, or our own `value`."""

    scenario: str
    metric: str
    of: str
    most: float | None = None
    least: float | None = None

    def figure(self, report: ScenarioReport) -> float | None:
        """What was measured; None when it was not.

        Where the generator was the limit, our highest rate is at least what was measured, and the ratio with it; the
        baseline's would be too low a one to compare with.
        """
        if self.metric == "peak_per_s" and any(report.values(BASELINE, "generator_bound")):
            return None
        if self.of == "ratio":
            return report.ratio(self.metric, OURS, BASELINE)
        return report.median(OURS, self.metric)

    def kept(self, figure: float | None) -> bool:
        """A figure that is missing keeps no budget."""
        if figure is None:
            return False
        return (self.most is None or figure <= self.most) and (self.least is None or figure >= self.least)

    def __str__(self) -> str:
        bound = f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"
        what = " × chronyd's" if self.of == "ratio" else ""
        return f"{self.scenario}: {self.metric} {bound}{what}"


BUDGETS = (
    # CPU time of an answer, at a fixed rate and when requests always wait
    Budget("basic", "cpu_us", "ratio", most=0.8),
    Budget("basic", "busy_cpu_us", "ratio", most=0.8),
    Budget("basic-16k", "cpu_us", "ratio", most=0.8),
    Budget("basic-16k", "busy_cpu_us", "ratio", most=0.8),
    Budget("basic-ipv6", "cpu_us", "ratio", most=0.8),
    Budget("basic-ipv6", "busy_cpu_us", "ratio", most=0.8),
    Budget("interleaved", "cpu_us", "ratio", most=0.75),
    Budget("interleaved", "busy_cpu_us", "ratio", most=0.75),
    Budget("key-SHA256", "cpu_us", "ratio", most=1.0),
    Budget("key-SHA256", "busy_cpu_us", "ratio", most=1.0),
    Budget("key-AES128", "cpu_us", "ratio", most=1.0),
    Budget("key-AES128", "busy_cpu_us", "ratio", most=1.0),
    Budget("nts", "cpu_us", "ratio", most=0.75),
    Budget("nts", "busy_cpu_us", "ratio", most=0.75),
    Budget("nts", "handshake_us", "ratio", most=1.1),
    Budget("nts-interleaved", "cpu_us", "ratio", most=0.7),
    Budget("nts-interleaved", "busy_cpu_us", "ratio", most=0.7),
    # transmit timestamps
    Budget("basic", "tx_error_mean_ns", "ratio", most=1.0),
    Budget("basic", "tx_error_p99_ns", "ratio", most=1.0),
    Budget("basic-10k/s", "tx_error_mean_ns", "ratio", most=1.0),
    Budget("basic-10k/s", "tx_error_p99_ns", "ratio", most=1.0),
    Budget("interleaved", "tx_error_mean_ns", "ratio", most=1.0),
    Budget("interleaved", "tx_error_p99_ns", "ratio", most=1.0),
    Budget("interleaved-10k/s", "tx_error_mean_ns", "ratio", most=1.0),
    Budget("interleaved-10k/s", "tx_error_p99_ns", "ratio", most=1.0),
    Budget("interleaved", "interleaved_share", "value", least=0.99),
    Budget("nts-interleaved", "interleaved_share", "value", least=0.99),
    # rates
    Budget("peak", "peak_per_s", "ratio", least=1.5),
    Budget("peak-interleaved", "peak_per_s", "ratio", least=1.5),
    Budget("peak", "overload_share", "value", least=0.95),
    Budget("peak-16k", "overload_share", "value", least=0.95),
    # an address that others use too is answered as often as the leak of its rate limit lets through (1 in 4)
    Budget("spoofed", "answered_share", "value", least=0.2),
    # a million clients
    Budget("million", "shared_mib", "value", most=128),
    Budget("million", "latency_p99_us", "value", most=1000),
    Budget("million-interleaved", "interleaved_share", "value", least=0.99),
)
