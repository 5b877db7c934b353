"""The log files that a configuration asks for (`log`, `logdir`, `logbanner`), tied to those who have something to log.

A log is a row of a table: what it is called, its file and its titles. The lines are made by the parts that know
what is in them; a log that is not asked for costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ntpd_fast.client.logtitles import MEASUREMENTS_TITLE, SELECTION_TITLE, STATISTICS_TITLE
from ntpd_fast.clock.rtclog import RTC_LOG_TITLE
from ntpd_fast.clock.tempcomp import TEMPCOMP_LOG_TITLE
from ntpd_fast.clock.trackinglog import TRACKING_LOG_TITLE, TrackingRecord
from ntpd_fast.config.model import Config, LogKind
from ntpd_fast.refclock.log import REFCLOCKS_LOG_TITLE
from ntpd_fast.system.logfiles import LogFile
from ntpd_fast.system.messages import Log, Severity

if TYPE_CHECKING:
    from ntpd_fast.client.actions import MeasurementRecord
    from ntpd_fast.client.sources import SourcesHooks

TITLES = {
    LogKind.MEASUREMENTS: MEASUREMENTS_TITLE,
    LogKind.STATISTICS: STATISTICS_TITLE,
    LogKind.SELECTION: SELECTION_TITLE,
    LogKind.TRACKING: TRACKING_LOG_TITLE,
    LogKind.RTC: RTC_LOG_TITLE,
    LogKind.REFCLOCKS: REFCLOCKS_LOG_TITLE,
    LogKind.TEMPCOMP: TEMPCOMP_LOG_TITLE,
}
"""All logs that have a file; `rawmeasurements` only widens `measurements`."""


class LogFiles:
    """The open logs of a daemon."""

    def __init__(self, config: Config, log: Log) -> None:
        self._log = log
        self._files: dict[LogKind, LogFile] = {}
        self._banner_interval = config.logbanner
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Write the logs of this configuration; those that are as before stay open. To be followed by `attach`."""
        before, self._files = self._files, {}
        self._raw = LogKind.RAWMEASUREMENTS in config.logs
        for kind, title in TITLES.items():
            if kind not in config.logs:
                continue
            if config.logdir is None:
                self._log(Severity.WARNING, "logdir not specified")
                continue
            path = os.path.join(config.logdir, f"{kind}.log")
            old = before.get(kind)
            if old is not None and old.path == path and config.logbanner == self._banner_interval:
                self._files[kind] = before.pop(kind)
            else:
                self._files[kind] = LogFile(path, title, banner_interval=config.logbanner, log=self._log)
        for file in before.values():
            file.close()
        self._banner_interval = config.logbanner

    def writer(self, kind: LogKind) -> Callable[[str], None] | None:
        """Takes the lines (without newline) of a log; None if that is not asked for."""
        file = self._files.get(kind)
        return file.write if file is not None else None

    @property
    def tracking(self) -> Callable[[TrackingRecord], None] | None:
        """For `Outlets.tracking_log`."""
        write = self.writer(LogKind.TRACKING)
        return None if write is None else lambda record: write(record.format())

    def attach(self, hooks: SourcesHooks) -> None:
        """Have the sources log, or no longer."""
        # in memory since there are sources
        from ntpd_fast.client.logs import format_measurement, format_selection, format_statistics

        hooks.measurements = hooks.statistics = hooks.selection = None
        measurements = self.writer(LogKind.MEASUREMENTS)
        if measurements is not None:
            raw = self._raw

            def measured(record: MeasurementRecord) -> None:
                if raw or record.synced:
                    measurements(format_measurement(record))

            hooks.measurements = measured
        statistics = self.writer(LogKind.STATISTICS)
        if statistics is not None:
            hooks.statistics = lambda record: statistics(format_statistics(record))
        selection = self.writer(LogKind.SELECTION)
        if selection is not None:
            hooks.selection = lambda record: selection(format_selection(record))

    def cycle(self) -> None:
        """Close all files; each is opened again at its next entry (`cyclelogs`)."""
        for file in self._files.values():
            file.cycle()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
