"""Commands on the clock: steps, adjustments, local reference, manual input, smoothing, RTC."""

from __future__ import annotations

from ntpd_fast.config.model import LocalOptions, MakeStep

from ..backend import (
    ClockControl,
    CommandFailed,
    LocalReference,
    ManualInput,
    RtcControl,
    SmoothingControl,
)
from ..codec import replies as rep
from ..codec import requests as req
from ..codec.commands import Number, Status
from .row import Row

_STRATUM_MAX = 15
# Of `waitunsynced` when it is not given (negative), with `orphan`.
_WAITUNSYNCED_ORPHAN_S = 300.0


def _makestep(clock: ClockControl, _: req.Nothing) -> None:
    clock.make_step()


def _modify_makestep(clock: ClockControl, request: req.ModifyMakeStep) -> None:
    clock.set_makestep(MakeStep(threshold_s=request.threshold, limit=request.limit))


def _maxupdateskew(clock: ClockControl, request: req.Real) -> None:
    clock.set_maxupdateskew_ppm(request.value)


def _dfreq(clock: ClockControl, request: req.Real) -> None:
    clock.adjust_frequency_ppm(request.value)


def _doffset(clock: ClockControl, request: req.Real) -> None:
    clock.accumulate_offset_s(request.value)


def _local2(local: LocalReference, request: req.Local2) -> None:
    _local3(local, req.Local3(*request))


def _local3(local: LocalReference, request: req.Local3) -> None:
    if not request.on_off:
        local.set_local(None)
        return
    orphan = bool(request.orphan)
    wait_unsynced_s = request.wait_unsynced
    if wait_unsynced_s < 0.0:
        wait_unsynced_s = _WAITUNSYNCED_ORPHAN_S if orphan else 0.0
    local.set_local(
        LocalOptions(
            stratum=min(max(request.stratum, 1), _STRATUM_MAX),
            orphan=orphan,
            distance_s=request.distance,
            activate_s=request.activate,
            waitsynced_s=max(request.wait_synced, 0.0),
            waitunsynced_s=wait_unsynced_s,
        )
    )


def _manual(manual: ManualInput, request: req.Option) -> None:
    if request.option == 0:
        manual.set_enabled(False)
    elif request.option == 1:
        manual.set_enabled(True)
    elif request.option == 2:
        manual.reset()
    else:
        raise CommandFailed(Status.INVALID)


def _settime(manual: ManualInput, request: req.SetTime) -> rep.ManualTimestamp:
    return manual.settime(request.time_ns)


def _manual_list(manual: ManualInput, _: req.Nothing) -> rep.ManualList:
    return rep.ManualList(manual.samples()[: rep.MANUAL_SAMPLES_MAX])


def _no_manual_samples(_: req.Nothing) -> rep.ManualList:
    return rep.ManualList(())


def _manual_delete(manual: ManualInput, request: req.Index) -> None:
    if not 0 <= request.position < len(manual.samples()):
        raise CommandFailed(Status.BAD_SAMPLE)
    manual.delete_sample(request.position)


def _smoothing(smoothing: SmoothingControl, _: req.Nothing) -> rep.Smoothing:
    return smoothing.smoothing()


def _smoothtime(smoothing: SmoothingControl, request: req.Option) -> None:
    if request.option == 0:
        smoothing.reset()
    elif request.option == 1:
        smoothing.activate()
    else:
        raise CommandFailed(Status.INVALID)


def _rtc_data(rtc: RtcControl, _: req.Nothing) -> rep.RtcData:
    return rtc.rtc_data()


def _trim_rtc(rtc: RtcControl, _: req.Nothing) -> None:
    rtc.trim()


def _write_rtc(rtc: RtcControl, _: req.Nothing) -> None:
    rtc.write()


ROWS = (
    Row(Number.MAKESTEP, "clock", _makestep),
    Row(Number.MODIFY_MAKESTEP, "clock", _modify_makestep),
    Row(Number.MODIFY_MAXUPDATESKEW, "clock", _maxupdateskew),
    Row(Number.DFREQ, "clock", _dfreq),
    Row(Number.DOFFSET2, "clock", _doffset),
    Row(Number.LOCAL2, "local", _local2),
    Row(Number.LOCAL3, "local", _local3),
    Row(Number.MANUAL, "manual", _manual),
    Row(Number.SETTIME, "manual", _settime, Status.NOT_ENABLED),
    Row(Number.MANUAL_LIST, "manual", _manual_list, _no_manual_samples),
    Row(Number.MANUAL_DELETE, "manual", _manual_delete, Status.BAD_SAMPLE),
    Row(Number.SMOOTHING, "smoothing", _smoothing, Status.NOT_ENABLED),
    Row(Number.SMOOTHTIME, "smoothing", _smoothtime, Status.NOT_ENABLED),
    Row(Number.RTCREPORT, "rtc", _rtc_data, Status.NO_RTC),
    Row(Number.TRIMRTC, "rtc", _trim_rtc, Status.NO_RTC),
    Row(Number.WRITERTC, "rtc", _write_rtc, Status.NO_RTC),
)
