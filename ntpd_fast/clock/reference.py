"""The reference: what our time is derived from, how good it is, and the discipline of the clock by it.

Updates come from selection (or manual input), corrections go to the local clock, and what is served
is published as `ServedReference` at every change. Rules:

- an update that is too large (`maxchange`) or absurd changes nothing at all;
- losing all sources does not lose the reference: its dispersion grows; only a contradiction
  (`set_unsynchronised`), an unknown step of the clock or a fallback to an average frequency loses it;
- a step is published before it is made, so that nobody serves time wrong by it;
- files, mails and logs are written by injected functions; nothing here makes a system call.

Signs: offsets are positive when our clock is fast, frequencies when it gains.
"""

from __future__ import annotations

import math
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast.clock.driftfile import Drift, DriftFileError
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.estimate import ClockEstimate, ReferenceUpdate
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.fallback import FallbackDrifts
from ntpd_fast.clock.leap import LeapHandler
from ntpd_fast.clock.leapdb import LeapDb
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.localreference import LocalReference
from ntpd_fast.clock.pace import Pace
from ntpd_fast.clock.referenceoptions import (
    NO_STEPS,
    DriftStore,
    Outlets,
    ReferenceMode,
    ReferenceOptions,
    TrackingReport,
)
from ntpd_fast.clock.served import (
    STRATUM_UNSYNCHRONISED,
    UNSYNCHRONISED_DELAY_S,
    UNSYNCHRONISED_DISPERSION_S,
    Served,
    ServedReference,
    served_at,
)
from ntpd_fast.clock.smoothing import NO_STAGES, Smoothing, SmoothingState
from ntpd_fast.clock.trackinglog import TrackingRecord
from ntpd_fast.config.model import LeapSecMode, LocalOptions, MakeStep
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.timers import Random

__all__ = ["DriftStore", "Outlets", "Reference", "ReferenceMode", "ReferenceOptions", "TrackingReport"]

NS_PER_S = 1_000_000_000
PPM = 1e-6

INITIAL_SKEW = 1.0
SKEW_MIN = 1e-12
RMS_GAIN = 0.1

TAKEOVER_S = 0.1
"""Longest time from the death of control to its successor's first page, while the clock runs at its base frequency."""


class Reference:
    """The state of synchronisation and the discipline of a `LocalClock`."""

    def __init__(
        self,
        clock: LocalClock,
        options: ReferenceOptions,
        *,
        log: Log,
        random: Random,
        outlets: Outlets | None = None,
        drift_store: DriftStore | None = None,
        leap_db: LeapDb | None = None,
        mode: ReferenceMode = ReferenceMode.NORMAL,
        resume: ServedReference | None = None,
    ) -> None:
        """`resume`: the last page of a predecessor that was killed, from which `clock` has been resumed too."""
        self._clock = clock
        self._options = options
        self._log = log
        self._random = random
        self._outlets = outlets or Outlets()
        self._drift_store = drift_store
        self.mode = mode

        self._synchronised = False
        self._mirrors = False
        """Whether others keep the clock (`mirror`)."""
        self._stratum = STRATUM_UNSYNCHRONISED
        self._refid = 0
        self._address: IPv4Address | IPv6Address | None = None
        self._ref_time_ns = 0
        self._root_delay_s = UNSYNCHRONISED_DELAY_S
        self._root_dispersion_s = UNSYNCHRONISED_DISPERSION_S
        self._skew = INITIAL_SKEW
        self._residual = 0.0
        self._offset_sd_s = 0.0
        self._frequency_sd = 0.0
        self._last_offset_s = 0.0
        self._last_interval_s = 0.0
        self._last_update_ns: int | None = None
        self._mean_square_s2 = 0.0
        self._mean_square_moves = False
        self._makestep = options.makestep
        self._maxchange = options.maxchange
        self._maxchange_ignore = options.maxchange.ignore if options.maxchange else 0
        self._max_update_skew = abs(options.maxupdateskew_ppm) * PPM
        self._drift_age_s = 0.0
        self._closed = False
        self.updates = 0
        """Updates of the clock so far."""

        self._local = LocalReference(clock, random, self._publish)
        self._slew_epoch = 0
        self._slew_last_s = 0.0
        self._step_count = 0
        self._mono_offset_s = 0.0
        self._mono_epoch = 0
        self._draw_mono_epoch()
        self._stepping = False
        self._holding = False

        self.smoothing: Smoothing | None = None
        if options.smoothtime is not None:
            self.smoothing = Smoothing(
                options.smoothtime.max_freq_ppm,
                options.smoothtime.max_wander_ppm_s,
                leap_only=options.smoothtime.leap_only,
                skew=lambda: self._skew,
                log=log,
                on_command=self._publish,
            )
        self._pace = Pace()
        self._leap = LeapHandler(
            clock,
            options.leapsecmode,
            log=log,
            leap_db=leap_db,
            is_smoothing=lambda: self.smoothing is not None and self.smoothing.active,
            on_change=self._publish,
        )
        self._fallback: FallbackDrifts | None = None
        if options.fallbackdrift is not None:
            self._fallback = FallbackDrifts(options.fallbackdrift, clock.scheduler, self._fall_back)

        clock.add_handler(self._clock_changed)
        clock.add_dispersion_handler(self._add_dispersion)
        clock.add_mapping_observer(self._publish)
        clock.add_step_observer(self._clock_steps)
        if resume is None:
            self._load_drift()
            self.set_local(options.local)
        else:
            self._resume(resume)
        self._track(clock.cooked_ns(), 0.0, clock.correction_s(), 0)

    @property
    def skew(self) -> float:
        """Error bound of our frequency, s/s."""
        return self._skew

    @property
    def synchronised(self) -> bool:
        """Whether there is a reference (not counting the local one)."""
        return self._synchronised

    @property
    def orphan_stratum(self) -> int:
        """Stratum of sources that count as orphans; 16 when there is no orphan mode."""
        return self._local.orphan_stratum

    def is_leap_close(self, cooked_ns: int) -> bool:
        """Whether a measurement made at this time is to be dropped because of a leap second."""
        return self._leap.is_close(cooked_ns)

    def set_local(self, options: LocalOptions | None) -> None:
        """Enable, change or (None) disable the local reference."""
        self._local.set_options(options)
        self._try_to_activate()
        self._publish()

    def set_makestep(self, makestep: MakeStep) -> None:
        """Replace threshold and number of remaining steps."""
        self._makestep = makestep

    def set_max_update_skew_ppm(self, skew_ppm: float) -> None:
        """Replace `maxupdateskew`."""
        self._max_update_skew = abs(skew_ppm) * PPM

    def reconfigure(self, options: ReferenceOptions) -> None:
        """Follow a changed configuration: what commands have set stays unless its directive changed."""
        old, self._options = self._options, options
        if options.makestep != old.makestep:
            self.set_makestep(options.makestep)
        if options.maxchange != old.maxchange:
            self._maxchange = options.maxchange
            self._maxchange_ignore = options.maxchange.ignore if options.maxchange else 0
        if options.maxupdateskew_ppm != old.maxupdateskew_ppm:
            self.set_max_update_skew_ppm(options.maxupdateskew_ppm)
        if options.fallbackdrift != old.fallbackdrift:
            if self._fallback is not None:
                self._fallback.close()
            self._fallback = None
            if options.fallbackdrift is not None:
                self._fallback = FallbackDrifts(options.fallbackdrift, self._clock.scheduler, self._fall_back)
        if options.leapsecmode != old.leapsecmode:
            self._leap.reconfigure(options.leapsecmode, self._leap.leap_db)
        if options.local != old.local:
            self.set_local(options.local)

    def believe_configured(self, options: ReferenceOptions) -> None:
        """Take these for what the configuration said so far, whatever is in force; `reconfigure` compares with them."""
        self._options = options

    def set_outlets(self, outlets: Outlets) -> None:
        """Tell things elsewhere from now on."""
        self._outlets = outlets

    @property
    def outlets(self) -> Outlets:
        """Where things are told."""
        return self._outlets

    def set_drift_store(self, store: DriftStore | None) -> None:
        """Remember the frequency elsewhere from now on; what is there already is not read."""
        self._drift_store = store

    def set_leap_db(self, leap_db: LeapDb | None) -> None:
        """Look leap seconds up elsewhere from the next update on."""
        self._leap.reconfigure(self._options.leapsecmode, leap_db)

    def update(self, update: ReferenceUpdate) -> None:
        """Correct the clock by an estimate and take over what is served with it; not while it is kept by others."""
        if self._mirrors:
            return
        if self.mode is not ReferenceMode.NORMAL:
            self._update_once(update.tracking)
            return
        estimate = update.tracking
        now_ns = self._clock.cooked_ns()
        correction_s = self._clock.correction_s()
        monotonic_ns = self._clock.monotonic_ns()
        elapsed_s = (now_ns - estimate.ref_time_ns) / NS_PER_S
        offset_s = estimate.offset_s + elapsed_s * estimate.frequency
        if not self._clock.is_sane(now_ns, offset_s) or not math.isfinite(estimate.frequency):
            self._log(Severity.WARNING, f"Adjustment of {-offset_s:.3f} seconds is invalid (ignored)")
            return
        if not self._is_change_allowed(offset_s):
            return

        interval_s = 0.0
        if self._last_update_ns is not None:
            interval_s = (monotonic_ns - self._last_update_ns) / NS_PER_S
        self._last_update_ns = monotonic_ns
        distance_s = self._page().distance_s(now_ns)
        max_error_s = abs(offset_s) + abs(correction_s) + distance_s
        claimed_s = distance_s if self._synchronised else 0.0

        self._holding = True
        try:
            frequency = self._weigh_frequency(estimate, manual=update.leap is Leap.UNSYNCHRONISED)
            self._commit(update, offset_s, interval_s)
            slew_s, step_s = self._choose_step(offset_s, correction_s)
            self._tell_change(offset_s)
            corr_rate = self._options.corrtimeratio * 0.5 * estimate.offset_sd_s * interval_s
            min_duration_s = self._pace.min_duration_s(
                estimate,
                self._options.corrtimeratio,
                total_s=slew_s - correction_s,
                pending_s=correction_s,
                claimed_s=claimed_s,
                interval_s=interval_s,
            )
            self._clock.adjust(frequency, slew_s, corr_rate, min_duration_s)
            if step_s is not None:
                if self._clock.step(step_s):
                    self._log(Severity.WARNING, f"System clock was stepped by {-step_s:.6f} seconds")
                else:
                    self._clock.accumulate_offset(step_s, 0.0)
            self._leap.update(update.leap)
            # adjusting has moved the time of the estimate with the clock
            self._ref_time_ns -= round(self._random.random() * NS_PER_S)
            self._try_to_activate()
        finally:
            self._holding = False
        self.updates += 1
        self._set_kernel_status()
        self._publish()
        self._account(offset_s, interval_s)
        self._track(self._clock.cooked_ns(), offset_s, correction_s, update.combined, max_error_s)

    def set_unsynchronised(self) -> None:
        """The reference is lost: nothing is served any more (but by the local reference)."""
        if self.mode is not ReferenceMode.NORMAL:
            return
        now_ns = self._clock.cooked_ns()
        max_error_s = abs(self._clock.correction_s()) + self._page().distance_s(now_ns)
        self._lose()
        self._leap.update(Leap.UNSYNCHRONISED)
        self._set_kernel_status()
        self._publish()
        self._track(now_ns, 0.0, self._clock.correction_s(), 0, max_error_s)

    def mirror(
        self, *, stratum: int, refid: int, ref_time_ns: int, dispersion_s: float, rate: float, leap: Leap
    ) -> None:
        """Serve a clock that is kept by others: nothing is corrected.

        `dispersion_s` is that at the cooked time `ref_time_ns`, and grows by `rate` (s/s).
        """
        self._mirrors = True
        self._synchronised = True
        self._stratum = stratum
        self._refid = refid
        self._address = None
        self._ref_time_ns = ref_time_ns
        self._root_delay_s = 0.0
        self._root_dispersion_s = dispersion_s
        self._skew = max(rate - self._clock.max_clock_error, SKEW_MIN)
        self._residual = 0.0
        self._leap.update(leap)
        self._try_to_activate()
        self._publish()

    def fail_special_mode(self) -> None:
        """No source can give a measurement any more: a special mode ends without one."""
        if self.mode is ReferenceMode.NORMAL:
            return
        what = "initstepslew" if self.mode is ReferenceMode.INITSTEPSLEW else "synchronisation"
        self._log(Severity.WARNING, f"No suitable source for {what}")
        self._end_special_mode(False)

    def page(self) -> ServedReference:
        """The inputs of what is served, as they were published last."""
        return self._page()

    def params(self, cooked_ns: int) -> Served:
        """What is served at a cooked time."""
        return served_at(self._page(), cooked_ns)

    def tracking(self) -> TrackingReport:
        """What `tracking` shows now."""
        now_ns = self._clock.cooked_ns()
        served = self.params(now_ns)
        followed = served.synchronised and served.refid == self._refid
        return TrackingReport(
            served=served,
            address=self._address if followed else None,
            correction_s=self._clock.correction_s(),
            last_offset_s=self._last_offset_s,
            rms_offset_s=math.sqrt(self._mean_square_s2),
            frequency_ppm=self._clock.absolute_frequency_ppm,
            residual_ppm=self._residual / PPM if self._synchronised else 0.0,
            skew_ppm=self._skew / PPM if self._synchronised else 0.0,
            last_update_interval_s=self._last_interval_s,
        )

    def close(self) -> None:
        """Keep what the next start needs: of the drift file also its date, by which `-s` restores the time."""
        if self._closed:
            return
        self._closed = True
        self._local.close()
        self._save_drift()
        if self._fallback is not None:
            self._fallback.close()

    def _load_drift(self) -> None:
        drift = None
        if self._drift_store is not None:
            try:
                drift = self._drift_store.load()
            except DriftFileError as error:
                self._log(Severity.WARNING, str(error))
        if drift is not None:
            self._skew = max(drift.skew_ppm * PPM, SKEW_MIN)
            if drift.frequency_ppm != 0.0 and self._drift_store is not None:
                self._clock.set_absolute_frequency_ppm(drift.frequency_ppm)
                self._log(
                    Severity.INFO,
                    f"Frequency {drift.frequency_ppm:.3f} +/- {drift.skew_ppm:.3f} ppm "
                    f"read from {self._drift_store.path}",
                )
                return
        frequency_ppm = self._clock.absolute_frequency_ppm
        if frequency_ppm != 0.0:
            self._log(Severity.INFO, f"Initial frequency {frequency_ppm:.3f} ppm")

    def _resume(self, page: ServedReference) -> None:
        """Go on serving what a predecessor served; what it would have corrected is corrected by the next update."""
        clock = self._clock
        self._local.set_options(self._options.local)
        if page.local and self._options.local is not None:
            self._local.activated |= page.local_activated
        self._local.unsync_since_ns = page.unsync_since_ns
        if self._makestep.limit > 0:
            self._makestep = NO_STEPS
        if page.synchronised and not page.stepping:
            self._synchronised = True
            self._stratum = page.stratum
            self._refid = page.refid
            self._ref_time_ns = page.ref_time_ns
            self._root_delay_s = page.root_delay_s
            self._root_dispersion_s = page.root_dispersion_s
            self._skew = min(max(page.dispersion_rate - clock.max_clock_error, SKEW_MIN), INITIAL_SKEW)
            self._leap.update(Leap(page.leap))
        self._slew_epoch = (page.slew_epoch + 1) & 0xFFFF
        self._step_count = page.step_count
        self._mono_epoch = page.mono_epoch
        self._mono_offset_s = page.mono_offset_s
        if self.smoothing is not None and page.smoothing:
            self.smoothing.resume(
                SmoothingState(page.smooth_origin_ns, page.smooth_offset_s, page.smooth_freq, page.smooth_stages)
            )
        self._log(Severity.INFO, "Resumed the state of the clock")
        self._publish()

    def _save_drift(self) -> None:
        self._drift_age_s = 0.0
        if self._drift_store is None:
            return
        try:
            self._drift_store.save(Drift(self._clock.absolute_frequency_ppm, self._skew / PPM))
        except DriftFileError as error:
            self._log(Severity.WARNING, str(error))

    def _update_once(self, estimate: ClockEstimate) -> None:
        """An update in a special mode: correct the whole error of the system clock, or only tell it."""
        now_ns = self._clock.cooked_ns()
        elapsed_s = (now_ns - estimate.ref_time_ns) / NS_PER_S
        offset_s = estimate.offset_s + elapsed_s * estimate.frequency - self._clock.correction_s()
        if self.mode is ReferenceMode.PRINT_ONCE:
            self._log(Severity.INFO, f"System clock wrong by {-offset_s:.6f} seconds (ignored)")
            self._end_special_mode(True)
        elif self.mode is ReferenceMode.UPDATE_ONCE:
            self._log(Severity.INFO, f"System clock wrong by {-offset_s:.6f} seconds (step)")
            # a clock that is not ours to step was not to be stepped (-x): the run has done all that was asked
            self._end_special_mode(self._clock.step(offset_s) or not self._clock.driver.controls_clock)
        else:
            threshold_s = self._options.initstepslew_threshold_s
            step = abs(offset_s) >= threshold_s
            self._log(
                Severity.INFO,
                f"System's initial offset : {abs(offset_s):.6f} seconds "
                f"{'fast' if offset_s > 0.0 else 'slow'} of true ({'step' if step else 'slew'})",
            )
            if not step or not self._clock.step(offset_s):
                self._clock.accumulate_offset(offset_s, 0.0)
            self._end_special_mode(True)

    def _end_special_mode(self, success: bool) -> None:
        # a second update while the daemon ends must not correct again
        ended, self.mode = self.mode, ReferenceMode.PRINT_ONCE
        if ended is ReferenceMode.INITSTEPSLEW:
            self.mode = ReferenceMode.NORMAL
        if self._outlets.on_mode_end is not None:
            self._outlets.on_mode_end(success)

    def _is_change_allowed(self, offset_s: float) -> bool:
        limits = self._maxchange
        if limits is None or limits.start < 0 or self.updates < limits.start:
            return True
        if abs(offset_s) <= limits.offset_s:
            return True
        exiting = self._maxchange_ignore == 0
        self._log(
            Severity.WARNING,
            f"Adjustment of {-offset_s:.3f} seconds exceeds the allowed maximum of "
            f"{limits.offset_s:.3f} seconds ({'exiting' if exiting else 'ignored'}) ",
        )
        if exiting and self._outlets.terminate is not None:
            self._outlets.terminate()
        elif self._maxchange_ignore > 0:
            self._maxchange_ignore -= 1
        return False

    def _weigh_frequency(self, estimate: ClockEstimate, *, manual: bool) -> float:
        """Split the new frequency into what is corrected (returned) and a residual, by its error."""
        ours, theirs = self._skew, estimate.skew
        if manual:
            gain = 1.0
        elif theirs > self._max_update_skew:
            gain = 0.0
        else:
            gain = 3.0 * ours * ours / (3.0 * ours * ours + theirs * theirs)
        corrected = gain * estimate.frequency
        self._residual = estimate.frequency - corrected
        spread = corrected * corrected * (1.0 - gain) + self._residual * self._residual * gain
        self._skew = ours + gain * (theirs - ours) + math.sqrt(spread)
        return corrected

    def _commit(self, update: ReferenceUpdate, offset_s: float, interval_s: float) -> None:
        estimate = update.tracking
        if update.leap is Leap.UNSYNCHRONISED:
            if self._synchronised:
                self._local.note_loss()
            self._synchronised = False
        else:
            self._synchronised = True
        self._stratum = min(update.stratum + 1, STRATUM_UNSYNCHRONISED)
        self._refid = update.refid
        self._address = update.address
        self._ref_time_ns = estimate.ref_time_ns
        self._root_delay_s = estimate.root_delay_s
        self._root_dispersion_s = estimate.root_dispersion_s
        self._offset_sd_s = estimate.offset_sd_s
        self._frequency_sd = estimate.frequency_sd
        self._last_offset_s = offset_s
        self._last_interval_s = interval_s

    def _choose_step(self, offset_s: float, correction_s: float) -> tuple[float, float | None]:
        """What to slew and what to step."""
        limit = self._makestep.limit
        if limit == 0:
            return offset_s, None
        if limit > 0:
            self._makestep = MakeStep(self._makestep.threshold_s, limit - 1)
        step_s = offset_s - correction_s
        if abs(step_s) <= self._makestep.threshold_s:
            return offset_s, None
        # the slew only cancels what is still pending
        return correction_s, step_s

    def _tell_change(self, offset_s: float) -> None:
        if abs(offset_s) > self._options.logchange_s:
            self._log(Severity.WARNING, f"System clock wrong by {-offset_s:.6f} seconds")
        threshold_s = self._options.mailonchange_s
        if threshold_s is not None and abs(offset_s) > threshold_s and self._outlets.mail is not None:
            self._outlets.mail(offset_s)

    def _account(self, offset_s: float, interval_s: float) -> None:
        """Long-term figures: drift file, fallback drifts, RMS offset."""
        self._drift_age_s += interval_s
        if self._drift_age_s >= self._options.driftfile_interval_s:
            self._save_drift()
        if self._fallback is not None:
            self._fallback.update(self._clock.absolute_frequency_ppm, interval_s)
        square = offset_s * offset_s
        if self._mean_square_moves:
            self._mean_square_s2 += RMS_GAIN * (square - self._mean_square_s2)
        else:
            # the first offsets are what was wrong before we came
            self._mean_square_moves = 0.0 < self._mean_square_s2 < square
            self._mean_square_s2 = square

    def _fall_back(self, frequency_ppm: float) -> None:
        self._clock.set_absolute_frequency_ppm(frequency_ppm)
        self.set_unsynchronised()

    def _lose(self) -> None:
        if self._synchronised:
            self._local.note_loss()
        self._synchronised = False
        self._stratum = STRATUM_UNSYNCHRONISED
        self._refid = 0
        self._address = None

    def _try_to_activate(self) -> None:
        if self._synchronised:
            self._local.note_distance(self._page().distance_s(self._clock.cooked_ns()))

    def _set_kernel_status(self) -> None:
        driver = self._clock.driver
        if not self._synchronised:
            driver.set_sync_status(False, math.inf, math.inf)
            return
        now_ns = self._clock.cooked_ns()
        pending_s = abs(self._clock.correction_s())
        age_s = abs(now_ns - self._ref_time_ns) / NS_PER_S
        est_error_s = max(self._offset_sd_s + age_s * self._frequency_sd, pending_s)
        driver.set_sync_status(True, est_error_s, self._page().distance_s(now_ns) + pending_s)

    def _clock_changed(self, change: ClockChange) -> None:
        self._slew_epoch = (self._slew_epoch + 1) & 0xFFFF
        self._slew_last_s = change.doffset_s
        if change.kind is ChangeKind.ADJUST:
            self._mono_offset_s += change.doffset_s
        else:
            self._step_count += 1
            self._mono_offset_s = 0.0
            self._draw_mono_epoch()
        if self.smoothing is not None:
            self.smoothing.handle_change(change)
        self._leap.handle_change(change)
        if self._ref_time_ns:
            self._ref_time_ns = change.slewed_ns(self._ref_time_ns)
        self._local.handle_change(change)
        if change.kind is ChangeKind.UNKNOWN_STEP:
            self.set_unsynchronised()

    def _draw_mono_epoch(self) -> None:
        self._mono_epoch = int(self._random.random() * (1 << 32))

    def _add_dispersion(self, dispersion_s: float) -> None:
        self._root_dispersion_s += dispersion_s

    def _clock_steps(self, stepping: bool) -> None:
        self._stepping = stepping
        if stepping or not self._holding:
            self._send(self._page())

    def _publish(self) -> None:
        if not self._holding:
            self._send(self._page())

    def _send(self, page: ServedReference) -> None:
        if self._outlets.on_publish is not None:
            self._outlets.on_publish(page)

    def _served_leap(self) -> Leap:
        """The leap indicator: clients of smoothed time are not told of what they will never see."""
        status = self._leap.status
        if self.smoothing is not None and status in (Leap.INSERT, Leap.DELETE):
            mode = self._options.leapsecmode
            if mode is LeapSecMode.SLEW or (mode is not LeapSecMode.IGNORE and self.smoothing.active):
                return Leap.NORMAL
        return status

    def _page(self) -> ServedReference:
        clock, local, smoothing = self._clock, self._local.options, self.smoothing
        mapping = clock.mapping()
        # the successor of a control that was killed finds the clock no longer slewed as the page says
        takeover_s = abs(mapping.rate) * TAKEOVER_S if clock.driver.controls_clock else 0.0
        return ServedReference(
            synchronised=self._synchronised,
            local=local is not None,
            local_activated=self._local.activated,
            stepping=self._stepping,
            leap_lock=self._leap.in_progress,
            leap=self._served_leap(),
            stratum=self._stratum,
            refid=self._refid,
            ref_time_ns=self._ref_time_ns,
            root_delay_s=self._root_delay_s,
            root_dispersion_s=self._root_dispersion_s + takeover_s,
            dispersion_rate=self._skew + abs(self._residual) + clock.max_clock_error,
            precision=clock.precision_log2,
            local_stratum=local.stratum if local else 10,
            local_distance_s=local.distance_s if local else 1.0,
            local_wait_sync_s=local.waitsynced_s if local else 0.0,
            local_wait_unsync_s=local.waitunsynced_s if local else 0.0,
            local_ref_time_ns=self._local.ref_time_ns,
            unsync_since_ns=self._local.unsync_since_ns,
            map_raw_ns=mapping.raw_ns,
            map_freq=mapping.rate,
            map_offset_s=mapping.offset_s,
            slew_epoch=self._slew_epoch,
            slew_last_s=self._slew_last_s,
            step_count=self._step_count,
            mono_offset_s=self._mono_offset_s,
            mono_epoch=self._mono_epoch,
            smoothing=smoothing is not None and smoothing.active,
            smooth_origin_ns=smoothing.state.origin_ns if smoothing else 0,
            smooth_offset_s=smoothing.state.offset_s if smoothing else 0.0,
            smooth_freq=smoothing.state.frequency if smoothing else 0.0,
            smooth_stages=smoothing.state.stages if smoothing else NO_STAGES,
            base_freq_ppm=clock.base_frequency_ppm,
        )

    def _track(
        self,
        time_ns: int,
        offset_s: float,
        correction_s: float,
        combined: int,
        max_error_s: float = UNSYNCHRONISED_DELAY_S / 2.0 + UNSYNCHRONISED_DISPERSION_S,
    ) -> None:
        if self._outlets.tracking_log is None:
            return
        page = self._page()
        followed = self._synchronised or self._refid != 0
        self._outlets.tracking_log(
            TrackingRecord(
                time_ns=time_ns,
                refid=self._refid,
                address=self._address,
                synchronised=self._synchronised,
                stratum=self._stratum if followed else 0,
                frequency_ppm=self._clock.absolute_frequency_ppm,
                skew_ppm=self._skew / PPM,
                offset_s=offset_s,
                leap=self._leap.status if self._synchronised else Leap.UNSYNCHRONISED,
                combined=combined,
                offset_sd_s=self._offset_sd_s,
                correction_s=correction_s,
                root_delay_s=self._root_delay_s,
                root_dispersion_s=page.dispersion_s(time_ns) if followed else page.root_dispersion_s,
                max_error_s=max_error_s,
            )
        )
