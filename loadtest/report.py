"""Figures of a comparison: medians, ratios, the table people read and the JSON programs read."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.measure import Metrics

# metric → (unit or remark, format); a metric without a row prints with three decimals
METRICS = {
    "cpu_us": ("CPU µs/answer at the offered rate", ".2f"),
    "busy_cpu_us": ("CPU µs/answer, always busy", ".2f"),
    "busy_per_s": ("answers/s, always busy", ",.0f"),
    "peak_per_s": ("highest rate, loss < 0.1 %", ",.0f"),
    "generator_bound": ("the generator's limit: 1, else 0", ".0f"),
    "overload_offered": ("offered, × own peak", ".2f"),
    "overload_share": ("answered, × own peak", ".3f"),
    "overload_p50_us": ("latency µs p50, overloaded", ",.0f"),
    "overload_p99_us": ("latency µs p99, overloaded", ",.0f"),
    "overload_cpu_us": ("CPU µs/answer, overloaded", ".2f"),
    "latency_p50_us": ("latency µs p50", ",.1f"),
    "latency_p99_us": ("latency µs p99", ",.1f"),
    "latency_max_us": ("latency µs maximum", ",.0f"),
    "tx_error_mean_ns": ("TX timestamp error ns, mean", ",.0f"),
    "tx_error_p50_ns": ("TX timestamp error ns, p50", ",.0f"),
    "tx_error_p99_ns": ("TX timestamp error ns, p99", ",.0f"),
    "interleaved_share": ("interleaved of those due", ".4f"),
    "answered_share": ("answered", ".3f"),
    "handshake_us": ("CPU µs/NTS-KE handshake", ".0f"),
    "memory_mib": ("memory MiB", ".1f"),
    "shared_mib": ("shared memory MiB", ".1f"),
    "loss": ("loss", ".5f"),
    "waiting": ("waited for a core, share of the run", ".3f"),
}

METHOD = """\
How it was measured: servers run side by side on the same core, started afresh each round, and take short turns at
being measured; figures are medians over all turns (lowest–highest), the ratio is the median of the turns' ratios
(second server / first; lower–upper quartile). CPU time is what the
scheduler charged all threads of the server (/proc schedstat, ns), from idle to idle around a run, divided by
the answers of that run. Arrivals are random (Poisson) where a rate is offered, and {window} outstanding where
the server is kept busy. TX timestamp error is the distance between the server's transmit timestamp and the
kernel's receive timestamp of that answer at the client's socket, on the same clock. On loopback the receive
processing of a datagram runs where it was sent: that of requests on the generator's core, that of answers on
the server's, which is part of its CPU time. {receive}"""
RECEIVE_MOVED = "Rows that say so move all of it to the server's core."


@dataclass
class ScenarioReport:
    """All rounds of one scenario: for each server the metrics of each round."""

    key: str
    title: str
    rounds: dict[str, list[Metrics]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  # by server: why it has no (more) rounds

    def values(self, server: str, metric: str) -> list[float]:
        return [metrics[metric] for metrics in self.rounds.get(server, []) if metric in metrics]

    def median(self, server: str, metric: str) -> float | None:
        found = self.values(server, metric)
        return statistics.median(found) if found else None

    def ratio(self, metric: str, server: str, baseline: str) -> float | None:
        """Median of the rounds' ratios; None when one of the two has no such figure or a zero."""
        pairs = zip(self.values(server, metric), self.values(baseline, metric), strict=False)
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        return statistics.median(ratios) if ratios else None

    def quartiles(self, metric: str, server: str, baseline: str) -> tuple[float, float] | None:
        """Lower and upper quartile of the turns' ratios; None with fewer than three."""
        pairs = zip(self.values(server, metric), self.values(baseline, metric), strict=False)
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        if len(ratios) < 3:
            return None
        lower, _, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        return lower, upper

    def metrics(self) -> list[str]:
        """Names of all metrics, in the order of METRICS."""
        found = {name for rounds in self.rounds.values() for metrics in rounds for name in metrics}
        order = list(METRICS)
        return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def environment() -> dict[str, str]:
    """What the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "kernel": platform.release(),
        "processor": model,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def table(report: ScenarioReport, servers: Sequence[str]) -> str:
    """One scenario as text: a line a metric, each server's median (lowest–highest), and the ratio."""
    lines = [f"{report.key}: {report.title}"]
    lines.extend(f"  FAILED: {server}: {problem}" for server, problem in report.problems.items())
    columns = [server for server in servers if report.rounds.get(server)]
    if columns:
        lines.append("  " + " " * 36 + "".join(f"{server:>30}" for server in columns) + "     ratio")
    for metric in report.metrics():
        label, form = METRICS.get(metric, (metric, ".3f"))
        cells = []
        for server in columns:
            values = report.values(server, metric)
            middle = report.median(server, metric)
            if middle is None:
                cells.append(f"{'–':>30}")
                continue
            spread = f" ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else ""
            cells.append(f"{format(middle, form) + spread:>30}")
        ratio = report.ratio(metric, columns[-1], columns[0]) if len(columns) > 1 else None
        quartiles = report.quartiles(metric, columns[-1], columns[0]) if len(columns) > 1 else None
        shown = "" if ratio is None else f"{ratio:10.3f}"
        if quartiles is not None:
            shown += f" ({quartiles[0]:.3f}–{quartiles[1]:.3f})"
        lines.append(f"  {label:<36}" + "".join(cells) + shown)
    return "\n".join(lines)


def as_json(
    reports: Sequence[ScenarioReport], servers: Sequence[str], window: int, settings: Mapping[str, object]
) -> dict[str, object]:
    """Everything, raw rounds included."""
    return {
        "environment": environment(),
        "method": METHOD.format(window=window, receive=RECEIVE_MOVED),
        "settings": dict(settings),
        "servers": list(servers),
        "scenarios": [
            {
                "key": report.key,
                "title": report.title,
                "problems": report.problems,
                "rounds": report.rounds,
                "medians": {
                    server: {metric: report.median(server, metric) for metric in report.metrics()}
                    for server in report.rounds
                },
                "ratios": {metric: report.ratio(metric, servers[-1], servers[0]) for metric in report.metrics()}
                if len(servers) > 1
                else {},
            }
            for report in reports
        ],
    }
