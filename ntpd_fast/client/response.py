"""What a response measures and which tests it passes: the arithmetic of an association, without its state.

Test numbers are those of RFC 1305 and chrony's logs: 1–3 and 5–7 judge the packet, A–D the measurement.
"""

from __future__ import annotations

import enum

from ntpd_fast._record import dataclass, replace
from ntpd_fast.client.packet import Packet, ntp64_diff_s, ntp64_to_ns
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.sourcestats import DelayTestData
from ntpd_fast.client.stamps import Stamp, diff_s
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import NS_PER_S

MAX_ROOT_DISTANCE_S = 16.0
MAX_RESPONSE_TIME_S = 4.0
MAX_SKEW = 2000e-6
SANE_OFFSET_S = 2.0**32
MAX_MONO_CORRECTION_S = 16.0
NET_CORRECTION_TOLERANCE = 1e-4
"""How far the network's clocks may be off in frequency."""

PREFER_OLD_EXCHANGE = 0.1
"""An older exchange is used if it took less than this part of the time to the newer request."""

MIN_REMOTE_POLL = -7
MAX_REMOTE_POLL = 24
SYMMETRIC_MAX_DELAY_POLLS = 0.5
SYMMETRIC_MAX_INTERVAL_POLLS = 1.5


class PassedTests(enum.IntFlag):
    """Passed tests, as in the flags of the `ntpdata` report."""

    NONE = 0
    D = 1 << 0
    C = 1 << 1
    B = 1 << 2
    A = 1 << 3
    SANE = 1 << 4
    """Test 7."""
    SYNCHRONISED = 1 << 5
    """Test 6."""
    AUTHENTIC = 1 << 6
    """Test 5."""
    TIMESTAMPS = 1 << 7
    """Test 3."""
    ORIGIN = 1 << 8
    """Test 2."""
    NOT_DUPLICATE = 1 << 9
    """Test 1."""

    VALID = NOT_DUPLICATE | ORIGIN | TIMESTAMPS | AUTHENTIC
    SYNCED = VALID | SYNCHRONISED | SANE
    GOOD = A | B | C | D
    ALL = SYNCED | GOOD


@dataclass(frozen=True, slots=True)
class Exchange:
    """The four timestamps of a measurement and what goes with them (T1…T4 of RFC 5905 §8)."""

    local_tx: Stamp
    remote_rx_ns: int
    remote_tx_ns: int
    local_rx: Stamp
    root_delay_s: float
    root_dispersion_s: float
    net_correction_tx_s: float
    """Residence time of the request in the network, as the server tells it; 0: unknown."""


@dataclass(frozen=True, slots=True)
class RemoteStamps:
    """What is kept of a valid packet to use with the next one."""

    rx: int
    """NTP64."""
    tx: int
    """NTP64."""
    rx_ns: int
    root_delay_s: float
    root_dispersion_s: float
    net_correction_s: float
    mono_rx: int
    mono_epoch: int

    @classmethod
    def of(cls, packet: Packet, era_start_s: int) -> RemoteStamps:
        """Of a packet."""
        header = packet.header
        mono = packet.mono_root
        return cls(
            rx=header.receive_ts,
            tx=header.transmit_ts,
            rx_ns=ntp64_to_ns(header.receive_ts, era_start_s),
            root_delay_s=mono.root_delay_s if mono is not None else header.root_delay_s,
            root_dispersion_s=mono.root_dispersion_s if mono is not None else header.root_dispersion_s,
            net_correction_s=packet.net_correction_s or 0.0,
            mono_rx=mono.mono_rx if mono is not None else 0,
            mono_epoch=mono.mono_epoch if mono is not None else 0,
        )


@dataclass(frozen=True, slots=True)
class DelayLimits:
    """Options of the delay filters."""

    max_delay_s: float
    max_delay_ratio: float
    max_delay_dev_ratio: float
    max_clock_error: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """A sample and what the delay tests need beside it."""

    sample: Sample
    precision_s: float
    response_time_s: float
    """Time from the server's receive to its transmit timestamp."""


def packet_tests(packet: Packet, root_delay_s: float, root_dispersion_s: float) -> PassedTests:
    """PassedTests that need nothing but the packet: 3, 6 and 7."""
    header = packet.header
    passed = PassedTests.NONE
    if header.origin_ts and header.receive_ts and header.transmit_ts:
        passed |= PassedTests.TIMESTAMPS
    if header.leap is not Leap.UNSYNCHRONISED and 1 <= header.stratum <= 15:
        passed |= PassedTests.SYNCHRONISED
    if root_delay_s / 2.0 + root_dispersion_s < MAX_ROOT_DISTANCE_S:
        passed |= PassedTests.SANE
    return passed


def basic_exchange(packet: Packet, remote: RemoteStamps, tx: Stamp, rx: Stamp, era_start_s: int) -> Exchange:
    """The exchange of a request and its response."""
    return Exchange(
        local_tx=tx,
        remote_rx_ns=remote.rx_ns,
        remote_tx_ns=ntp64_to_ns(packet.header.transmit_ts, era_start_s),
        local_rx=rx,
        root_delay_s=remote.root_delay_s,
        root_dispersion_s=remote.root_dispersion_s,
        net_correction_tx_s=remote.net_correction_s,
    )


def interleaved_exchange(
    packet: Packet,
    remote: RemoteStamps,
    previous: RemoteStamps,
    *,
    tx: Stamp,
    previous_tx: Stamp | None,
    previous_rx: Stamp,
    mono_correction_s: float,
    era_start_s: int,
) -> Exchange:
    """The exchange that an interleaved response completes: it tells when the response before it left.

    Preferred is the exchange before, which is shorter, if it was much shorter than the time since.
    """
    remote_tx_ns = ntp64_to_ns(packet.header.transmit_ts, era_start_s)
    correction_ns = round(mono_correction_s * NS_PER_S)
    if previous_tx is not None:
        took_s = diff_s(previous_rx.cooked_ns, previous_tx.cooked_ns)
        since_s = diff_s(tx.cooked_ns, previous_rx.cooked_ns)
        if PREFER_OLD_EXCHANGE * since_s > took_s:
            return Exchange(
                local_tx=previous_tx,
                remote_rx_ns=previous.rx_ns - correction_ns,
                remote_tx_ns=remote_tx_ns - correction_ns,
                local_rx=previous_rx,
                root_delay_s=previous.root_delay_s,
                root_dispersion_s=previous.root_dispersion_s,
                net_correction_tx_s=previous.net_correction_s,
            )
    return Exchange(
        local_tx=tx,
        remote_rx_ns=remote.rx_ns,
        remote_tx_ns=remote_tx_ns - correction_ns,
        local_rx=previous_rx,
        root_delay_s=max(previous.root_delay_s, remote.root_delay_s),
        root_dispersion_s=max(previous.root_dispersion_s, remote.root_dispersion_s),
        net_correction_tx_s=remote.net_correction_s,
    )


def mono_correction_s(remote: RemoteStamps, previous: RemoteStamps | None) -> float:
    """How far the server has moved its clock back between two responses, s (field F323)."""
    if previous is None or not remote.mono_rx or not previous.mono_rx:
        return 0.0
    if remote.mono_epoch != previous.mono_epoch:
        return 0.0
    correction_s = _mono_diff_s(remote.mono_rx, previous.mono_rx, remote.rx, previous.rx)
    return correction_s if abs(correction_s) <= MAX_MONO_CORRECTION_S else 0.0


def _mono_diff_s(mono: int, mono_before: int, rx: int, rx_before: int) -> float:
    """(mono − mono_before) − (rx − rx_before) in seconds, taken before rounding."""
    difference = (mono - mono_before - rx + rx_before) & 0xFFFFFFFFFFFFFFFF
    if difference >= 1 << 63:
        difference -= 1 << 64
    return difference / 2.0**32


def measure(
    exchange: Exchange, *, local_precision_s: float, remote_precision: int, skew: float, offset_s: float
) -> Measurement:
    """Offset, delay and dispersion of an exchange.

    `skew` bounds our frequency error against the source; `offset_s` is the configured correction.
    """
    t1, t4 = exchange.local_tx, exchange.local_rx
    local_ns = t4.cooked_ns - t1.cooked_ns
    remote_ns = exchange.remote_tx_ns - exchange.remote_rx_ns
    # a negative exponent of a byte may be small enough to vanish, a positive one is rejected by test A
    precision_s = local_precision_s + 2.0**remote_precision
    peer_delay_s = max(abs(local_ns - remote_ns) / NS_PER_S, precision_s)
    peer_dispersion_s = max(precision_s, t1.err_s, t4.err_s) + min(skew, MAX_SKEW) * abs(local_ns / NS_PER_S)
    doubled_ns = exchange.remote_rx_ns - t1.cooked_ns + exchange.remote_tx_ns - t4.cooked_ns
    sample = Sample(
        time_ns=t1.cooked_ns + local_ns // 2,
        offset_s=doubled_ns / (2 * NS_PER_S) + offset_s,
        peer_delay_s=peer_delay_s,
        peer_dispersion_s=peer_dispersion_s,
        root_delay_s=exchange.root_delay_s + peer_delay_s,
        root_dispersion_s=exchange.root_dispersion_s + peer_dispersion_s,
    )
    sample = _without_residence(sample, exchange, precision_s)
    return Measurement(sample, precision_s, abs(remote_ns / NS_PER_S))


def _without_residence(sample: Sample, exchange: Exchange, precision_s: float) -> Sample:
    """Take the known residence times in the network out of delay and offset.

    The root delay keeps them: nobody has authenticated these values.
    """
    rx_correction_s = exchange.local_rx.net_correction_s
    duration_s = exchange.local_rx.rx_duration_s
    if rx_correction_s <= duration_s or exchange.net_correction_tx_s <= 0.0:
        return sample
    rx_s = rx_correction_s - duration_s
    tx_s = exchange.net_correction_tx_s - duration_s
    removed_s = (rx_s + tx_s) * (1.0 - NET_CORRECTION_TOLERANCE)
    if not 0.0 <= removed_s <= sample.peer_delay_s:
        return sample
    return replace(
        sample,
        offset_s=sample.offset_s + (rx_s - tx_s) / 2.0,
        peer_delay_s=max(precision_s, sample.peer_delay_s - removed_s),
    )


def is_sane(sample: Sample, era_start_s: int) -> bool:
    """Whether time and offset are values that NTP can express."""
    if not abs(sample.offset_s) < SANE_OFFSET_S:
        return False
    corrected_s = sample.time_ns / NS_PER_S + sample.offset_s
    return corrected_s >= 0.0 and era_start_s <= corrected_s <= era_start_s + SANE_OFFSET_S


def passes_ratio(sample: Sample, data: DelayTestData | None, limits: DelayLimits) -> bool:
    """Test B: the delay is not more than a multiple of the minimum."""
    if data is None or limits.max_delay_ratio < 1.0:
        return True
    grown_s = data.sample_age_s * (data.skew + limits.max_clock_error)
    return sample.peer_delay_s <= data.min_delay_s * limits.max_delay_ratio + grown_s


def passes_deviation(sample: Sample, data: DelayTestData | None, limits: DelayLimits) -> bool:
    """Test C: the extra delay is usual for the source, or can't explain how far off the offset is."""
    if data is None:
        return True
    limit_s = data.std_dev_s * limits.max_delay_dev_ratio + data.sample_age_s * (data.skew + limits.max_clock_error)
    extra_s = (sample.peer_delay_s - data.min_delay_s) / 2.0
    if extra_s <= limit_s:
        return True
    return abs(sample.offset_s + data.predicted_offset_s) - extra_s > limit_s


def passes_symmetric(sample: Sample, packet: Packet, previous: RemoteStamps, previous_local_poll: int) -> bool:
    """Part of test A for interleaved symmetric packets: the stamps are of consecutive packets."""
    remote_poll = min(max(packet.header.poll, MIN_REMOTE_POLL), MAX_REMOTE_POLL)
    interval_s = 2.0 ** min(remote_poll, previous_local_poll)
    if sample.peer_delay_s > SYMMETRIC_MAX_DELAY_POLLS * interval_s:
        return False
    transmit_ts = packet.header.transmit_ts
    if ntp64_diff_s(transmit_ts, previous.rx) <= 0.0:
        return False
    if remote_poll > previous_local_poll:
        return True
    return ntp64_diff_s(transmit_ts, previous.tx) <= SYMMETRIC_MAX_INTERVAL_POLLS * interval_s
