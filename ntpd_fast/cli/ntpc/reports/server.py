"""`serverstats`, `activity`, `smoothing`, `rtcdata`, and our own `faults`."""

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.commands import Number

from .. import fields as f
from ..output import Report
from ..session import Session
from ..template import Template

# Line of the report, field of the reply, name in JSON. The order is not the wire's.
_COUNTERS = (
    ("NTP packets received", "ntp_hits", "ntp_packets_received"),
    ("NTP packets dropped", "ntp_drops", "ntp_packets_dropped"),
    ("Command packets received", "cmd_hits", "command_packets_received"),
    ("Command packets dropped", "cmd_drops", "command_packets_dropped"),
    ("Client log records dropped", "log_drops", "client_log_records_dropped"),
    ("NTS-KE connections accepted", "nke_hits", "nts_ke_connections_accepted"),
    ("NTS-KE connections dropped", "nke_drops", "nts_ke_connections_dropped"),
    ("Authenticated NTP packets", "ntp_auth_hits", "authenticated_ntp_packets"),
    ("Interleaved NTP packets", "ntp_interleaved_hits", "interleaved_ntp_packets"),
    ("NTP timestamps held", "ntp_timestamps", "ntp_timestamps_held"),
    ("NTP timestamp span", "ntp_span_seconds", "ntp_timestamp_span_s"),
    ("NTP daemon RX timestamps", "ntp_daemon_rx_timestamps", "ntp_daemon_rx_timestamps"),
    ("NTP daemon TX timestamps", "ntp_daemon_tx_timestamps", "ntp_daemon_tx_timestamps"),
    ("NTP kernel RX timestamps", "ntp_kernel_rx_timestamps", "ntp_kernel_rx_timestamps"),
    ("NTP kernel TX timestamps", "ntp_kernel_tx_timestamps", "ntp_kernel_tx_timestamps"),
    ("NTP hardware RX timestamps", "ntp_hw_rx_timestamps", "ntp_hardware_rx_timestamps"),
    ("NTP hardware TX timestamps", "ntp_hw_tx_timestamps", "ntp_hardware_tx_timestamps"),
)
# What chronyd up to 4.3 has of them.
_COUNTERS_3 = len(rep.ServerStats3.__annotations__)


def counter_report(count: int) -> Report:
    """The first `count` counters."""
    rows = _COUNTERS[:count]
    return Report(
        Template("\n".join(f"{label:<27}: {{%u}}" for label, _, _ in rows)),
        [(name, lambda r, field=field: getattr(r, field)) for _, field, name in rows],  # type: ignore[misc]
    )


ACTIVITY = Report(
    Template(
        "{%u} sources online\n"
        "{%u} sources offline\n"
        "{%u} sources doing burst (return to online)\n"
        "{%u} sources doing burst (return to offline)\n"
        "{%u} sources with unknown address"
    ),
    (
        ("online", lambda r: r.online),
        ("offline", lambda r: r.offline),
        ("burst_online", lambda r: r.burst_online),
        ("burst_offline", lambda r: r.burst_offline),
        ("unknown_address", lambda r: r.unresolved),
    ),
)
SMOOTHING = Report(
    Template(
        "Active         : {YESNO} {%s}\n"
        "Offset         : {%+.9f} seconds\n"
        "Frequency      : {%+.6f} ppm\n"
        "Wander         : {%+.6f} ppm per second\n"
        "Last update    : {%.1f} seconds ago\n"
        "Remaining time : {%.1f} seconds"
    ),
    (
        ("active", lambda r: bool(r.flags & 1)),
        ("leap_only", lambda r: bool(r.flags & 2)),
        ("offset_s", lambda r: r.offset),
        ("frequency_ppm", lambda r: r.freq_ppm),
        ("wander_ppm_per_s", lambda r: r.wander_ppm),
        ("last_update_ago_s", lambda r: r.last_update_ago),
        ("remaining_time_s", lambda r: r.remaining_time),
    ),
)
RTCDATA = Report(
    Template(
        "RTC ref time (UTC) : {DATE}\n"
        "Number of samples  : {%u}\n"
        "Number of runs     : {%u}\n"
        "Sample span period : {AGO}\n"
        "RTC is fast by     : {%12.6f} seconds\n"
        "RTC gains time at  : {%9.3f} ppm"
    ),
    (
        ("reference_time", lambda r: f.utc(r.ref_time_ns)),
        ("samples", lambda r: r.n_samples),
        ("runs", lambda r: r.n_runs),
        ("span_s", lambda r: r.span_seconds),
        ("rtc_fast_s", lambda r: r.rtc_seconds_fast),
        ("rtc_gain_rate_ppm", lambda r: r.rtc_gain_rate_ppm),
    ),
)


# Line of the report, field of the reply, name in JSON.
_FAULTS = (
    ("NTP: malformed length", "ntp_bad_length", "ntp_bad_length"),
    ("NTP: unknown version", "ntp_bad_version", "ntp_bad_version"),
    ("NTP: malformed fields", "ntp_bad_format", "ntp_bad_format"),
    ("NTP: not allowed", "ntp_not_allowed", "ntp_not_allowed"),
    ("NTP: mode not answered", "ntp_bad_mode", "ntp_bad_mode"),
    ("NTP: over rate limit", "ntp_rate_limited", "ntp_rate_limited"),
    ("NTP: bad authentication", "ntp_bad_authentication", "ntp_bad_authentication"),
    ("NTP: too short for answer", "ntp_too_short_for_answer", "ntp_too_short_for_answer"),
    ("NTP: waited too long", "ntp_waited_too_long", "ntp_waited_too_long"),
    ("NTP: clock was stepped", "ntp_clock_stepping", "ntp_clock_stepping"),
    ("NTP: no random numbers", "ntp_no_entropy", "ntp_no_entropy"),
    ("NTP: answered KoD RATE", "ntp_kod_rate", "ntp_answered_kod_rate"),
    ("NTP: answered NTS NAK", "ntp_nts_nak", "ntp_answered_nts_nak"),
    ("NTP: receive buffer full", "ntp_receive_buffer_full", "ntp_receive_buffer_full"),
    ("NTP: receive errors", "ntp_receive_errors", "ntp_receive_errors"),
    ("NTP: send errors", "ntp_send_errors", "ntp_send_errors"),
    ("NTP: control was busy", "ntp_control_queue_full", "ntp_control_queue_full"),
    ("NTP: signing was busy", "ntp_signing_queue_full", "ntp_signing_queue_full"),
    ("TX timestamps unmatched", "tx_stamps_unmatched", "tx_timestamps_unmatched"),
    ("TX timestamps rejected", "tx_stamps_rejected", "tx_timestamps_rejected"),
    ("NTS-KE: failed", "nke_failed", "nts_ke_failed"),
    ("NTS-KE: not allowed", "nke_not_allowed", "nts_ke_not_allowed"),
    ("NTS-KE: over rate limit", "nke_rate_limited", "nts_ke_rate_limited"),
    ("NTS-KE: too many", "nke_too_many", "nts_ke_too_many"),
    ("NTS-KE: out of resources", "nke_out_of_resources", "nts_ke_out_of_resources"),
    ("Commands: refused", "cmd_refused", "command_refused"),
    ("Commands: not allowed", "cmd_not_allowed", "command_not_allowed"),
    ("Commands: malformed length", "cmd_bad_length", "command_bad_length"),
    ("Commands: malformed", "cmd_bad_form", "command_bad_form"),
    ("Commands: over rate limit", "cmd_rate_limited", "command_rate_limited"),
    ("Commands: old version", "cmd_bad_version", "command_bad_version"),
    ("Commands: nameless socket", "cmd_no_return_address", "command_no_return_address"),
    ("Commands: receive errors", "cmd_receive_errors", "command_receive_errors"),
    ("Commands: send errors", "cmd_send_errors", "command_send_errors"),
    ("Tables deferred", "tables_deferred", "tables_deferred"),
    ("Worker starts", "worker_starts", "worker_starts"),
)
FAULTS = Report(
    Template("\n".join(f"{label:<27}: {{%u}}" for label, _, _ in _FAULTS)),
    [(name, lambda r, field=field: getattr(r, field)) for _, field, name in _FAULTS],  # type: ignore[misc]
)


def serverstats(session: Session, rest: str) -> None:
    stats = session.report(Number.SERVER_STATS, (rep.ServerStats, rep.ServerStats3))
    count = len(_COUNTERS) if isinstance(stats, rep.ServerStats) else _COUNTERS_3
    values = [getattr(stats, field) for _, field, _ in _COUNTERS[:count]]
    session.output.row(counter_report(count), values, stats)


def activity(session: Session, rest: str) -> None:
    report = session.report(Number.ACTIVITY, rep.Activity, verbose=session.output.is_text)
    session.output.row(ACTIVITY, report, report)


def smoothing(session: Session, rest: str) -> None:
    report = session.report(Number.SMOOTHING, rep.Smoothing)
    flags, *numbers = report
    leap_only = "(leap second only)" if flags & 2 else ""
    session.output.row(SMOOTHING, (flags & 1, leap_only, *numbers), report)


def rtcdata(session: Session, rest: str) -> None:
    report = session.report(Number.RTCREPORT, rep.RtcData)
    session.output.row(RTCDATA, report, report)


def faults(session: Session, rest: str) -> None:
    report = session.report(Number.FAULTS, rep.Faults)
    session.output.row(FAULTS, report, report)
