"""What a simulated clock did: sampled each second of true time, judged by statistics of its second half."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S

SETTLED_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Statistics of a run."""

    offset_rms_s: float
    offset_max_s: float
    frequency_rms: float
    frequency_max: float
    settle_s: float
    """Last time at which the offset was more than ten times the RMS."""


class Monitor:
    """Samples of offset (s) and frequency error (s/s) of a machine's system clock."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.offsets_ns: list[int] = []
        self.rates: list[float] = []
        self._start()

    def _start(self) -> None:
        world = self.machine.world
        world.at((world.now_ns // NS_PER_S + 1) * NS_PER_S, self._sample)

    def _sample(self) -> None:
        machine = self.machine
        world = machine.world
        # true time: a leap second of UTC is followed by the machine like any other step
        self.offsets_ns.append(machine.kernel.read() - world.utc_ns())
        self.rates.append(machine.clock.rate)
        world.at(world.now_ns + NS_PER_S, self._sample)

    def accuracy(self, start: int | None = None, end: int | None = None) -> Accuracy:
        """Statistics of the samples from `start` (default: the second half) to `end`, in seconds."""
        offsets = np.asarray(self.offsets_ns[:end], dtype=np.float64) / NS_PER_S
        rates = np.asarray(self.rates[:end])
        if start is None:
            start = len(offsets) // 2
        part, part_rates = np.abs(offsets[start:]), np.abs(rates[start:])
        rms = math.sqrt(float(np.mean(part * part)))
        large = np.nonzero(np.abs(offsets) > SETTLED_RATIO * rms)[0]
        return Accuracy(
            offset_rms_s=rms,
            offset_max_s=float(part.max()),
            frequency_rms=math.sqrt(float(np.mean(part_rates * part_rates))),
            frequency_max=float(part_rates.max()),
            settle_s=float(large[-1] + 1) if len(large) else 0.0,
        )

    def sync_time(self, max_offset_s: float, max_frequency: float) -> int:
        """First second after which offset and frequency never exceed the limits again."""
        offsets = np.abs(np.asarray(self.offsets_ns, dtype=np.float64)) / NS_PER_S
        rates = np.abs(np.asarray(self.rates))
        bad = np.nonzero((offsets > max_offset_s) | (rates > max_frequency))[0]
        return int(bad[-1]) + 2 if len(bad) else 1
