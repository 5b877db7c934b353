"""One NTP association, client or symmetric active: when to ask, what to ask, what an answer means.

Sans-IO: methods take the time of the event and return what is to be done; statistics, reachability and the
polling interval are changed in place. Nothing that arrives raises. A response counts once for each request,
and only if it proves to have seen it; requests of clients are random numbers that tell no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ntpd_fast.client.actions import (
    Action,
    CancelTimer,
    CloseSocket,
    Confirmed,
    KissRate,
    MeasurementRecord,
    Select,
    SetTimer,
    StaleSample,
    Timer,
    Transmit,
    Unreachable,
    WentOffline,
)
from ntpd_fast.client.auth import Authenticator, AuthMode
from ntpd_fast.client.connectivity import IBURST_GOOD, IBURST_TOTAL, MAX_BURST_SIZE, BurstControl
from ntpd_fast.client.dialogue import Dialogue
from ntpd_fast.client.judgement import Judge, Received, Verdict
from ntpd_fast.client.ntpreport import LastResponse, NtpReport, PacketCounts
from ntpd_fast.client.packet import (
    KOD_RATE,
    MAX_STRATUM,
    NO_PRECISION,
    Header,
    IPAddress,
    Mode,
    MonoRoot,
    ns_to_ntp64,
    pack_mono_root,
    pack_net_correction,
    parse,
    refid_of,
)
from ntpd_fast.client.poll import PollControl
from ntpd_fast.client.response import MAX_REMOTE_POLL, MIN_REMOTE_POLL, DelayLimits, PassedTests
from ntpd_fast.client.samplefilter import NTP_COMBINE_RATIO, NTP_MAX_VARIANCE, Sample, SampleFilter
from ntpd_fast.client.source import REACH_BITS, SelectableSource
from ntpd_fast.client.sourcestats import Accumulated
from ntpd_fast.client.stamps import Now, Stamp, StampSource
from ntpd_fast.client.surroundings import NOTHING_OWN, Surroundings
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.events import NS_PER_S, ChangeKind, ClockChange
from ntpd_fast.clock.served import Served
from ntpd_fast.config.model import ExtField, SourceOptions

FIRST_REQUEST_DELAY_S = 0.2
RECEIVE_TIMEOUT_S = 4.0
"""Waited for a response beyond `maxdelay`."""

PRESEND_INTERVAL_S = 2.0
BURST_MAX_INTERVAL_S = 2.0
MIN_SEPARATION_S = 0.002
MAX_SEPARATION_S = 0.2
KISS_EXTRA_POLLS = 4

MAX_SUBSECOND_DELAY_S = 0.01
"""Polling more than once a second is for paths shorter than this."""

# what unanswered requests and rejected measurements add to the poll score
MISSED_SELECTED = 0.1
MISSED = 0.25
REJECTED_DELAY = 0.02
REJECTED_LOOP = 0.1

# Peers hold to each other's rhythm: one stretches its interval until their packets alternate.
PEER_STRETCH = 1.1
PEER_TOO_CLOSE = 0.6


class Association:
    """One server or peer."""

    def __init__(
        self,
        source: SelectableSource,
        options: SourceOptions,
        surroundings: Surroundings,
        authenticator: Authenticator,
        *,
        symmetric: bool = False,
        is_selected: Callable[[], bool],
    ) -> None:
        """`is_selected`: whether the clock is now set by this source."""
        self.source = source
        self.options = options
        self.symmetric = symmetric
        self.auth = authenticator
        self.poll = PollControl(options.minpoll, options.maxpoll)
        self.burst = BurstControl()
        self.min_stratum = options.minstratum
        self.poll_target = options.polltarget
        self._around = surroundings
        self._is_selected = is_selected
        self._dialogue = Dialogue(symmetric=symmetric, xleave=options.xleave)
        self._filter = (
            SampleFilter(options.filter_length, NTP_COMBINE_RATIO, NTP_MAX_VARIANCE)
            if options.filter_length > 0
            else None
        )
        self._filter_polls = 0
        self._judge = Judge(
            self._dialogue,
            source.stats,
            authenticator,
            surroundings,
            DelayLimits(
                options.maxdelay_s,
                options.maxdelayratio,
                options.maxdelaydevratio,
                surroundings.max_clock_error,
            ),
            symmetric=symmetric,
            offset_s=options.offset_s,
            delay_quantile=options.maxdelayquant,
        )
        self._counts = PacketCounts()
        self._last: LastResponse | None = None
        self._local_address: IPAddress | None = None
        self._last_tx_monotonic_ns: int | None = None
        self._remote_poll = self.poll.poll
        self._remote_stratum = 0
        self._presends_left = 0
        self._held: Received | None = None
        self._mono_correction_s = 0.0
        self._suspended = True
        self.poll.reset(subsecond_allowed=False)
        if not options.offline:
            self._go_online()

    @property
    def version(self) -> int:
        """NTP version of requests."""
        if self.options.version is not None:
            return self.options.version
        return 4 if self.options.xleave or self.options.extfields else self.auth.default_version

    @property
    def limits(self) -> DelayLimits:
        """Limits of the delay tests."""
        return self._judge.limits

    @limits.setter
    def limits(self, limits: DelayLimits) -> None:
        self._judge.limits = limits

    @property
    def offset_s(self) -> float:
        """Correction that is added to measured offsets, s."""
        return self._judge.offset_s

    @offset_s.setter
    def offset_s(self, offset_s: float) -> None:
        self._judge.offset_s = offset_s

    def report(self) -> NtpReport:
        """The `ntpdata` report."""
        return NtpReport(self._last, self._local_address, replace(self._counts))

    def start(self, now: Now) -> list[Action]:
        """Begin to talk as the options say; called once, when the daemon is ready."""
        self._suspended = False
        return self._arm_first(now) if self.burst.talking else []

    def switch_online(self, now: Now) -> list[Action]:
        """Start to send requests, with a burst if the options say so."""
        return self._restart(now) if self._go_online() else []

    def switch_offline(self) -> list[Action]:
        """Stop to send requests, after the burst if there is one."""
        return self._stop() if self.burst.switch_offline() else []

    def start_burst(self, now: Now, good: int, total: int) -> list[Action]:
        """Send up to `total` requests in quick succession until `good` of the answers are good."""
        if self.symmetric:
            return []
        was_talking = self.burst.talking
        if not self.burst.start(good, total):
            return []
        return self._arm_first(now) if was_talking else self._restart(now)

    def change_address(self, now: Now) -> list[Action]:
        """The source is another server from now on: forget what is known of the old one."""
        was_reachable = self.source.reachable
        self._dialogue.reset()
        self.auth.reset()
        self._forget_measurements()
        self._last = None
        self._local_address = None
        self.source.local_refid = None
        if was_reachable:
            self.poll.reset(subsecond_allowed=False)
        if not self.burst.talking or self._suspended:
            return []
        return [CancelTimer(Timer.RECEIVE), CloseSocket(), *self._arm_first(now)]

    def handle_change(self, change: ClockChange, now: Now) -> list[Action]:
        """Follow the clock; a jump of unknown size starts the association afresh."""
        if change.kind is not ChangeKind.UNKNOWN_STEP:
            self._dialogue.handle_change(change)
            if self._filter is not None:
                self._filter.handle_change(change)
            if self._held is not None:
                self._held = replace(self._held, rx=self._held.rx.slewed(change))
            return []
        return self.forget(now)

    def forget(self, now: Now) -> list[Action]:
        """Forget all measurements and begin again."""
        self._dialogue.reset()
        self._forget_measurements()
        self.poll.reset(subsecond_allowed=False)
        if not self.burst.talking or self._suspended:
            return []
        return [CancelTimer(Timer.RECEIVE), CloseSocket(), *self._arm_first(now)]

    def add_dispersion(self, dispersion_s: float) -> None:
        """Account for an imperfect change of the clock."""
        if self._filter is not None:
            self._filter.add_dispersion(dispersion_s)

    def on_timer(self, timer: Timer, now: Now) -> list[Action]:
        """One of the timers has fired."""
        if timer is Timer.RECEIVE:
            return [CloseSocket()]
        if timer is Timer.HOLD:
            return self._release(now)
        return [*self._release(now), *self._request(now)]

    def on_sent(self, now: Now, stamp: Stamp | None) -> list[Action]:
        """The packet of a `Transmit` has left at a time, or could not be sent (None)."""
        self._dialogue.sent(stamp)
        self._last_tx_monotonic_ns = now.monotonic_ns
        if stamp is not None:
            self._counts.tx += 1
        actions: list[Action] = []
        if self._dialogue.unanswered >= 2:
            if stamp is not None:
                self._adjust_poll(MISSED_SELECTED if self._is_selected() else MISSED)
            actions += self._miss(now)
        if stamp is None and self.options.auto_offline:
            actions += self.switch_offline()
        self.burst.after_request(sent=stamp is not None, reachable=self.source.reachable)
        if not self.burst.talking:
            return actions + self._stop()
        if not self.symmetric:
            actions.append(SetTimer(Timer.RECEIVE, self._judge.limits.max_delay_s + RECEIVE_TIMEOUT_S))
        actions.append(self._arm(now, self._interval_s(now, on_tx=True)))
        return actions

    def on_tx_stamp(self, data: bytes, stamp: Stamp, now: Now) -> list[Action]:
        """The kernel or the hardware tells when a packet really left."""
        packet = parse(data)
        if packet is None or not self._dialogue.improve_tx(packet.header, stamp):
            return []
        if self._held is not None and stamp.source is StampSource.HARDWARE:
            return self._release(now)
        return []

    def on_packet(self, data: bytes, rx: Stamp, now: Now, local_address: IPAddress | None = None) -> list[Action]:
        """Something came from the server or peer."""
        self._counts.rx += 1
        if self._suspended or not self.burst.talking:
            return []
        packet = parse(data)
        if packet is None:
            return []
        expected = (Mode.SYMMETRIC_ACTIVE, Mode.SYMMETRIC_PASSIVE) if self.symmetric else (Mode.SERVER,)
        if packet.header.mode not in expected:
            return []
        received = Received(packet, rx, local_address)
        tx = self._dialogue.local_tx
        if (
            self._around.hold_timeout_s > 0.0
            and tx is not None
            and tx.source is not StampSource.HARDWARE
            and self._counts.good
            and self._held is None
        ):
            self._held = received
            return [SetTimer(Timer.HOLD, self._around.hold_timeout_s)]
        return self._process(received, now)

    def _go_online(self) -> bool:
        """Change the state; returns whether the association has to start afresh."""
        if not self.burst.switch_online():
            return False
        if self.options.iburst and not self.symmetric:
            self.burst.start(IBURST_GOOD, IBURST_TOTAL)
        return True

    def _restart(self, now: Now) -> list[Action]:
        """Begin a new conversation."""
        self._dialogue.reset()
        self._held = None
        self._presends_left = 0
        return self._arm_first(now)

    def _stop(self) -> list[Action]:
        """End the conversation."""
        self._held = None
        return [*(CancelTimer(timer) for timer in Timer), CloseSocket(), WentOffline()]

    def _arm_first(self, now: Now) -> list[Action]:
        """Send the first request soon, but not sooner after an earlier one than usual."""
        if self._suspended:
            return []
        delay_s = 0.0
        if self._last_tx_monotonic_ns is not None:
            delay_s = self._interval_s(now, on_tx=False) - self._elapsed_s(now)
        return [self._arm(now, max(FIRST_REQUEST_DELAY_S, delay_s))]

    def _arm(self, now: Now, delay_s: float) -> SetTimer:
        separation_s = min(max(MIN_SEPARATION_S, 2.0 ** (self.poll.poll - 3)), MAX_SEPARATION_S)
        return SetTimer(Timer.TRANSMIT, delay_s, separation_s)

    def _elapsed_s(self, now: Now) -> float:
        """Since the last request."""
        if self._last_tx_monotonic_ns is None:
            return 0.0
        return (now.monotonic_ns - self._last_tx_monotonic_ns) / NS_PER_S

    def _interval_s(self, now: Now, *, on_tx: bool) -> float:
        """From one request to the next."""
        if self.burst.bursting:
            return min(BURST_MAX_INTERVAL_S, 2.0**self.poll.poll / 4.0)
        if self._presends_left:
            return PRESEND_INTERVAL_S
        if not self.symmetric:
            return 2.0**self.poll.poll
        return self._peer_interval_s(now, on_tx=on_tx)

    def _peer_interval_s(self, now: Now, *, on_tx: bool) -> float:
        """Follow the peer if it asks for more, and try not to send when it does."""
        lowest = self.poll.minpoll if self.source.reachable else min(self.poll.minpoll, 0)
        interval_s = 2.0 ** max(min(self.poll.poll, self._remote_poll), lowest)
        elapsed_s = 0.0 if on_tx else self._elapsed_s(now)
        above = self._remote_stratum - self._around.own_reference(now.cooked_ns).stratum
        if (above > 0 and PEER_STRETCH * elapsed_s < interval_s) or (
            above == 0 and not on_tx and elapsed_s > PEER_TOO_CLOSE * interval_s
        ):
            interval_s *= PEER_STRETCH
        return interval_s

    def _request(self, now: Now) -> list[Action]:
        """A request is due."""
        ends_burst = self.burst.before_request()
        if not self.burst.talking:
            return self._stop()
        if not self.auth.prepare(now):
            self._last_tx_monotonic_ns = now.monotonic_ns
            return [*self._miss(now), self._arm(now, self._interval_s(now, on_tx=True))]
        if not self.symmetric and not self.burst.bursting and not ends_burst:
            self._prepare_poll()
        return [Transmit(self._encode)]

    def _prepare_poll(self) -> None:
        """Presend before a regular poll, or make a burst of it."""
        above_minpoll = self.poll.poll - self.poll.minpoll
        if self.options.burst and above_minpoll > 0:
            self.burst.start(1, min(1 << min(above_minpoll, MAX_BURST_SIZE), MAX_BURST_SIZE))
        elif self._presends_left:
            self._presends_left -= 1
        elif self.poll.poll >= self.options.presend:
            self._presends_left = 2 if self._dialogue.can_interleave else 1

    def _miss(self, now: Now) -> list[Action]:
        """A poll went without an answer."""
        self.source.update_reachability(False)
        actions: list[Action] = self._filter_poll(None)
        if not self.source.reachable:
            actions.append(Select(updated=False))
            if self.source.reach_size >= REACH_BITS:
                actions.append(Unreachable())
        return actions

    def _encode(self, cooked_ns: int) -> bytes | None:
        """The packet to send at a time; None if it can't be authenticated."""
        precision = self._around.precision_log2 if self.symmetric else NO_PRECISION
        origin, receive, transmit = self._dialogue.request_stamps(cooked_ns, precision, self._around.nonce)
        own = self._around.own_reference(cooked_ns) if self.symmetric else NOTHING_OWN
        header = Header(
            leap=own.leap,
            version=self.version,
            mode=Mode.SYMMETRIC_ACTIVE if self.symmetric else Mode.CLIENT,
            stratum=own.stratum,
            poll=self.poll.poll,
            precision=precision,
            root_delay_s=own.root_delay_s,
            root_dispersion_s=own.root_dispersion_s,
            refid=own.refid,
            reference_ts=ns_to_ntp64(own.ref_time_ns),
            origin_ts=origin,
            receive_ts=receive,
            transmit_ts=transmit,
        )
        data = header.pack()
        if header.version == 4:
            data += self._extension_fields(own)
        return self.auth.seal(data)

    def _extension_fields(self, own: Served) -> bytes:
        fields = b""
        if ExtField.NET_CORRECTION in self.options.extfields and self._around.net_corrections:
            fields += pack_net_correction(0.0)
        if ExtField.EXP_MONO_ROOT in self.options.extfields:
            known = MonoRoot(own.root_delay_s, own.root_dispersion_s, 0, 0) if self.symmetric else None
            fields += pack_mono_root(known)
        return fields

    def _release(self, now: Now) -> list[Action]:
        """Process the response that was held back."""
        held, self._held = self._held, None
        if held is None:
            return []
        return [CancelTimer(Timer.HOLD), *self._process(held, now)]

    def _process(self, received: Received, now: Now) -> list[Action]:
        """Judge a packet and draw the consequences."""
        verdict = self._judge.judge(received, now, presending=self._presends_left > 0)
        record = self._record(verdict)
        if not verdict.valid:
            if self.symmetric and PassedTests.AUTHENTIC in verdict.tests:
                self._note_peer(verdict)
            return [record]
        self._note_valid(verdict)
        actions: list[Action] = []
        if not self.symmetric:
            actions += [CancelTimer(Timer.RECEIVE), CloseSocket()]
        actions.append(record)
        select: list[Action] = []
        if verdict.good and verdict.measurement is not None:
            actions.append(Confirmed())
            self._counts.good += 1
            self.auth.good_response()
            self.burst.good_response()
            if not self._around.leap_is_close(now.cooked_ns):
                select = self._filter_poll(verdict.measurement.sample)
        else:
            self._adjust_poll(REJECTED_DELAY if PassedTests.D in verdict.tests else REJECTED_LOOP)
            select = self._filter_poll(None)
        kissed = _is_kiss(verdict.received.packet.header)
        if kissed:
            self.burst.finish()
            actions.append(KissRate())
        if not self.burst.talking:
            # the last sample of a burst still counts, then the source is gone
            return actions + select + self._stop()
        delay_s = self._interval_s(now, on_tx=False) - self._elapsed_s(now)
        if kissed:
            delay_s += KISS_EXTRA_POLLS * 2.0**self.poll.poll
        actions.append(self._arm(now, delay_s))
        # selection may change the clock: it comes when everything else is done
        return actions + select

    def _note_peer(self, verdict: Verdict) -> None:
        """An authentic packet of a peer that is no answer: it sends more often than we do, or starts again."""
        remote, rx = verdict.remote, verdict.received.rx
        if self._dialogue.answered and self._dialogue.is_answer(verdict.received.packet.header):
            self._dialogue.note_extra(remote, rx)
        else:
            self._dialogue.note_restart(remote, rx)

    def _note_valid(self, verdict: Verdict) -> None:
        """Remember what a valid response says."""
        received = verdict.received
        header = received.packet.header
        measurement = verdict.measurement
        tx = verdict.measured_tx
        tx_source = tx.source if tx is not None else StampSource.DAEMON
        self._counts.valid += verdict.synced
        self._counts.count_stamps(tx_source, verdict.measured_rx.source)
        self._mono_correction_s += verdict.correction_s
        self._dialogue.accept(
            verdict.remote,
            received.rx,
            self.poll.poll,
            keep_tx=verdict.interleaved or not verdict.good,
        )
        self._remote_poll = min(max(header.poll, MIN_REMOTE_POLL), MAX_REMOTE_POLL)
        self._remote_stratum = header.stratum or MAX_STRATUM
        self._local_address = received.local_address
        if received.local_address is not None:
            self.source.local_refid = refid_of(received.local_address)
        self.source.update_reachability(verdict.synced)
        if verdict.synced:
            self._note_status(header)
        self._last = LastResponse(
            header,
            verdict.remote.root_delay_s,
            verdict.remote.root_dispersion_s,
            verdict.tests,
            verdict.interleaved,
            self.auth.mode is not AuthMode.NONE,
            measurement.sample if measurement is not None else None,
            measurement.response_time_s if measurement is not None else 0.0,
            tx_source,
            verdict.measured_rx.source,
        )

    def _note_status(self, header: Header) -> None:
        """Pass on what a synchronised server says of itself."""
        stratum = max(header.stratum, self.min_stratum)
        if self.options.copy and not self.symmetric:
            # appear to our clients as the server itself does
            stratum = max(stratum - 1, 0)
            self.source.refid = header.refid
        self.source.set_status(stratum, header.leap)

    def _filter_poll(self, sample: Sample | None) -> list[Action]:
        """A poll is over, with or without a sample; the filter, if there is one, may have collected enough."""
        if self._filter is None:
            return [] if sample is None else self._accumulate(sample)
        actions: list[Action] = []
        if sample is not None and not self._filter.accumulate(sample):
            self._filter.reset()
            actions.append(StaleSample())
        self._filter_polls += 1
        if self._filter_polls >= self._filter.size:
            self._filter_polls = 0
            combined = self._filter.result()
            if combined is not None:
                actions += self._accumulate(combined)
        return actions

    def _accumulate(self, sample: Sample) -> list[Action]:
        """Add a sample to the statistics and adapt the polling interval to how it was predicted."""
        stats = self.source.stats
        if self._mono_correction_s:
            stats.correct_offsets(self._mono_correction_s)
            self._mono_correction_s = 0.0
        error_s = abs(-sample.offset_s - stats.predict(sample.time_ns))
        if self.source.accumulate(sample) is Accumulated.NOT_NEWER:
            return [StaleSample()]
        self._adjust_poll(_poll_change(error_s, sample, stats.n_samples, self.poll_target))
        return [Select(updated=True)]

    def _adjust_poll(self, amount: float) -> None:
        self.poll.adjust(amount, subsecond_allowed=self._is_near())

    def _is_near(self) -> bool:
        """Whether the path is short enough to be asked more than once a second."""
        if not self.source.reachable:
            return False
        last = self._filter.last if self._filter is not None else None
        if last is not None and last.peer_delay_s <= MAX_SUBSECOND_DELAY_S:
            return True
        stats = self.source.stats
        return stats.n_samples > 0 and stats.min_delay_s() <= MAX_SUBSECOND_DELAY_S

    def _forget_measurements(self) -> None:
        """The path or the clock is another one."""
        self._judge.reset()
        if self._filter is not None:
            self._filter.reset()
        self._filter_polls = 0
        self._mono_correction_s = 0.0
        self._held = None
        self._presends_left = 0

    def _record(self, verdict: Verdict) -> MeasurementRecord:
        header = verdict.received.packet.header
        measurement = verdict.measurement
        sample = measurement.sample if measurement is not None else None
        tx = verdict.measured_tx
        return MeasurementRecord(
            time_ns=sample.time_ns if sample is not None else verdict.received.rx.cooked_ns,
            address=self.source.address,
            leap=header.leap,
            stratum=header.stratum,
            tests=verdict.tests,
            local_poll=self.poll.poll,
            remote_poll=header.poll,
            score=self.poll.score,
            sample=sample,
            root_delay_s=verdict.remote.root_delay_s,
            root_dispersion_s=verdict.remote.root_dispersion_s,
            refid=header.refid,
            mode=header.mode,
            interleaved=verdict.interleaved,
            tx_source=tx.source if tx is not None else StampSource.DAEMON,
            rx_source=verdict.measured_rx.source,
        )


def _is_kiss(header: Header) -> bool:
    """Whether a valid response asks for fewer requests (RFC 5905 §7.4)."""
    return header.leap is Leap.UNSYNCHRONISED and header.stratum == 0 and header.refid == KOD_RATE


def _poll_change(error_s: float, sample: Sample, n_samples: int, target: int) -> float:
    """What a sample adds to the poll score.

    An unexpected offset shortens the interval at once; else it follows the number of samples in use.
    """
    distance_s = sample.peer_dispersion_s + sample.peer_delay_s / 2.0
    if error_s > distance_s:
        return -math.log2(error_s / distance_s)
    change = (n_samples / target - 1.0) / target
    return 2.0 * change if n_samples < target else change
