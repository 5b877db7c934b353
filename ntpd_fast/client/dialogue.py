"""Who said what last: the timestamps and nonces that tie a response to its request, on both sides.

A client's request carries random numbers; the answer has to quote one of them. In interleaved mode (RFC 9769) a
packet quotes a receive timestamp instead and tells when the packet before it really left. Symmetric peers
send real times, so that each packet answers the other's last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ntpd_fast.client.packet import Header, fuzz_mask, ns_to_ntp64, ntp64_diff_s
from ntpd_fast.client.response import RemoteStamps
from ntpd_fast.client.stamps import Stamp, StampSource, diff_s
from ntpd_fast.clock.events import ClockChange

MAX_UNANSWERED_INTERLEAVED = 4
"""With so many requests unanswered, ask in basic mode."""

MAX_STAMP_IMPROVEMENT_S = 1.0

SEND_DELAYS_KEPT = 7
MAX_SEND_DELAY_NS = 1_000_000

RequestStamps = tuple[int, int, int]
"""Origin, receive and transmit timestamps of a request, NTP64."""


class Dialogue:
    """State of the exchange of packets with one server or peer."""

    def __init__(self, *, symmetric: bool, xleave: bool) -> None:
        self._symmetric = symmetric
        self._xleave = xleave
        # from reading the clock to the packet's leaving: what a transmit timestamp would otherwise be too early
        self._send_delays_ns: deque[int] = deque(maxlen=SEND_DELAYS_KEPT)
        self._encoded_ns = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next packet is the first one."""
        self.unanswered = 0
        """Packets sent since the last valid one was received."""
        self._unanswered_before = 0
        self.answered = False
        """Whether the last packet sent has had a valid answer."""
        self.local_tx: Stamp | None = None
        """When the last packet was sent."""
        self.local_rx: Stamp | None = None
        """When the last valid packet was received."""
        self.previous_tx: Stamp | None = None
        """When the packet was sent that the last valid one answered, if that is still to be measured."""
        self.previous_poll = 0
        """Local poll when the last valid packet came."""
        self.remote: RemoteStamps | None = None
        """What the last valid packet said."""
        self._sent_rx = 0
        self._sent_tx = 0
        self._restart: tuple[int, Stamp] | None = None

    @property
    def can_interleave(self) -> bool:
        """Whether the next request can be in interleaved mode."""
        if not self._xleave or self.remote is None or self.local_tx is None or self.local_rx is None:
            return False
        if self._symmetric:
            # the peer's last packet has to be the answer to our last one and the only one
            return self._unanswered_before == 1 and self.unanswered == 0
        return self.unanswered < MAX_UNANSWERED_INTERLEAVED

    def request_stamps(self, cooked_ns: int, precision: int, nonce: Callable[[], int]) -> RequestStamps:
        """Timestamps of the next packet to send at a time; an answer is known by them from here on."""
        interleaved = self.can_interleave
        if self._symmetric:
            stamps = self._peer_stamps(cooked_ns, precision, nonce, interleaved=interleaved)
        elif interleaved:
            assert self.remote is not None
            rx = _nonzero(nonce)
            tx = _nonzero(nonce)
            while tx == rx:
                tx = _nonzero(nonce)
            stamps = (self.remote.rx, rx, tx)
        else:
            stamps = (0, 0, _nonzero(nonce))
        _, self._sent_rx, self._sent_tx = stamps
        return stamps

    def _peer_stamps(
        self, cooked_ns: int, precision: int, nonce: Callable[[], int], *, interleaved: bool
    ) -> RequestStamps:
        remote_stamp = 0
        local_rx = self.local_rx
        self._encoded_ns = cooked_ns
        sent_ns = cooked_ns + self._send_delay_ns()
        if interleaved:
            assert self.remote is not None
            assert self.local_tx is not None
            remote_stamp = self.remote.rx
            sent_ns = self.local_tx.cooked_ns
        elif self._restart is not None and (self.remote is None or self.unanswered):
            remote_stamp, local_rx = self._restart
        elif self.remote is not None:
            remote_stamp = self.remote.tx
        rx = ns_to_ntp64(local_rx.cooked_ns) ^ fuzz_mask(precision, nonce()) if local_rx is not None else 0
        tx = 0
        while tx in (0, rx, remote_stamp):
            tx = ns_to_ntp64(sent_ns) ^ fuzz_mask(max(precision, -30), nonce())
        return remote_stamp, rx, tx

    def _send_delay_ns(self) -> int:
        """The usual time between reading the clock and the packet's leaving, as far as the kernel has told."""
        delays = sorted(self._send_delays_ns)
        return delays[len(delays) // 2] if delays else 0

    def sent(self, stamp: Stamp | None) -> None:
        """The packet has left at a time, or could not be sent."""
        self.unanswered += 1
        if stamp is not None:
            self.local_tx = stamp
            self.answered = False

    def improve_tx(self, header: Header, stamp: Stamp) -> bool:
        """Take a better transmit timestamp of the last packet; False if it isn't one."""
        old = self.local_tx
        if old is None or header.receive_ts != self._sent_rx or header.transmit_ts != self._sent_tx:
            return False
        if old.source is StampSource.HARDWARE or not (
            0.0 <= diff_s(stamp.cooked_ns, old.cooked_ns) <= MAX_STAMP_IMPROVEMENT_S
        ):
            return False
        self._send_delays_ns.append(min(max(stamp.cooked_ns - self._encoded_ns, 0), MAX_SEND_DELAY_NS))
        # a response that was faster than the timestamp has made it the one to be measured next
        if self.previous_tx is old:
            self.previous_tx = stamp
        self.local_tx = stamp
        return True

    def is_duplicate(self, header: Header) -> bool:
        """Whether the packet repeats the last valid one (fails test 1)."""
        remote = self.remote
        return remote is not None and header.receive_ts == remote.rx and header.transmit_ts == remote.tx

    def is_interleaved(self, header: Header) -> bool:
        """Whether the packet answers our last one in interleaved mode."""
        return self._xleave and header.origin_ts == self._sent_rx and header.origin_ts != self._sent_tx

    def is_answer(self, header: Header) -> bool:
        """Whether the packet answers our last one (test 2)."""
        return header.origin_ts == self._sent_tx or self.is_interleaved(header)

    def accept(self, remote: RemoteStamps, rx: Stamp, poll: int, *, keep_tx: bool) -> None:
        """Note a valid packet; `keep_tx`: its request has not been used for a measurement yet."""
        self.remote = remote
        self.local_rx = rx
        self.previous_tx = self.local_tx if keep_tx else None
        self.previous_poll = poll
        self._unanswered_before = self.unanswered
        self.unanswered = 0
        self.answered = True
        self._restart = None

    def note_extra(self, remote: RemoteStamps, rx: Stamp) -> None:
        """A peer sends more often than we do: answer its newest packet."""
        if self.remote is not None and ntp64_diff_s(remote.tx, self.remote.tx) > 0.0:
            self.remote = remote
            self.local_rx = rx
            self.previous_tx = None
            self._unanswered_before = 0

    def note_restart(self, remote: RemoteStamps, rx: Stamp) -> None:
        """A peer doesn't answer us: if that goes on, it has lost what we sent and is helped to start again."""
        if remote.tx and (self._restart is None or ntp64_diff_s(remote.tx, self._restart[0]) > 0.0):
            self._restart = (remote.tx, rx)

    def handle_change(self, change: ClockChange) -> None:
        """Follow the clock."""
        local_tx = self.local_tx
        if local_tx is not None:
            self.local_tx = local_tx.slewed(change)
        if self.previous_tx is local_tx:
            self.previous_tx = self.local_tx
        elif self.previous_tx is not None:
            self.previous_tx = self.previous_tx.slewed(change)
        if self.local_rx is not None:
            self.local_rx = self.local_rx.slewed(change)
        if self._restart is not None:
            self._restart = (self._restart[0], self._restart[1].slewed(change))


def _nonzero(nonce: Callable[[], int]) -> int:
    value = 0
    while not value:
        value = nonce()
    return value
