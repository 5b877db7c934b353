"""The verdict on a received packet: is it the answer that was waited for, what does it measure, how good is it."""

from __future__ import annotations

from ntpd_fast._record import dataclass
from ntpd_fast.client.auth import Authenticator
from ntpd_fast.client.dialogue import Dialogue
from ntpd_fast.client.packet import IPAddress, Packet, ns_to_ntp64, ntp64_diff_s, refid_of, to_short
from ntpd_fast.client.quantile import QuantileEstimator
from ntpd_fast.client.response import (
    MAX_RESPONSE_TIME_S,
    DelayLimits,
    Exchange,
    Measurement,
    PassedTests,
    RemoteStamps,
    basic_exchange,
    interleaved_exchange,
    is_sane,
    measure,
    mono_correction_s,
    packet_tests,
    passes_deviation,
    passes_ratio,
    passes_symmetric,
)
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.sourcestats import DelayTestData, SourceStats
from ntpd_fast.client.stamps import Now, Stamp
from ntpd_fast.client.surroundings import Surroundings

REFERENCE_TOLERANCE_S = 2.0**-20
"""Reference times that differ by less are the same; served ones have their lowest bits randomised."""


@dataclass(frozen=True, slots=True)
class Received:
    """A packet with the time it came at."""

    packet: Packet
    rx: Stamp
    local_address: IPAddress | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be thought of a packet."""

    received: Received
    tests: PassedTests
    interleaved: bool
    remote: RemoteStamps
    correction_s: float
    """How far the server has moved its clock back since the response before, s."""
    measurement: Measurement | None
    measured_tx: Stamp | None
    measured_rx: Stamp
    """The local timestamps of the measurement; in interleaved mode they may be of the packets before."""

    @property
    def valid(self) -> bool:
        """Whether it is the answer to our request."""
        return PassedTests.VALID in self.tests

    @property
    def synced(self) -> bool:
        """Whether the server is synchronised too."""
        return PassedTests.SYNCED in self.tests

    @property
    def good(self) -> bool:
        """Whether the measurement can be used."""
        return PassedTests.GOOD in self.tests


class Judge:
    """Applies the tests of one association."""

    def __init__(
        self,
        dialogue: Dialogue,
        stats: SourceStats,
        authenticator: Authenticator,
        surroundings: Surroundings,
        limits: DelayLimits,
        *,
        symmetric: bool,
        offset_s: float,
        delay_quantile: float,
    ) -> None:
        """`offset_s` is added to measurements; `delay_quantile` (0: not used) replaces the deviation in test C."""
        self.limits = limits
        self.offset_s = offset_s
        self._dialogue = dialogue
        self._stats = stats
        self._auth = authenticator
        self._around = surroundings
        self._symmetric = symmetric
        self._quantile = (
            QuantileEstimator(
                (round(100.0 * delay_quantile) / 100.0,), surroundings.precision_s / 2.0, surroundings.random
            )
            if delay_quantile > 0.0
            else None
        )

    def reset(self) -> None:
        """Forget how long the path usually is."""
        if self._quantile is not None:
            self._quantile.reset()

    def judge(self, received: Received, now: Now, *, presending: bool) -> Verdict:
        """Apply all tests; `presending`: the request was only to wake up the path."""
        packet = received.packet
        dialogue = self._dialogue
        remote = RemoteStamps.of(packet, self._around.era_start_s)
        interleaved = dialogue.is_interleaved(packet.header)
        tests = self._packet_tests(packet, remote)
        if PassedTests.VALID in tests and dialogue.answered:
            # one answer to a request is enough
            tests &= ~(PassedTests.ORIGIN | PassedTests.TIMESTAMPS)
        valid = PassedTests.VALID in tests
        correction_s = mono_correction_s(remote, dialogue.remote) if valid else 0.0
        measured_tx, measured_rx = dialogue.local_tx, received.rx
        measurement = None
        if PassedTests.SYNCED in tests and dialogue.local_tx is not None:
            exchange = (
                self._interleaved_exchange(packet, remote, correction_s)
                if interleaved
                else basic_exchange(packet, remote, dialogue.local_tx, received.rx, self._around.era_start_s)
            )
            if exchange is not None:
                measured_tx, measured_rx = exchange.local_tx, exchange.local_rx
                measurement = measure(
                    exchange,
                    local_precision_s=self._around.precision_s,
                    remote_precision=packet.header.precision,
                    skew=self._stats.skew,
                    offset_s=self.offset_s,
                )
                tests |= self._measurement_tests(
                    measurement,
                    received,
                    now,
                    presending=presending,
                    interleaved=interleaved,
                )
        return Verdict(received, tests, interleaved, remote, correction_s, measurement, measured_tx, measured_rx)

    def _packet_tests(self, packet: Packet, remote: RemoteStamps) -> PassedTests:
        tests = packet_tests(packet, remote.root_delay_s, remote.root_dispersion_s)
        if not self._dialogue.is_duplicate(packet.header):
            tests |= PassedTests.NOT_DUPLICATE
        if self._dialogue.is_answer(packet.header):
            tests |= PassedTests.ORIGIN
        if self._auth.check(packet):
            tests |= PassedTests.AUTHENTIC
        return tests

    def _interleaved_exchange(self, packet: Packet, remote: RemoteStamps, correction_s: float) -> Exchange | None:
        """What an interleaved response completes; None if the response before it is not known."""
        dialogue = self._dialogue
        if dialogue.remote is None or dialogue.local_rx is None or dialogue.local_tx is None:
            return None
        return interleaved_exchange(
            packet,
            remote,
            dialogue.remote,
            tx=dialogue.local_tx,
            previous_tx=dialogue.previous_tx,
            previous_rx=dialogue.local_rx,
            mono_correction_s=correction_s,
            era_start_s=self._around.era_start_s,
        )

    def _measurement_tests(
        self,
        measurement: Measurement,
        received: Received,
        now: Now,
        *,
        presending: bool,
        interleaved: bool,
    ) -> PassedTests:
        sample = measurement.sample
        packet = received.packet
        passed = PassedTests.NONE
        if self._passes_a(measurement, packet, presending=presending, interleaved=interleaved):
            passed |= PassedTests.A
        data = self._stats.delay_test_data(sample.time_ns)
        if passes_ratio(sample, data, self.limits):
            passed |= PassedTests.B
        if self._passes_c(sample, data):
            passed |= PassedTests.C
        if self._passes_d(received, now):
            passed |= PassedTests.D
        return passed

    def _passes_a(self, measurement: Measurement, packet: Packet, *, presending: bool, interleaved: bool) -> bool:
        """Delay within the limit, values sane, and timestamps that belong together."""
        sample = measurement.sample
        limit_s = self.limits.max_delay_s
        if (
            presending
            or sample.peer_delay_s - sample.peer_dispersion_s > limit_s
            or measurement.precision_s > limit_s
            or not is_sane(sample, self._around.era_start_s)
        ):
            return False
        dialogue = self._dialogue
        if not self._symmetric:
            if measurement.response_time_s > MAX_RESPONSE_TIME_S:
                return False
            # the first interleaved response only repeats what the basic one before it has measured
            return not interleaved or dialogue.previous_tx is not None
        if not interleaved:
            return True
        assert dialogue.remote is not None
        return passes_symmetric(sample, packet, dialogue.remote, dialogue.previous_poll)

    def _passes_c(self, sample: Sample, data: DelayTestData | None) -> bool:
        """The delay is usual: below a quantile where one is configured, else by the scatter of the offsets."""
        if self._quantile is None:
            return passes_deviation(sample, data, self.limits)
        self._quantile.accumulate(sample.peer_delay_s)
        estimate_s = self._quantile.query(0)
        assert estimate_s is not None
        return sample.peer_delay_s <= estimate_s + self._quantile.min_step / 2.0

    def _passes_d(self, received: Received, now: Now) -> bool:
        """The server is not synchronised by us and is not us."""
        if not self._around.serving or self._around.one_shot:
            return True
        header = received.packet.header
        address = received.local_address
        if header.stratum > 1 and address is not None and header.refid == refid_of(address):
            return False
        own = self._around.own_reference(now.cooked_ns)
        return not (
            header.stratum == own.stratum
            and header.refid == own.refid
            and to_short(header.root_delay_s) == to_short(own.root_delay_s)
            and abs(ntp64_diff_s(header.reference_ts, ns_to_ntp64(own.ref_time_ns))) <= REFERENCE_TOLERANCE_S
        )
