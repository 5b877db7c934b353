"""What is counted of key exchange, in memory that others read while it is written.

Apart from the rest of key exchange, so that a daemon without it need not load that to report on it.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum

from ntpd_fast.server.shared import Shared


class KeOutcome(IntEnum):
    """How a session ended; the values are the places of the counters in shared memory."""

    SERVED = 0
    """The client has keys and cookies."""
    REFUSED = 1
    """An error record, or nothing in common: the request cannot be served."""
    TLS_FAILED = 2
    """The handshake failed or the session broke: no TLS 1.3, no ALPN, garbage, hung up."""
    BROKEN = 3
    """What came is no message: closed without an answer."""
    TIMED_OUT = 4
    """Not done in time."""
    EVICTED = 5
    """Closed early, in favour of a client from elsewhere."""


OUTCOME_COUNTERS = {outcome: outcome.name.lower() for outcome in KeOutcome}
COUNTERS = (
    *OUTCOME_COUNTERS.values(),
    "accepted",
    "refused_access",
    "refused_rate",
    "refused_full",
    "accept_errors",
    "out_of_resources",
    "send_errors",
    "certificate_reloads",
    "sessions",
)
"""Counters of a key exchange process, in the order they have in shared memory; `sessions` is a gauge."""
_INDEX = {name: index for index, name in enumerate(COUNTERS)}
COUNTER_BYTES = 8 * len(COUNTERS)


class KeCounters:
    """Counters of one process, in memory that others may read at any time."""

    def __init__(self, memory: bytearray | memoryview | None = None) -> None:
        """memory: COUNTER_BYTES, shared if others read it."""
        self.cells = memoryview(bytearray(COUNTER_BYTES) if memory is None else memory)[:COUNTER_BYTES].cast("Q")

    def add(self, name: str, amount: int = 1) -> None:
        index = _INDEX[name]
        self.cells[index] = (self.cells[index] + amount) & 0xFFFFFFFFFFFFFFFF

    def set(self, name: str, value: int) -> None:
        self.cells[_INDEX[name]] = value

    def read(self) -> dict[str, int]:
        return dict(zip(COUNTERS, self.cells, strict=True))


def ke_counters(shared: Shared) -> Counter[str]:
    """Every counter of key exchange, over all processes."""
    total: Counter[str] = Counter()
    for index in range(shared.ke_parts):
        total.update(KeCounters(shared.ke(index).counters()).read())
    return total


def ke_hits(shared: Shared) -> int:
    """Connections of clients that are allowed, over all processes."""
    counters = ke_counters(shared)
    return counters["accepted"] + counters["refused_rate"]


def ke_drops(shared: Shared) -> int:
    """Connections that `ntsratelimit` refused."""
    return ke_counters(shared)["refused_rate"]
