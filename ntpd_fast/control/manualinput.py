"""Manual time input over the command protocol: `manual` and `settime`."""

from __future__ import annotations

from ntpd_fast.clock.manual import Manual
from ntpd_fast.monitor.backend import CommandFailed
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import ManualSample, ManualTimestamp
from ntpd_fast.system.messages import Log, Severity


class ManualBackend:
    """`ManualInput` over the entries. Switched off it keeps them, and takes no more."""

    def __init__(self, manual: Manual, log: Log) -> None:
        self._manual = manual
        self._log = log

    def set_enabled(self, enabled: bool) -> None:
        self._manual.enabled = enabled

    def reset(self) -> None:
        self._manual.reset()

    def settime(self, time_ns: int) -> ManualTimestamp:
        if not self._manual.enabled:
            raise CommandFailed(Status.NOT_ENABLED)
        result = self._manual.settime(time_ns)
        if result is None:
            raise CommandFailed(Status.FAILED)
        self._log(Severity.INFO, f"Making a slew of {result.offset_s:f}")
        return ManualTimestamp(result.offset_s, result.dfreq_ppm, result.frequency_ppm)

    def samples(self) -> tuple[ManualSample, ...]:
        return tuple(
            ManualSample(sample.time_ns, sample.offset_s, sample.original_offset_s, sample.residual_s)
            for sample in self._manual.samples
        )

    def delete_sample(self, index: int) -> None:
        if not self._manual.delete(index):
            raise CommandFailed(Status.BAD_SAMPLE)
