"""`tracking`, and `waitsync`, which watches it."""

import time

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.commands import Number

from .. import arguments as arg
from .. import fields as f
from ..output import Report
from ..session import RequestFailed, Session
from ..template import Template

_LOCAL_REFID = 0x7F7F0101
_INTERVAL_DEFAULT_S = 10.0
_INTERVAL_MIN_S = 0.1

TRACKING = Report(
    Template(
        "Reference ID    : {REFID} ({%s})\n"
        "Stratum         : {%u}\n"
        "Ref time (UTC)  : {DATE}\n"
        "System time     : {OFFSETWORDS} of NTP time\n"
        "Last offset     : {%+.9f} seconds\n"
        "RMS offset      : {%.9f} seconds\n"
        "Frequency       : {FREQWORDS}\n"
        "Residual freq   : {%+.3f} ppm\n"
        "Skew            : {%.3f} ppm\n"
        "Root delay      : {%.9f} seconds\n"
        "Root dispersion : {%.9f} seconds\n"
        "Update interval : {%.1f} seconds\n"
        "Leap status     : {LEAP}"
    ),
    (
        ("reference_id", lambda r: f.refid(r[0].ref_id)),
        ("reference_name", lambda r: r[1]),
        ("reference_address", lambda r: f.address(r[0].ip_addr)),
        ("stratum", lambda r: r[0].stratum),
        ("reference_time", lambda r: f.utc(r[0].ref_time_ns)),
        ("system_time_correction_s", lambda r: r[0].current_correction),
        ("last_offset_s", lambda r: r[0].last_offset),
        ("rms_offset_s", lambda r: r[0].rms_offset),
        ("frequency_ppm", lambda r: r[0].freq_ppm),
        ("residual_frequency_ppm", lambda r: r[0].resid_freq_ppm),
        ("skew_ppm", lambda r: r[0].skew_ppm),
        ("root_delay_s", lambda r: r[0].root_delay),
        ("root_dispersion_s", lambda r: r[0].root_dispersion),
        ("update_interval_s", lambda r: r[0].last_update_interval),
        ("leap_status", lambda r: f.leap(r[0].leap_status)),
    ),
)
WAITSYNC = Report(
    Template("try: {%d}, refid: {REFID}, correction: {%.9f}, skew: {%.3f}"),
    (
        ("try", lambda r: r[0]),
        ("reference_id", lambda r: f.refid(r[1])),
        ("correction_s", lambda r: r[2]),
        ("skew_ppm", lambda r: r[3]),
    ),
)


def tracking(session: Session, rest: str) -> None:
    report = session.report(Number.TRACKING, rep.Tracking)
    name = session.source_name(report.ip_addr, report.ref_id, is_refclock=not report.ip_addr.packed, truncate=False)
    ref_id, _, stratum, leap, ref_time_ns, *numbers = report
    session.output.row(TRACKING, (ref_id, name, stratum, ref_time_ns, *numbers, leap), (report, name))


def waitsync(session: Session, rest: str) -> bool:
    """Wait until synchronised within limits; 0 tries is without end."""
    words = rest.split()
    tries = (arg.integer(words[0]) if words else None) or 0
    max_correction_s, max_skew_ppm, interval_s = [arg.real(word) or 0.0 for word in words[1:4]] + [
        0.0,
        0.0,
        _INTERVAL_DEFAULT_S,
    ][len(words[1:4]) :]
    interval_s = max(interval_s, _INTERVAL_MIN_S)
    session.output.begin(WAITSYNC)
    attempt = 0
    while True:
        attempt += 1
        if _is_synchronised(session, attempt, max_correction_s, max_skew_ppm):
            return True
        if not session.output.flush() or attempt == tries:
            return False
        time.sleep(interval_s)


def _is_synchronised(session: Session, attempt: int, max_correction_s: float, max_skew_ppm: float) -> bool:
    try:
        report = session.report(Number.TRACKING, rep.Tracking)
    except RequestFailed:
        return False
    correction_s = abs(report.current_correction)
    row = (attempt, report.ref_id, correction_s, report.skew_ppm)
    session.output.row(WAITSYNC, row, row)
    has_source = report.ip_addr.packed or report.ref_id not in (0, _LOCAL_REFID)
    return (
        bool(has_source)
        and (not max_correction_s or correction_s <= max_correction_s)
        and (not max_skew_ppm or report.skew_ppm <= max_skew_ppm)
    )
