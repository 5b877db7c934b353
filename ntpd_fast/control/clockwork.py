"""The clock and the reference that is served of it, put together from a configuration.

`Clockwork` makes the parts in the order they need each other and closes them in the opposite one. It publishes to
shared memory; it opens no server socket and knows no command. Who may touch the real clock is decided by the driver
that is handed in (`choose_driver`): with `-x` there is no way from here to the kernel's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from ntpd_fast._clock import monotonic_raw_readings, realtime_readings
from ntpd_fast._record import dataclass, field, replace
from ntpd_fast.clock.driftfile import DriftFile
from ntpd_fast.clock.driver import ClockDriver
from ntpd_fast.clock.drivers.linux import LinuxDriver
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.kernelclock import KernelClock
from ntpd_fast.clock.leapdb import LeapDb
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.precision import measure_precision_s
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceMode, ReferenceOptions
from ntpd_fast.clock.restore import restore_time
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.clock.tempcomp import TemperatureCompensation, model_of
from ntpd_fast.config.model import Config
from ntpd_fast.system.era import era_start_s
from ntpd_fast.system.messages import Log
from ntpd_fast.system.timers import AsyncioScheduler


def choose_driver(config: Config, *, controls_clock: bool, log: Log) -> ClockDriver:
    """The kernel's clock, or (`-x`) none. Raises `clock.driver.ClockDriverError` when the clock cannot be steered."""
    if not controls_clock:
        return NullDriver()
    return LinuxDriver(log, rtcsync=config.rtcsync)


def clock_precision_s(config: Config) -> float:
    """`clockprecision`, or measured: 1e-9 to 1 s."""
    if config.clockprecision_s is not None:
        return min(max(config.clockprecision_s, 1e-9), 1.0)
    return measure_precision_s(realtime_readings, monotonic_raw_readings, time.monotonic_ns)


@dataclass(frozen=True, slots=True)
class ClockworkOptions:
    """How this run differs from the ordinary one."""

    mode: ReferenceMode = ReferenceMode.NORMAL
    restarted: bool = False
    """`-R`: the initial steps were made before."""
    resume: ServedReference | None = None
    """The last page of a predecessor that died."""
    commanded: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ReferenceOptions` that commands have set otherwise than the configuration."""
    restore_time: bool = False
    """`-s`: a clock that is behind the drift file is stepped to it, once; not for who takes over from a predecessor."""
    tempcomp_log: Callable[[str], None] | None = None
    """Takes the lines of tempcomp.log."""


class Clockwork:
    """What sources correct and workers serve. `publish` takes every new reference page."""

    def __init__(
        self,
        config: Config,
        driver: ClockDriver,
        scheduler: AsyncioScheduler,
        random: Random,
        *,
        log: Log,
        publish: Callable[[ServedReference], None],
        outlets: Outlets | None = None,
        options: ClockworkOptions | None = None,
    ) -> None:
        options = options or ClockworkOptions()
        outlets = outlets or Outlets()
        self.random = random
        self.scheduler = scheduler
        self.clock = LocalClock(
            driver,
            self.scheduler,
            precision_s=clock_precision_s(config),
            log=log,
            max_slew_rate_ppm=config.maxslewrate_ppm,
            max_drift_ppm=config.maxdrift_ppm,
            max_clock_error_ppm=config.maxclockerror_ppm,
            era_start_s=era_start_s(),
        )
        self._log = log
        self.tempcomp: TemperatureCompensation | None = None
        self.compensate(config, options.tempcomp_log)
        if options.resume is not None:
            self.clock.resume(options.resume.mapping, options.resume.base_freq_ppm)
        elif options.restore_time and config.driftfile is not None:
            restore_time(self.clock, config.driftfile.path, log)
        configured = ReferenceOptions.from_config(config, restarted=options.restarted)
        self.reference = Reference(
            self.clock,
            replace(configured, **options.commanded),
            log=log,
            random=random,
            outlets=Outlets(
                on_publish=publish,
                tracking_log=outlets.tracking_log,
                mail=outlets.mail,
                terminate=outlets.terminate,
                on_mode_end=outlets.on_mode_end,
            ),
            drift_store=DriftFile(config.driftfile.path) if config.driftfile is not None else None,
            leap_db=LeapDb.open(leapseclist=config.leapseclist, leapsectz=config.leapsectz, log=log),
            mode=options.mode,
            resume=options.resume,
        )
        self.reference.believe_configured(configured)
        self._kernel: KernelClock | None = None
        if config.kernelclock is not None:
            self._kernel = KernelClock(self.clock, self.reference, config.kernelclock, log)
            self._kernel.start()
        publish(self.reference.page())

    def compensate(self, config: Config, write_line: Callable[[str], None] | None) -> None:
        """Compensate for the temperature as configured, or no longer; `write_line` takes the lines of tempcomp.log."""
        if self.tempcomp is not None:
            self.tempcomp.end()
            self.tempcomp = None
        if config.tempcomp is None:
            return
        self.tempcomp = TemperatureCompensation(
            self.clock,
            model_of(config.tempcomp),
            path=config.tempcomp.file,
            interval_s=config.tempcomp.interval_s,
            log=self._log,
            write_line=write_line,
        )
        self.tempcomp.start()

    def close(self) -> None:
        """Leave the clock at its base frequency and keep what the next start needs."""
        if self._kernel is not None:
            self._kernel.close()
        self.reference.close()
        if self.tempcomp is not None:
            self.tempcomp.close()
        self.clock.close()
        self.scheduler.close()
