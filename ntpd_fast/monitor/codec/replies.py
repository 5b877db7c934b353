"""Payloads of the replies. The back end hands in the same, so each field says its unit and sign."""

from typing import Annotated, NamedTuple

from .layout import (
    I8,
    I16,
    U8,
    U16,
    U32,
    U64,
    Char,
    Counted,
    Flag8,
    Float,
    Name,
    TimeNs,
    U8Pad1,
    U16Pad2,
    WireAddress,
)

# "Never", in the fields that count seconds since something.
NEVER = 0xFFFFFFFF
# "Unknown", in the intervals of the client list.
UNKNOWN_INTERVAL = 127


class SourceCount(NamedTuple):
    """2 N_SOURCES."""

    n_sources: U32


class SourceData(NamedTuple):
    """3 SOURCE_DATA. Offsets in s, positive when the local clock is ahead."""

    ip_addr: WireAddress
    """IP or ID#; of a reference clock the reference ID in the IPv4 slot (`Address.from_refid`)."""
    poll: I16
    """Current polling interval, log2 s."""
    stratum: U16
    """Of the last sample, 0 without one; of a reference clock the configured one."""
    state: U16
    """0 selected, 1 not selectable, 2 falseticker, 3 jittery, 4 combined, 5 selectable but not combined."""
    mode: U16Pad2
    """0 client, 1 peer, 2 reference clock."""
    reachability: U16
    """8 bits, the newest poll in bit 0."""
    since_sample: U32
    """s since the last sample; NEVER without one."""
    orig_latest_meas: Float
    latest_meas: Float
    """The same sample, adjusted for slews since."""
    latest_meas_err: Float
    """s: root delay / 2 + root dispersion."""


class Tracking(NamedTuple):
    """5 TRACKING."""

    ref_id: U32
    ip_addr: WireAddress
    """Of the source followed; family 0 for a reference clock, local mode, or none."""
    stratum: U16
    """Our own: the reference's + 1; 0 when unsynchronised."""
    leap_status: U16
    """0 normal, 1 insert, 2 delete, 3 not synchronised."""
    ref_time_ns: TimeNs
    """Last reference update; 0 when unsynchronised."""
    current_correction: Float
    """s still to be added to the system clock: positive when it is slow."""
    last_offset: Float
    """s, positive when the local clock was ahead."""
    rms_offset: Float
    freq_ppm: Float
    """Positive when the uncorrected clock runs fast."""
    resid_freq_ppm: Float
    skew_ppm: Float
    root_delay: Float
    """s; 1.0 when unsynchronised, 0.0 in local mode; so the dispersion."""
    root_dispersion: Float
    last_update_interval: Float
    """s between the last two updates; 0 before."""


class SourceStats(NamedTuple):
    """6 SOURCESTATS."""

    ref_id: U32
    ip_addr: WireAddress
    """Family 0 for a reference clock."""
    n_samples: U32
    n_runs: U32
    span_seconds: U32
    sd: Float
    """s; 4.0 without samples."""
    resid_freq_ppm: Float
    """Positive when the local clock gains."""
    skew_ppm: Float
    """2000 without samples."""
    est_offset: Float
    est_offset_err: Float


class RtcData(NamedTuple):
    """7 RTC."""

    ref_time_ns: TimeNs
    n_samples: U16
    n_runs: U16
    span_seconds: U32
    rtc_seconds_fast: Float
    rtc_gain_rate_ppm: Float


class Activity(NamedTuple):
    """12 ACTIVITY: NTP sources by connectivity; reference clocks are not counted."""

    online: U32
    offline: U32
    burst_online: U32
    """Bursting, online afterwards."""
    burst_offline: U32
    unresolved: U32


class Smoothing(NamedTuple):
    """13 SMOOTHING."""

    flags: U32
    """0x1 active, 0x2 leap seconds only."""
    offset: Float
    """s, positive when clients get time ahead."""
    freq_ppm: Float
    wander_ppm: Float
    """ppm/s."""
    last_update_ago: Float
    remaining_time: Float


class NtpData1(NamedTuple):
    """16 NTP_DATA, up to 4.5: the first 25 fields of NtpData."""

    remote_addr: WireAddress
    local_addr: WireAddress
    remote_port: U16
    leap: U8
    version: U8
    mode: U8
    stratum: U8
    poll: I8
    precision: I8
    root_delay: Float
    root_dispersion: Float
    ref_id: U32
    ref_time_ns: TimeNs
    offset: Float
    peer_delay: Float
    peer_dispersion: Float
    response_time: Float
    jitter_asymmetry: Float
    flags: U16
    tx_tss_char: Char
    rx_tss_char: Char
    total_tx_count: U32
    total_rx_count: U32
    total_valid_count: U32
    total_good_count: U32


class NtpData(NamedTuple):
    """26 NTP_DATA2. Before any valid response all but remote address, port and counters are 0."""

    remote_addr: WireAddress
    local_addr: WireAddress
    """Received the last valid response; family 0 before the first."""
    remote_port: U16
    leap: U8
    version: U8
    mode: U8
    """Of the packet: 4 server, 1 symmetric active, 2 passive; 0 before any response."""
    stratum: U8
    poll: I8
    precision: I8
    root_delay: Float
    root_dispersion: Float
    ref_id: U32
    ref_time_ns: TimeNs
    offset: Float
    """s, positive when the SOURCE is ahead: the opposite of every other report."""
    peer_delay: Float
    peer_dispersion: Float
    response_time: Float
    jitter_asymmetry: Float
    """-0.5..0.5."""
    flags: U16
    """Bits 9..0: tests 1 2 3 5 6 7 A B C D passed; 0x4000 interleaved; 0x8000 authenticated."""
    tx_tss_char: Char
    """'D' daemon, 'K' kernel, 'H' hardware, '' none yet."""
    rx_tss_char: Char
    total_tx_count: U32
    total_rx_count: U32
    total_valid_count: U32
    """Passed tests 1-3 and 5-7."""
    total_good_count: U32
    total_kernel_tx_ts: U32
    total_kernel_rx_ts: U32
    total_hw_tx_ts: U32
    total_hw_rx_ts: U32


class NtpDataFlag:
    """Bits of `NtpData.flags` beside the ten test bits."""

    TESTS = 0x3FF
    INTERLEAVED = 0x4000
    AUTHENTICATED = 0x8000


class ManualTimestamp(NamedTuple):
    """17 MANUAL_TIMESTAMP2."""

    offset: Float
    """s the clock was fast."""
    dfreq_ppm: Float
    new_afreq_ppm: Float


class ManualSample(NamedTuple):
    """A row of MANUAL_LIST2; offsets in s."""

    when_ns: TimeNs
    slewed_offset: Float
    orig_offset: Float
    residual: Float


MANUAL_SAMPLES_MAX = 16


class ManualList(NamedTuple):
    """18 MANUAL_LIST2."""

    samples: Annotated[tuple[ManualSample, ...], Counted(ManualSample, MANUAL_SAMPLES_MAX)]


class SourceName(NamedTuple):
    """19 NTP_SOURCE_NAME: as configured."""

    name: Name


class AuthData(NamedTuple):
    """20 AUTH_DATA. Mode 0 none (all 0, last_ke_ago NEVER), 1 symmetric key, 2 NTS."""

    mode: U16
    key_type: U16
    """1 MD5, 2 SHA1, 3 SHA256, 4 SHA384, 5 SHA512, 13 AES128, 14 AES256, 15 AEAD-AES-SIV-CMAC-256,
    30 AEAD-AES-128-GCM-SIV."""
    key_id: U32
    """The key's number; with NTS the count of key establishments."""
    key_length: U16
    """Bits."""
    ke_attempts: U16
    """Since the last success."""
    last_ke_ago: U32
    """s; NEVER."""
    cookies: U16
    cookie_length: U16
    """Bytes of the next cookie; 0 without one."""
    nak: U16Pad2
    """1 if an NTS NAK came since the last request."""


class ClientAccess(NamedTuple):
    """A row of CLIENT_ACCESSES_BY_INDEX3; intervals log2 s, UNKNOWN_INTERVAL; ages in s, NEVER."""

    ip: WireAddress
    ntp_hits: U32
    nke_hits: U32
    cmd_hits: U32
    ntp_drops: U32
    nke_drops: U32
    cmd_drops: U32
    ntp_interval: I8
    nke_interval: I8
    cmd_interval: I8
    ntp_timeout_interval: I8
    """Interval of requests that were refused by the rate limit."""
    last_ntp_hit_ago: U32
    last_nke_hit_ago: U32
    last_cmd_hit_ago: U32


CLIENTS_PER_REPLY = 8


class ClientAccesses(NamedTuple):
    """21 CLIENT_ACCESSES_BY_INDEX3: clients of the indices from the one asked for to below `next_index`."""

    n_indices: U32
    """Size of the table, not the number of clients."""
    next_index: U32
    clients: Annotated[tuple[ClientAccess, ...], Counted(ClientAccess, CLIENTS_PER_REPLY)]


class SelectData(NamedTuple):
    """23 SELECT_DATA."""

    ref_id: U32
    ip_addr: WireAddress
    """Family 0 for a reference clock."""
    state_char: Char
    """One of N M s d ~ w S O T x W P U D L + *."""
    authentication: Flag8
    leap: U8Pad1
    conf_options: U16
    """Bits of SelectOption; so the effective ones."""
    eff_options: U16
    last_sample_ago: U32
    """s, at the time of selection."""
    score: Float
    lo_limit: Float
    hi_limit: Float


class ServerStats3(NamedTuple):
    """24 SERVER_STATS3, chrony 4.2 and 4.3: the first 11 counters of ServerStats."""

    ntp_hits: U32
    nke_hits: U32
    cmd_hits: U32
    ntp_drops: U32
    nke_drops: U32
    cmd_drops: U32
    log_drops: U32
    ntp_auth_hits: U32
    ntp_interleaved_hits: U32
    ntp_timestamps: U32
    ntp_span_seconds: U32


class ServerStats(NamedTuple):
    """25 SERVER_STATS4."""

    ntp_hits: U64 = 0
    """Requests received."""
    nke_hits: U64 = 0
    """NTS-KE connections accepted."""
    cmd_hits: U64 = 0
    """Command requests received, on all sockets."""
    ntp_drops: U64 = 0
    """By rate limiting; so the next two."""
    nke_drops: U64 = 0
    cmd_drops: U64 = 0
    log_drops: U64 = 0
    """Client records that had to make room."""
    ntp_auth_hits: U64 = 0
    ntp_interleaved_hits: U64 = 0
    ntp_timestamps: U64 = 0
    """Pairs held for interleaved clients."""
    ntp_span_seconds: U64 = 0
    ntp_daemon_rx_timestamps: U64 = 0
    ntp_daemon_tx_timestamps: U64 = 0
    ntp_kernel_rx_timestamps: U64 = 0
    ntp_kernel_tx_timestamps: U64 = 0
    ntp_hw_rx_timestamps: U64 = 0
    ntp_hw_tx_timestamps: U64 = 0


class Faults(NamedTuple):
    """0x4E01 FAULTS, our own: what went unanswered or wrong, and why. Counters since the daemon's start; those of the
    command protocol since the start of the control process. A later version may append fields in a reply of its own.
    """

    ntp_bad_length: U64 = 0
    """Requests that were not answered, by the first reason found; so up to `ntp_no_entropy`."""
    ntp_bad_version: U64 = 0
    ntp_bad_format: U64 = 0
    ntp_not_allowed: U64 = 0
    ntp_bad_mode: U64 = 0
    ntp_rate_limited: U64 = 0
    ntp_bad_authentication: U64 = 0
    ntp_too_short_for_answer: U64 = 0
    """The answer would have been longer than the request."""
    ntp_waited_too_long: U64 = 0
    """In the receive buffer: the answer would have been useless."""
    ntp_clock_stepping: U64 = 0
    ntp_no_entropy: U64 = 0
    ntp_kod_rate: U64 = 0
    """Answered, but with "Kiss-o'-Death" RATE; the next with an NTS NAK."""
    ntp_nts_nak: U64 = 0
    ntp_receive_buffer_full: U64 = 0
    """Datagrams the kernel dropped because a worker did not fetch them in time."""
    ntp_receive_errors: U64 = 0
    ntp_send_errors: U64 = 0
    """Answers the kernel did not take."""
    ntp_control_queue_full: U64 = 0
    """Packets of our own associations that control had no room for; the next of Samba's signing daemon."""
    ntp_signing_queue_full: U64 = 0
    tx_stamps_unmatched: U64 = 0
    """Transmit timestamps that belonged to no saved answer; the next were outside the accepted range."""
    tx_stamps_rejected: U64 = 0
    nke_failed: U64 = 0
    """Key exchanges that did not end with keys."""
    nke_not_allowed: U64 = 0
    nke_rate_limited: U64 = 0
    nke_too_many: U64 = 0
    """Connections over `maxntsconnections`."""
    nke_out_of_resources: U64 = 0
    """Times that descriptors or memory ran out."""
    cmd_refused: U64 = 0
    """Commands answered with an error status."""
    cmd_not_allowed: U64 = 0
    """Commands dropped, by reason; so up to `cmd_bad_version`."""
    cmd_bad_length: U64 = 0
    cmd_bad_form: U64 = 0
    cmd_rate_limited: U64 = 0
    cmd_bad_version: U64 = 0
    cmd_no_return_address: U64 = 0
    """From a Unix socket without a name."""
    cmd_receive_errors: U64 = 0
    cmd_send_errors: U64 = 0
    tables_deferred: U64 = 0
    """Times that a change waited for workers to let go of an older version."""
    worker_starts: U64 = 0
    """Worker processes started: one for each worker at first, then one for each that died or was replaced."""


class ReloadState(NamedTuple):
    """0x4E02, our own: reloads of the configuration. RELOAD_CONFIG begins one, RELOAD_REPORT only asks."""

    busy: U32 = 0
    """One is on its way, 1, or 0."""
    ended: U32 = 0
    """How many have ended since the control process started."""
    refused: U32 = 0
    """The last one changed nothing, 1, or 0."""
    text: Name = b""
    """Why, or what of the last one needs a restart; UTF-8, goes on in `more`."""
    more: Name = b""
