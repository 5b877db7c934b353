"""docs/accuracy.md: the accuracy table as it was measured, and what is to be known of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tests.sim.accuracy import MEDIAN_RATIO, Verdict

INTRODUCTION = f"""\
# Accuracy

How well the clock is kept, measured in our simulator (`make accuracy` writes this page, `make sim` checks it). The
production engine runs on simulated machines: one client, one perfect stratum-1 server, a symmetric path whose one-way
delay is base + jitter·Exp(1) for each packet, a clock that runs 10 ppm fast and wanders by a random step each second.
Statistics are over the second half of each run, of the system clock (slewing included), sampled each second.

Beside our medians stand those of chronyd 4.8 under the same conditions (12 seeds each, in a simulator of its own). A
row has to stay below {MEDIAN_RATIO} times chronyd's medians, and every single seed below the bounds. Medians over a
dozen seeds scatter by 20–30 % by chance. chronyd's run times of rows 21 to 23 are not known; ours are chosen so that
the mean interval between requests is the same.

"""

COLUMNS = (
    *("#", "configuration", "base / jitter", "wander", "seeds", "offset RMS", "chronyd", "ratio", "greatest"),
    *("freq. RMS", "chronyd", "ratio", "settled after", "interval"),
)
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    for factor, unit in ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms")):
        if value < factor * 999.5:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} s"


def frequency(value: float) -> str:
    """A frequency error in ppb or ppm."""
    return f"{value * 1e9:.2g} ppb" if value < 0.9995e-6 else f"{value * 1e6:.2g} ppm"


def line(verdict: Verdict) -> str:
    """One row of the page."""
    row = verdict.row
    return (
        f"| {row.number} | {row.title} | {seconds(row.base_s)} / {seconds(row.jitter_s)} | {row.wander:.0e} "
        f"| {len(verdict.results)} "
        f"| {seconds(verdict.offset_rms_s)} | {seconds(row.chrony_offset_rms_s)} "
        f"| {verdict.offset_rms_s / row.chrony_offset_rms_s:.2f} "
        f"| {seconds(max(result.offset_rms_s for result in verdict.results))} "
        f"| {frequency(verdict.frequency_rms)} | {frequency(row.chrony_frequency_rms)} "
        f"| {verdict.frequency_rms / row.chrony_frequency_rms:.2f} "
        f"| {verdict.settle_s:.0f} s | {verdict.interval_s:.0f} s |\n"
    )


def page(verdicts: Sequence[Verdict]) -> str:
    """The whole page."""
    text = INTRODUCTION + HEADER + "".join(map(line, verdicts))
    text += (
        "\n“greatest” is the offset RMS of the worst seed; the greatest single offset (median of the seeds): "
        + ", ".join(f"{verdict.row.number}: {seconds(verdict.offset_max_s)}" for verdict in verdicts)
        + ".\n"
    )
    failures = [failure for verdict in verdicts for failure in verdict.failures()]
    if failures:
        text += "\nNot as it must be:\n\n" + "".join(f"- {failure}\n" for failure in failures)
    return text


def write_page(path: str, verdicts: Sequence[Verdict]) -> None:
    """Replace the page."""
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(page(verdicts))
    os.rename(temporary, path)
