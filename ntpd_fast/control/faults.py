"""The report of what went unanswered or wrong: every counter of drops and failures there is, in one place.

Workers and NTS-KE processes count in shared memory, which outlives them; the command protocol and signing (MS-SNTP)
count in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from ntpd_fast._packet import OUTCOMES
from ntpd_fast.control.dataplane import DataPlane
from ntpd_fast.monitor.codec.replies import Faults
from ntpd_fast.monitor.dispatch import Outcome
from ntpd_fast.monitor.transport import Fault
from ntpd_fast.server.shared import Shared
from ntpd_fast.server.signd import SigndCounters

# Field of the report: outcome of a packet, counter of a worker, counters of NTS-KE, outcome and fault of a command.
_OUTCOMES: Final = {
    "ntp_bad_length": "drop_length",
    "ntp_bad_version": "drop_version",
    "ntp_bad_format": "drop_format",
    "ntp_not_allowed": "drop_access",
    "ntp_bad_mode": "drop_mode",
    "ntp_rate_limited": "drop_limit",
    "ntp_bad_authentication": "drop_auth",
    "ntp_too_short_for_answer": "drop_size",
    "ntp_waited_too_long": "drop_stale",
    "ntp_clock_stepping": "drop_stepping",
    "ntp_no_entropy": "drop_entropy",
    "ntp_kod_rate": "kod_rate",
    "ntp_nts_nak": "nts_nak",
}
_COUNTERS: Final = {
    "ntp_receive_buffer_full": "kernel_drops",
    "ntp_receive_errors": "receive_errors",
    "ntp_send_errors": "send_errors",
    "ntp_control_queue_full": "control_full",
    "ntp_signing_queue_full": "signd_full",
    "tx_stamps_unmatched": "tx_stamps_unmatched",
    "tx_stamps_rejected": "tx_stamps_rejected",
}
_KEY_EXCHANGE: Final = {
    "nke_failed": ("refused", "tls_failed", "broken", "timed_out", "evicted"),
    "nke_not_allowed": ("refused_access",),
    "nke_rate_limited": ("refused_rate",),
    "nke_too_many": ("refused_full",),
    "nke_out_of_resources": ("out_of_resources",),
}
_COMMANDS: Final = {
    "cmd_refused": Outcome.REFUSED,
    "cmd_not_allowed": Outcome.DROPPED_ACCESS,
    "cmd_bad_length": Outcome.DROPPED_LENGTH,
    "cmd_bad_form": Outcome.DROPPED_FORM,
    "cmd_rate_limited": Outcome.DROPPED_RATE,
    "cmd_bad_version": Outcome.DROPPED_VERSION,
}
_SOCKETS: Final = {
    "cmd_no_return_address": Fault.NO_PEER_ADDRESS,
    "cmd_receive_errors": Fault.RECEIVE_FAILED,
    "cmd_send_errors": Fault.SEND_FAILED,
}


class FaultReport:
    """`faults`. `key_exchange` gives the counters of all NTS-KE processes together, by name."""

    def __init__(self, shared: Shared, plane: DataPlane, key_exchange: Callable[[], Mapping[str, int]]) -> None:
        self._shared = shared
        self._plane = plane
        self._key_exchange = key_exchange
        self.commands: Counter[Outcome] = Counter()
        """Of the dispatcher, and the next of the command server: set by whoever makes them."""
        self.sockets: Counter[Fault] = Counter()
        self.signing = SigndCounters()
        """Of MS-SNTP: set likewise."""

    def faults(self) -> Faults:
        """All counters now."""
        outcomes = dict(zip(OUTCOMES, self._shared.outcomes(), strict=False))
        counters = self._shared.counters()
        key_exchange = self._key_exchange()
        outcomes["drop_auth"] += self.signing.refused
        counters["signd_full"] += self.signing.full + self.signing.failed
        counters["send_errors"] += self.signing.unsent
        return Faults(
            **{field: outcomes[name] for field, name in _OUTCOMES.items()},
            **{field: counters[name] for field, name in _COUNTERS.items()},
            **{field: sum(key_exchange.get(name, 0) for name in names) for field, names in _KEY_EXCHANGE.items()},
            **{field: self.commands[outcome] for field, outcome in _COMMANDS.items()},
            **{field: self.sockets[fault] for field, fault in _SOCKETS.items()},
            tables_deferred=self._plane.deferred,
            worker_starts=self._shared.worker_starts(),
        )
