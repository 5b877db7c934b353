"""`ntpdata`: the last valid measurement of NTP sources."""

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import Address, Family
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.replies import NtpDataFlag

from .. import fields as f
from ..formats import refid_text
from ..output import Report
from ..session import CommandError, Session
from ..template import Template
from .sources import is_refclock

_MODES = {1: "Symmetric active", 2: "Symmetric passive", 4: "Server"}
_MODE_WORDS = {1: "symmetric_active", 2: "symmetric_passive", 4: "server"}
_TIMESTAMPING = {"D": "Daemon", "K": "Kernel", "H": "Hardware"}
_EXPONENT_MAX = 31
_TESTS = ["1", "2", "3", "5", "6", "7", "A", "B", "C", "D"]

_LINES = (
    "Remote address  : {%s} ({REFID})",
    "Remote port     : {%u}",
    "Local address   : {%s} ({REFID})",
    "Leap status     : {LEAP}",
    "Version         : {%u}",
    "Mode            : {%s}",
    "Stratum         : {%u}",
    "Poll interval   : {%d} ({%.0f} seconds)",
    "Precision       : {%d} ({%.9f} seconds)",
    "Root delay      : {%.6f} seconds",
    "Root dispersion : {%.6f} seconds",
    "Reference ID    : {REFID} ({%s})",
    "Reference time  : {DATE}",
    "Offset          : {%+.9f} seconds",
    "Peer delay      : {%.9f} seconds",
    "Peer dispersion : {%.9f} seconds",
    "Response time   : {%.9f} seconds",
    "Jitter asymmetry: {%+.2f}",
    "NTP tests       : {%s} {%s} {%s}",
    "Interleaved     : {YESNO}",
    "Authenticated   : {YESNO}",
    "TX timestamping : {%s}",
    "RX timestamping : {%s}",
    "Total TX        : {%u}",
    "Total RX        : {%u}",
    "Total valid RX  : {%u}",
    "Total good RX   : {%u}",
)
_LINES_2 = (
    "Total kernel TX : {%u}",
    "Total kernel RX : {%u}",
    "Total HW TX     : {%u}",
    "Total HW RX     : {%u}",
)
_FIELDS = (
    ("remote_address", lambda r: f.address(r.remote_addr)),
    ("remote_port", lambda r: r.remote_port),
    ("local_address", lambda r: f.address(r.local_addr)),
    ("leap_status", lambda r: f.leap(r.leap)),
    ("version", lambda r: r.version),
    ("mode", lambda r: _MODE_WORDS.get(r.mode, r.mode or None)),
    ("stratum", lambda r: r.stratum),
    ("poll_log2_s", lambda r: r.poll),
    ("precision_log2_s", lambda r: r.precision),
    ("root_delay_s", lambda r: r.root_delay),
    ("root_dispersion_s", lambda r: r.root_dispersion),
    ("reference_id", lambda r: f.refid(r.ref_id)),
    ("reference_time", lambda r: f.utc(r.ref_time_ns)),
    ("offset_s", lambda r: r.offset),
    ("peer_delay_s", lambda r: r.peer_delay),
    ("peer_dispersion_s", lambda r: r.peer_dispersion),
    ("response_time_s", lambda r: r.response_time),
    ("jitter_asymmetry", lambda r: r.jitter_asymmetry),
    ("tests_passed", lambda r: [name for i, name in enumerate(_TESTS) if r.flags >> (9 - i) & 1]),
    ("interleaved", lambda r: bool(r.flags & NtpDataFlag.INTERLEAVED)),
    ("authenticated", lambda r: bool(r.flags & NtpDataFlag.AUTHENTICATED)),
    ("tx_timestamping", lambda r: _TIMESTAMPING.get(r.tx_tss_char, "").lower() or None),
    ("rx_timestamping", lambda r: _TIMESTAMPING.get(r.rx_tss_char, "").lower() or None),
    ("total_tx", lambda r: r.total_tx_count),
    ("total_rx", lambda r: r.total_rx_count),
    ("total_valid_rx", lambda r: r.total_valid_count),
    ("total_good_rx", lambda r: r.total_good_count),
)
_FIELDS_2 = (
    ("total_kernel_tx_timestamps", lambda r: r.total_kernel_tx_ts),
    ("total_kernel_rx_timestamps", lambda r: r.total_kernel_rx_ts),
    ("total_hardware_tx_timestamps", lambda r: r.total_hw_tx_ts),
    ("total_hardware_rx_timestamps", lambda r: r.total_hw_rx_ts),
)
# chronyd up to 4.5, and from 4.6.
NTPDATA_1 = Report(Template("\n".join(_LINES)), _FIELDS)
NTPDATA = Report(Template("\n".join(_LINES + _LINES_2)), _FIELDS + _FIELDS_2)


def ntpdata(session: Session, rest: str) -> None:
    if rest:
        address = session.host_address(rest)
        if address is None:
            raise CommandError("Could not get address for hostname")
        _print(session, address)
        return
    count = session.report(Number.N_SOURCES, rep.SourceCount).n_sources
    session.output.begin(NTPDATA)
    for index in range(count):
        source = session.report(Number.SOURCE_DATA, rep.SourceData, req.Index(index))
        if is_refclock(source) or not source.ip_addr.is_ip:
            continue
        session.output.information("")
        _print(session, source.ip_addr)


def _print(session: Session, address: Address) -> None:
    data = session.report(Number.NTP_DATA, (rep.NtpData, rep.NtpData1), req.OneAddress(address))
    assert isinstance(data, rep.NtpData | rep.NtpData1)
    session.output.row(NTPDATA if isinstance(data, rep.NtpData) else NTPDATA_1, _values(data), data)


def _values(data: rep.NtpData | rep.NtpData1) -> list[object]:
    tests = f"{data.flags & NtpDataFlag.TESTS:010b}"
    return [
        str(data.remote_addr),
        refid_of(data.remote_addr),
        data.remote_port,
        str(data.local_addr),
        refid_of(data.local_addr),
        data.leap,
        data.version,
        _MODES.get(data.mode, "Invalid"),
        data.stratum,
        data.poll,
        _power_of_two(data.poll),
        data.precision,
        _power_of_two(data.precision),
        data.root_delay,
        data.root_dispersion,
        data.ref_id,
        refid_text(data.ref_id) if data.stratum <= 1 else "",
        data.ref_time_ns,
        data.offset,
        data.peer_delay,
        data.peer_dispersion,
        data.response_time,
        data.jitter_asymmetry,
        tests[:3],
        tests[3:6],
        tests[6:],
        data.flags & NtpDataFlag.INTERLEAVED,
        data.flags & NtpDataFlag.AUTHENTICATED,
        _TIMESTAMPING.get(data.tx_tss_char, "Invalid"),
        _TIMESTAMPING.get(data.rx_tss_char, "Invalid"),
        *data[21:],
    ]


def _power_of_two(exponent: int) -> float:
    return 2.0 ** max(-_EXPONENT_MAX, min(exponent, _EXPONENT_MAX))


def refid_of(address: Address) -> int:
    """The reference ID an NTP server derives from an address (RFC 5905, 7.3)."""
    if address.family == Family.INET4:
        return address.number
    if address.family == Family.INET6:
        from hashlib import md5  # brings in libcrypto

        return int.from_bytes(md5(address.packed, usedforsecurity=False).digest()[:4], "big")
    return 0
