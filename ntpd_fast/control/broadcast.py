"""`broadcast`: tell whoever listens on a network the time, without being asked (RFC 5905 mode 5).

One packet an interval and destination, from one of control's own server sockets. Nothing listens: broadcasts of
others are dropped where they arrive.
"""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Callable, Sequence

from ntpd_fast.client.packet import Header, Mode, fuzz_mask, ns_to_ntp64
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Reference
from ntpd_fast.clock.served import REFID_SMOOTHED
from ntpd_fast.config.model import BroadcastConfig
from ntpd_fast.system.errors import why
from ntpd_fast.system.messages import Log, Severity
from ntpd_fast.system.sending import sending_socket
from ntpd_fast.system.timers import TimerClass, TimerHandle

VERSION = 4


def broadcast_packet(
    clock: LocalClock, reference: Reference, interval_s: int, random_bits: Callable[[int], int]
) -> bytes:
    """The 48 bytes of a broadcast sent now; poll is the interval's nearest power of two."""
    now_ns = clock.cooked_ns()
    served = reference.params(now_ns)
    offset_s = reference.smoothing.state.offset_at_s(now_ns) if reference.smoothing is not None else 0.0
    smoothed_ns = round(offset_s * 1e9)
    fuzz = fuzz_mask(clock.precision_log2, random_bits(64))
    return Header(
        leap=served.leap,
        version=VERSION,
        mode=Mode.BROADCAST,
        stratum=served.stratum,
        poll=round(math.log2(interval_s)),
        precision=clock.precision_log2,
        root_delay_s=served.root_delay_s,
        root_dispersion_s=served.root_dispersion_s,
        refid=REFID_SMOOTHED if abs(offset_s) > clock.precision_s else served.refid,
        reference_ts=ns_to_ntp64(served.ref_time_ns + smoothed_ns) if served.ref_time_ns else 0,
        origin_ts=0,
        receive_ts=0,
        transmit_ts=ns_to_ntp64(now_ns + smoothed_ns) ^ fuzz,
    ).pack()


class Broadcaster:
    """Sends the configured broadcasts."""

    def __init__(
        self,
        configured: Sequence[BroadcastConfig],
        sockets: Callable[[], Sequence[socket.socket]],
        clock: LocalClock,
        reference: Reference,
        log: Log,
    ) -> None:
        """`sockets`: those there are now."""
        self._sockets = sockets
        self._configured: frozenset[BroadcastConfig] = frozenset()
        self._clock = clock
        self._reference = reference
        self._log = log
        self._told: set[BroadcastConfig] = set()
        self._timers: dict[BroadcastConfig, TimerHandle] = {}
        self.sent = 0
        self.errors = 0
        self.reconfigure(configured)

    def reconfigure(self, configured: Sequence[BroadcastConfig]) -> None:
        """Send these; those that were sent already keep their time."""
        before, self._configured = self._configured, frozenset(configured)
        for broadcast in self._configured - before:
            handle = self._timers.pop(broadcast, None)
            if handle is not None:
                handle.cancel()
            self._arm(broadcast)

    def _arm(self, broadcast: BroadcastConfig) -> None:
        self._timers[broadcast] = self._clock.scheduler.call_later(
            broadcast.interval_s, lambda: self._send(broadcast), timer_class=TimerClass.NTP_BROADCAST
        )

    def _send(self, broadcast: BroadcastConfig) -> None:
        if broadcast not in self._configured:
            del self._timers[broadcast]
            return
        self._arm(broadcast)
        opened = sending_socket(self._sockets(), broadcast.address, broadcast.port)
        if opened is None:
            self._fail(broadcast, "no server socket to send from")
            return
        packet = broadcast_packet(
            self._clock, self._reference, broadcast.interval_s, random.SystemRandom().getrandbits
        )
        try:
            opened.sendto(packet, (str(broadcast.address), broadcast.port))
        except OSError as error:
            self._fail(broadcast, why(error))
            return
        self.sent += 1

    def _fail(self, broadcast: BroadcastConfig, reason: str) -> None:
        self.errors += 1
        if broadcast not in self._told:
            self._told.add(broadcast)
            self._log(Severity.ERROR, f"Could not broadcast to {broadcast.address} : {reason}")
