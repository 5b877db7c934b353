"""Reports on the clock for the command protocol, and the commands that change it."""

from __future__ import annotations

from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Reference
from ntpd_fast.clock.served import REFID_LOCAL
from ntpd_fast.config.model import LocalOptions, MakeStep
from ntpd_fast.monitor.backend import CommandFailed
from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import Smoothing, Tracking
from ntpd_fast.system.messages import Log, Severity

_ACTIVE, _LEAP_ONLY = 1, 2


class ClockBackend:
    """`TrackingReports`, `ClockControl` and `LocalReference` over clock and reference."""

    def __init__(self, clock: LocalClock, reference: Reference, log: Log) -> None:
        self._clock = clock
        self._reference = reference
        self._log = log

    def tracking(self) -> Tracking:
        report = self._reference.tracking()
        served = report.served
        address = UNSPECIFIED
        if report.address is not None and served.refid != REFID_LOCAL:
            address = Address.from_ip(report.address)
        return Tracking(
            ref_id=served.refid,
            ip_addr=address,
            stratum=served.stratum if served.synchronised else 0,
            leap_status=served.leap,
            ref_time_ns=served.ref_time_ns,
            current_correction=report.correction_s,
            last_offset=report.last_offset_s,
            rms_offset=report.rms_offset_s,
            freq_ppm=report.frequency_ppm,
            resid_freq_ppm=report.residual_ppm,
            skew_ppm=report.skew_ppm,
            root_delay=served.root_delay_s,
            root_dispersion=served.root_dispersion_s,
            last_update_interval=report.last_update_interval_s,
        )

    def make_step(self) -> None:
        if not self._clock.make_step():
            raise CommandFailed(Status.FAILED)

    def set_makestep(self, makestep: MakeStep) -> None:
        self._reference.set_makestep(makestep)
        self._log(Severity.INFO, f"New makestep {makestep.threshold_s:f} {makestep.limit}")

    def set_maxupdateskew_ppm(self, skew_ppm: float) -> None:
        self._reference.set_max_update_skew_ppm(skew_ppm)
        self._log(Severity.INFO, f"New maxupdateskew {skew_ppm:f} ppm")

    def adjust_frequency_ppm(self, dfreq_ppm: float) -> None:
        self._clock.adjust_frequency(dfreq_ppm * 1e-6)
        self._log(Severity.INFO, f"Accumulated delta freq of {dfreq_ppm:.3f}ppm")

    def accumulate_offset_s(self, offset_s: float) -> None:
        if not self._clock.accumulate_offset(offset_s, 0.0):
            raise CommandFailed(Status.FAILED)
        self._log(Severity.INFO, f"Accumulated delta offset of {offset_s:.6f} seconds")

    def set_local(self, options: LocalOptions | None) -> None:
        self._reference.set_local(options)
        self._log(Severity.INFO, f"{'Disabled' if options is None else 'Enabled'} local reference mode")


class SmoothingBackend:
    """`SmoothingControl`: only where `smoothtime` is configured."""

    def __init__(self, clock: LocalClock, reference: Reference) -> None:
        self._clock = clock
        self._reference = reference

    def smoothing(self) -> Smoothing:
        state = self._reference.smoothing
        if state is None:
            raise CommandFailed(Status.NOT_ENABLED)
        report = state.report(self._clock.cooked_ns())
        flags = (_ACTIVE if report.active else 0) | (_LEAP_ONLY if report.leap_only else 0)
        return Smoothing(
            flags=flags,
            offset=report.offset_s,
            freq_ppm=report.frequency_ppm,
            wander_ppm=report.wander_ppm_s,
            last_update_ago=report.last_update_ago_s,
            remaining_time=report.remaining_s,
        )

    def reset(self) -> None:
        if self._reference.smoothing is None:
            raise CommandFailed(Status.NOT_ENABLED)
        self._reference.smoothing.reset(self._clock.cooked_ns())

    def activate(self) -> None:
        if self._reference.smoothing is None:
            raise CommandFailed(Status.NOT_ENABLED)
        self._reference.smoothing.activate(self._clock.cooked_ns())
